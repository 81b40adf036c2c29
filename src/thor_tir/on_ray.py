"""The processes of one command on the hosts of a Ray cluster, which finds them places, and others when some are lost.

A process works as one that `torchrun` started: it talks to the others over gloo or nccl, and continues from the last
checkpoint of the run. So a lost one is an ordinary end of the group, after which the whole group is placed anew. All
hosts must see the folder of the run by the same path, since the first process may be placed elsewhere then. Only
actors and placement groups of Ray are used.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from thor_tir.distributed import LAST_WORDS_S, STARTED, free_port
from thor_tir.errors import MachineFault
from thor_tir.extras import need

LEAST_STORE = 200_000_000
"""Bytes of the object store of a cluster that a run starts for itself: only lines of text go through it."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Places on a Ray cluster, for --launcher ray."""

    address: str = ""
    """Address of a running cluster, such as 10.0.0.5:6379, or `auto` for the one that this host belongs to; empty
    starts one on this host for as long as the run lasts."""
    cpus: float = 1.0
    """CPUs that each process has for itself."""
    gpus: float = 0.0
    """GPUs that each process has for itself."""
    max_restarts: int = 3
    """Times that the group is placed anew after some of it was lost."""
    wait_s: float = 600.0
    """Longest wait, in seconds, until the cluster has places for all."""

    def __post_init__(self) -> None:
        if self.cpus <= 0 or self.gpus < 0 or self.max_restarts < 0 or self.wait_s <= 0:
            raise ValueError(
                f"--ray.cpus and --ray.wait-s are positive, --ray.gpus and --ray.max-restarts not negative: {self}"
            )

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray reserves for each process."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


class Lost(Exception):
    """A process, or the host under it, is gone."""


def start_on_ray(count: int, args: Sequence[str], options: RayOptions, say: Callable[[str], None]) -> int:
    """Run `thor` with these arguments in `count` processes of a Ray cluster; their status.

    Raises UsageError without Ray, and MachineFault where the cluster has no places or is lost too often.
    """
    need("ray", "--launcher ray")
    with _cluster(options):
        for restart in range(options.max_restarts + 1):
            try:
                with _placed(count, options) as actors:
                    return _run(actors, args, say)
            except Lost as lost:
                left = options.max_restarts - restart
                if not left:
                    raise MachineFault(f"{lost}, and the group was placed anew {restart} times already") from lost
                say(f"{lost}: the group is placed anew and goes on from its last checkpoint ({left} restarts left)")
    raise AssertionError  # the loop returns or raises


@contextmanager
def _cluster(options: RayOptions) -> Iterator[None]:
    """A connection to the cluster, or a cluster of this host alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else whatever else runs on the host comes first
    import ray

    if options.address:
        ray.init(address=options.address, log_to_driver=False, logging_level="error")
    else:
        ray.init(include_dashboard=False, object_store_memory=LEAST_STORE, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _placed(count: int, options: RayOptions) -> Iterator[list[Any]]:
    """Actors in places of their own, near each other. Raises MachineFault where the cluster has none in time."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([options.bundle] * count, strategy="PACK")
    try:
        if not group.wait(options.wait_s):
            wanted = " and ".join(f"{amount:g} {kind}" for kind, amount in options.bundle.items())
            raise MachineFault(
                f"the Ray cluster has no {count} places of {wanted} after {options.wait_s:g} s (it has "
                f"{_resources(ray.cluster_resources())}): give fewer --processes, or wait longer with --ray.wait-s"
            )
        actor = ray.remote(_Host)
        actors = [
            actor.options(
                num_cpus=options.cpus,
                num_gpus=options.gpus,
                max_concurrency=2,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_bundle_index=place
                ),
            ).remote()
            for place in range(count)
        ]
        try:
            yield actors
        finally:
            for each in actors:
                ray.kill(each)  # its process reads the end of its input, and ends
    finally:
        with suppress(Exception):  # of a cluster that is gone
            remove_placement_group(group)


def _resources(found: Mapping[str, float]) -> str:
    return ", ".join(f"{found[kind]:g} {kind}" for kind in ("CPU", "GPU") if kind in found) or "nothing"


def _run(actors: Sequence[Any], args: Sequence[str], say: Callable[[str], None]) -> int:
    """The status of the group. Raises Lost where a process ended by a signal or with its host."""
    import ray

    try:
        host, port = ray.get(actors[0].meeting_place.remote())
    except ray.exceptions.RayError as error:
        raise Lost("a host of the Ray cluster is gone") from error
    known = {"WORLD_SIZE": str(len(actors)), "MASTER_ADDR": host, "MASTER_PORT": str(port), STARTED: "1"}
    ends: dict[int, int | str] = {}
    changed = threading.Condition()

    def follow(rank: int) -> None:
        status = _follow(actors[rank], args, {**known, "RANK": str(rank), "LOCAL_RANK": "0"}, say)
        with changed:
            ends[rank] = status
            changed.notify()

    for rank in range(len(actors)):
        threading.Thread(target=follow, args=(rank,), daemon=True).start()
    with changed:
        changed.wait_for(lambda: len(ends) == len(actors) or any(ends.values()))
        changed.wait_for(lambda: len(ends) == len(actors), LAST_WORDS_S)  # others say why they end with it
        found = dict(ends)
    for rank, status in sorted(found.items()):
        if isinstance(status, str) or status < 0:
            how = f"with its place ({status})" if isinstance(status, str) else f"by signal {-status}"
            raise Lost(f"process {rank + 1} of {len(actors)} ended {how}")
    return next((status for status in found.values() if isinstance(status, int) and status), 0)


def _follow(actor: Any, args: Sequence[str], env: Mapping[str, str], say: Callable[[str], None]) -> int | str:
    """Say what a process says until it ends; its status, or the name of what Ray raises for an actor that is lost."""
    import ray

    status: int | str = "no status came"
    try:
        for part in actor.run.options(num_returns="streaming").remote(list(args), dict(env), os.getcwd()):
            said = ray.get(part)
            if isinstance(said, int):
                status = said
            else:
                say(said)
    except ray.exceptions.RayError as error:
        return type(error).__name__
    return status


class _Host:
    """An actor that runs one process and passes on what it says."""

    def meeting_place(self) -> tuple[str, int]:
        """An address of this host, and a port that is free there."""
        import ray

        host = ray.util.get_node_ip_address()
        return host, free_port(host)

    def run(self, args: Sequence[str], env: Mapping[str, str], folder: str) -> Iterator[str | int]:
        """Lines of the process, standard output and error together, and at last its status."""
        whole = {"OMP_NUM_THREADS": "1"} | dict(os.environ) | dict(env)
        command = [sys.executable, "-m", "thor_tir", *args]
        with subprocess.Popen(
            command,
            env=whole,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield line.rstrip("\n")
            yield process.wait()
