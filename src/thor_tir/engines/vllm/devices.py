"""GPUs of the servers that a run starts: each server has its own, by a rule that all processes of a host follow.

`colocated`: the server of local process r has the GPU that this process trains on, the one at place r. A process that
is alone on its host may have several servers, or one over several GPUs: they have the GPUs from its own one on.
`apart`: the GPUs behind those that train are shared out among the processes of the host, evenly and in order.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from thor_tir.distributed import gpus
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError

_TAKEN: set[str] = set()
"""GPUs of servers that engines of this process hold apart: another engine of it has others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What this process has on its host."""

    devices: Sequence[str]
    """GPUs that it may use, in order; those of CUDA_VISIBLE_DEVICES by the names that stand there."""
    rank: int = 0
    """Number of this process among those of its host."""
    size: int = 1
    """Processes of its host."""

    @classmethod
    def found(cls) -> "Host":
        """This process and its GPUs, as torchrun, `--processes` and Ray say it."""
        known = os.environ
        rank, size = int(known.get("LOCAL_RANK", "0")), int(known.get("LOCAL_WORLD_SIZE", "1"))
        return cls(devices=gpus(), rank=rank, size=max(size, rank + 1))


def tensor_parallel(arguments: str) -> int:
    """GPUs of one server, by the arguments that vLLM is given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--tensor-parallel-size", "--tensor_parallel_size", "-tp", type=int, default=1, dest="gpus")
    try:
        return int(parser.parse_known_args(arguments.split())[0].gpus)
    except argparse.ArgumentError as error:
        raise UsageError(f"--engine.arguments {arguments!r}: {error}") from error


def take_devices(options: EngineOptions, host: Host, *, trains: bool = True) -> list[tuple[str, ...]]:
    """The GPUs of each server of this process; empty where none are known here, and the servers see what we see.

    `trains` says that this process has a GPU itself. Raises UsageError where there are too few. What servers apart
    were given stays theirs until `give_back`.
    """
    if not host.devices:
        return []
    gpus = tensor_parallel(options.arguments)
    needed = options.replicas * gpus
    own = _colocated(host, needed) if options.placement == "colocated" else _apart(host, needed, trains=trains)
    return [tuple(own[n * gpus : (n + 1) * gpus]) for n in range(options.replicas)]


def give_back(devices: Sequence[Sequence[str]]) -> None:
    """Let other engines of this process have these GPUs."""
    _TAKEN.difference_update(name for each in devices for name in each)


def _colocated(host: Host, needed: int) -> Sequence[str]:
    if host.size > 1 and needed > 1:
        raise UsageError(
            f"--engine.placement colocated gives each of {host.size} processes one server on the GPU that it trains "
            "on: leave out --engine.replicas and --tensor-parallel-size, or name servers by --engine.address"
        )
    own = host.devices[host.rank :][:needed]
    if len(own) < needed:
        raise UsageError(
            f"the servers of {host.size} processes with --engine.placement colocated need {host.size * needed} GPUs, "
            f"and {len(host.devices)} are visible: take fewer --engine.replicas or processes"
        )
    return own


def _apart(host: Host, needed: int, *, trains: bool) -> Sequence[str]:
    free = host.devices[host.size if trains else 0 :]
    begin, end = (len(free) * place // host.size for place in (host.rank, host.rank + 1))
    mine = [name for name in free[begin:end] if name not in _TAKEN][:needed]
    if len(mine) < needed:
        raise UsageError(
            f"GPUs that servers apart from training need on this host: {host.size * needed}; visible: "
            f"{len(host.devices)}, left: {len([name for name in free if name not in _TAKEN])}; share GPUs by "
            "--engine.placement colocated, or name servers that run elsewhere by --engine.address"
        )
    _TAKEN.update(mine)
    return mine
