"""The processes of one command on the hosts of a Ray cluster, which finds them places, and others when some are lost.

A process works as one that `torchrun` started: it talks to the others over gloo or nccl, and continues from the last
checkpoint of the run. So a lost one is an ordinary end of the group, after which the whole group is placed anew. All
hosts must see the folder of the run by the same path, since the first process may be placed elsewhere then. Only
actors and placement groups of Ray are used.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from thor_tir.distributed import LAST_WORDS_S, STARTED, free_port
from thor_tir.errors import MachineFault
from thor_tir.extras import need

FEWER_S = 2.0
"""Wait for fewer places, once the wait for all was in vain."""
ANSWER_S = 10.0
"""Longest time in which the first host of a cluster answers, in seconds."""
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
    """Times that a group of processes is placed anew after some of it was lost."""
    wait_s: float = 600.0
    """Longest wait, in seconds, until the cluster has places for all of a group."""
    min_processes: int = 0
    """Processes that training goes on with after that wait, where the cluster has no places for more; 0 for no fewer
    than --processes. The bits are then others."""

    def __post_init__(self) -> None:
        if self.cpus <= 0 or self.wait_s <= 0 or min(self.gpus, self.max_restarts, self.min_processes) < 0:
            raise ValueError(
                "--ray.cpus and --ray.wait-s are positive, --ray.gpus, --ray.max-restarts and --ray.min-processes not "
                f"negative: {self}"
            )

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray reserves for each process."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


class Lost(Exception):
    """A process, or the host under it, is gone."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes that work together: if one is lost, all are placed anew."""

    size: int
    """Number of processes."""
    words: Callable[[str, int], Sequence[str]]
    """Their arguments of `thor`, once the first one's host and a free port of it are known."""
    name: str = ""
    """Name in sentences about it, where there are several groups."""


def check_ray() -> None:
    """Raise UsageError where there is no Ray."""
    need("ray", "--launcher ray")


def start_on_ray(groups: Sequence[Group], options: RayOptions, say: Callable[[str], None]) -> int:
    """Run `thor` in groups of processes of a Ray cluster until all have ended well, or one has not; its status.

    Raises UsageError without Ray, and MachineFault where the cluster has no places or a group is lost too often.
    """
    check_ray()
    with _cluster(options):
        keeper = _Keeper(options, say)
        ends: SimpleQueue[int | BaseException] = SimpleQueue()

        def keep(group: Group) -> None:
            try:
                ends.put(keeper.keep(group))
            except BaseException as error:
                ends.put(error)

        try:
            for group in groups:
                threading.Thread(target=keep, args=(group,), daemon=True).start()
            for end in (ends.get() for _ in groups):
                if isinstance(end, BaseException):
                    raise end
                if end:
                    return end
        finally:
            keeper.has_ended = True
    return 0


class _Keeper:
    """Places for groups, and others when they are lost."""

    def __init__(self, options: RayOptions, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        self._working: set[str] = set()
        self.has_ended = False
        """True once nothing is to be placed any more."""

    def keep(self, group: Group) -> int:
        """The status of a group that is placed anew as often as the options allow."""
        most = self._options.max_restarts
        for restart in range(most + 1):
            try:
                with self._placed(group) as actors:
                    return _run(actors, group.words, self._say)
            except Lost as lost:
                if self.has_ended:
                    return 1
                what = f"{group.name}: {lost}" if group.name else f"{lost}"
                if restart == most:
                    raise MachineFault(f"{what}, and the group was placed anew {restart} times already") from lost
                left = f"{most - restart} restarts left"
                self._say(f"{what}: the group is placed anew ({left})")
        raise AssertionError  # the loop returns or raises

    @contextmanager
    def _placed(self, group: Group) -> Iterator[list[Any]]:
        """Actors in places of their own, near each other. Raises MachineFault where the cluster has none in time."""
        with self._reserved(group) as (places, size):
            actors = [_actor(places, place, self._options) for place in range(size)]
            self._working.add(group.name)
            try:
                yield actors
            finally:
                self._working.discard(group.name)
                _end(actors)

    @contextmanager
    def _reserved(self, group: Group) -> Iterator[tuple[Any, int]]:
        """A placement group and the number of its places, fewer than wanted where that is allowed."""
        from ray.util.placement_group import placement_group, remove_placement_group

        least = min(group.size, self._options.min_processes or group.size)
        for size in range(group.size, least - 1, -1):
            places = placement_group([self._options.bundle] * size, strategy="PACK")
            try:
                if self._is_there(group, places, self._options.wait_s if size == group.size else FEWER_S):
                    if size < group.size:
                        self._say(f"the Ray cluster has places for {size} of {group.size} processes: these go on")
                    yield places, size
                    return
            finally:
                with suppress(Exception):  # of a cluster that is gone
                    remove_placement_group(places)
        raise MachineFault(self._no_room(least))

    def _is_there(self, group: Group, places: Any, wait_s: float) -> bool:
        """True once the places are reserved. While other groups work, whose places come free, nothing is too long."""
        while not places.wait(wait_s):
            if not self._working or self.has_ended:
                return False
            self._say(f"{group.name} waits for a place while others work")
        return True

    def _no_room(self, size: int) -> str:
        import ray

        wanted = " and ".join(f"{amount:g} {kind}" for kind, amount in self._options.bundle.items())
        return (
            f"the Ray cluster has no {size} places of {wanted} after {self._options.wait_s:g} s (it has "
            f"{_resources(ray.cluster_resources())}): give fewer --processes, or wait longer with --ray.wait-s"
        )


@contextmanager
def _cluster(options: RayOptions) -> Iterator[None]:
    """A connection to the cluster, or a cluster of this host alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a thread that is late must not start another cluster
    os.environ.setdefault("RAY_worker_niceness", "0")  # else whatever else runs on the host comes first
    import ray

    own: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": LEAST_STORE}
    where = {"address": options.address} if options.address else own
    ours = signal.getsignal(signal.SIGTERM)
    _check_answers(options.address)
    try:
        ray.init(**where, log_to_driver=False, logging_level="error")
    except Exception as error:  # of many kinds
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MachineFault(f"no Ray cluster can be used at {options.address or 'this host'} ({why})") from error
    signal.signal(signal.SIGTERM, ours)  # in place of Ray's, which prints where it was
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise MachineFault where nothing listens at HOST:PORT, which Ray itself finds out after minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise MachineFault(
            f"no Ray cluster answers at {address} ({error}): give --ray.address another, or start one by `ray start`"
        ) from error


def _actor(places: Any, place: int, options: RayOptions) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    where = PlacementGroupSchedulingStrategy(placement_group=places, placement_group_bundle_index=place)
    resources = {"num_cpus": options.cpus, "num_gpus": options.gpus}
    return ray.remote(_Host).options(**resources, max_concurrency=2, scheduling_strategy=where).remote()


def _end(actors: Sequence[Any]) -> None:
    import ray

    for each in actors:
        with suppress(Exception):  # of a cluster that is gone
            ray.kill(each)  # its process reads the end of its input, and ends


def _resources(found: Mapping[str, float]) -> str:
    return ", ".join(f"{found[kind]:g} {kind}" for kind in ("CPU", "GPU") if kind in found) or "nothing"


def _run(actors: Sequence[Any], words: Callable[[str, int], Sequence[str]], say: Callable[[str], None]) -> int:
    """The status of the group. Raises Lost where a process ended by a signal or with its host."""
    import ray

    try:
        host, port = ray.get(actors[0].meeting_place.remote())
    except ray.exceptions.RayError as error:
        raise Lost("a host of the Ray cluster is gone") from error
    known = {"WORLD_SIZE": str(len(actors)), "MASTER_ADDR": host, "MASTER_PORT": str(port), STARTED: "1"}
    args = words(host, port)
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
