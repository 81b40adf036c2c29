"""The processes that train one model together: which of them this is, and the messages between them.

`torchrun` starts them and numbers them; the first leads, which means that it alone writes what a run writes once. They
talk over gloo, and tensors of a GPU over nccl. Messages are Python objects, so whatever is exchanged here must be small
beside a model: rows, counts and sentences. Alone, every method returns at once.
"""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from thor_tir.errors import MachineFault

Message = TypeVar("Message")

STARTED = "THORSTARTED_TOGETHER"
LAST_WORDS_S = 5.0
"""Time for the first process to fail by itself, once another has."""
PATIENCE = timedelta(days=1)
"""Longest time that one process waits for another, which may be sampling. A process that dies ends the run sooner:
torchrun stops the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One process among those that train together."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of all processes."""
    group: Any = None
    """Connections over which they talk; None for those that they share with whatever else they do together."""

    @property
    def leads(self) -> bool:
        """True if this is the process that writes what is written once."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """True if there is no other process."""
        return self.size == 1

    def gather(self, message: Message) -> list[Message]:
        """The messages of all processes, in the order of ranks. Every process must call it."""
        if self.is_alone:
            return [message]
        from torch import distributed

        said: list[Message] = [message] * self.size
        distributed.all_gather_object(said, message, group=self.group)
        return said

    def on_their_own(self) -> "Ranks":
        """The same processes over connections of their own, for a second talk at the same time. All must call it."""
        if self.is_alone:
            return self
        from torch import distributed

        return replace(self, group=distributed.new_group(backend="gloo", timeout=PATIENCE))

    def wait(self) -> None:
        """Wait until every process has come here."""
        self.gather(None)

    def share(self, units: Sequence[Message]) -> Sequence[Message]:
        """This process's part of work that all know: neighbours stay together, and each unit is in one part."""
        begin, end = (len(units) * place // self.size for place in (self.rank, self.rank + 1))
        return units[begin:end]

    def lead(self, act: Callable[[], Message]) -> Message:
        """The result of `act`, which is called in the first process alone. If it raises there, the rest end too."""
        outcome: list[Message] = []
        try:
            if self.leads:
                outcome.append(act())
        finally:
            outcome = self.gather(outcome)[0]
        if not outcome:
            raise SystemExit(1)  # the first process says why
        return outcome[0]

    def see_one(self, folder: Path) -> bool:
        """True where all processes have the same folder before them, false where their hosts share none."""
        if self.is_alone:
            return True
        mark = folder / f".seen-by-{uuid4().hex}"

        def leave() -> str:
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
            return mark.name

        seen = self.gather((folder / self.lead(leave)).exists())
        if self.leads:
            mark.unlink()
        return all(seen)

    @contextmanager
    def led(self, context: AbstractContextManager[None]) -> Iterator[None]:
        """The context, entered by the first process alone; no process goes on unless it could be entered."""
        self.lead(context.__enter__)
        try:
            yield
        except BaseException as error:
            if not self.leads or not context.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            if self.leads:
                context.__exit__(None, None, None)


ALONE = Ranks()


async def in_a_thread(act: Callable[[], Message]) -> Message:
    """The result of `act`, computed in a thread while this one goes on.

    The thread may wait for other processes, so nothing waits for it where this process ends.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Message] = loop.create_future()
    device = _device()

    def settle(settled: Callable[[], None]) -> None:
        if not result.done():
            settled()

    def run() -> None:
        try:
            _use(device)
            value = act()
        except BaseException as error:
            settled = partial(result.set_exception, error)
        else:
            settled = partial(result.set_result, value)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, settled)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return await result
    finally:
        if result.done() and not result.cancelled():
            thread.join()  # a thread that still frees tensors where Python ends would abort the process


def _device() -> int | None:
    """The GPU of this thread; None without any."""
    import torch

    return torch.cuda.current_device() if torch.cuda.is_available() else None


def _use(device: int | None) -> None:
    """Threads begin on the first GPU, whichever this process was given."""
    if device is not None:
        import torch

        torch.cuda.set_device(device)


class PeerLost(MachineFault):
    """Another process of this run has ended, so this one cannot go on."""


def is_one_of_several() -> bool:
    """True if `torchrun` or `start_several` started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def free_port(host: str) -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as place:
        place.bind((host, 0))
        return int(place.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """True for a port of this host that a server can listen on now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a dead one's port is free at once
        try:
            place.bind((host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # other faults are for the server to say
    return True


def gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, or all of this host without it."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = [name.strip() for name in named.split(",") if name.strip()]
        return tuple(takewhile(lambda name: not name.startswith("-"), names))
    with suppress(ImportError):
        import torch

        return tuple(map(str, range(torch.cuda.device_count())))
    return ()


def part_words(number: int, count: int) -> list[str]:
    """The arguments that give a command one of so many parts of its problems."""
    return ["--shard", f"{number + 1}/{count}"]


def start_several(count: int, args: Sequence[str], *, in_parts: bool = False) -> int:
    """Run `thor` with these arguments in `count` processes of this machine that share the work; their status.

    They talk to each other, or each has a part of the problems and of the GPUs for itself, `in_parts`; parts share GPUs
    where there are more of them than GPUs. When one ends by a fault, the others are ended. They end with this process,
    however that ends.
    """
    port = free_port("127.0.0.1")
    known = {
        "WORLD_SIZE": "1" if in_parts else str(count),
        "LOCAL_WORLD_SIZE": "1" if in_parts else str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        STARTED: "1",
    }
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))} | dict(os.environ)
    command = [sys.executable, "-m", "thor_tir", *args]
    own = gpus() if in_parts else ()
    with ExitStack() as stack:
        started = []
        for number in range(count):
            rank = "0" if in_parts else str(number)
            env = {**threads, **known, "RANK": rank, "LOCAL_RANK": rank}
            if len(own) > 1:
                env["CUDA_VISIBLE_DEVICES"] = ",".join(_share(own, number, count))
            words = [*command, *(part_words(number, count) if in_parts else ())]
            each = stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, env=env))
            stack.callback(each.terminate)
            started.append(each)
        return _first_fault(started)


def _share(own: Sequence[str], number: int, count: int) -> Sequence[str]:
    """The GPUs of one of so many parts: neighbours, or one that parts share where there are fewer GPUs than parts."""
    if len(own) < count:
        return [own[number % len(own)]]
    return Ranks(rank=number, size=count).share(own)


def _first_fault(started: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Wait until all have ended well, or one has not; its status."""
    with ThreadPoolExecutor(len(started)) as waiting:
        ends = [waiting.submit(each.wait) for each in started]
        for end in as_completed(ends):
            if status := end.result():
                with suppress(subprocess.TimeoutExpired):  # the first process says why, where it fails too
                    status = started[0].wait(LAST_WORDS_S) or status
                for each in started:
                    each.terminate()
                return 128 - status if status < 0 else status
    return 0


def is_started_together() -> bool:
    """True in a process that `start_several` started, which says what it was interrupted by."""
    return STARTED in os.environ


def end_with_starter() -> None:
    """End this process as soon as the one that started it by `start_several` has ended."""
    if is_started_together():
        threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def _wait_for_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


@contextmanager
def together() -> Iterator[Ranks]:
    """Meet the processes that `torchrun` started with this one, for as long as they work together."""
    if not is_one_of_several():
        yield ALONE
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Ranks(rank=distributed.get_rank(), size=distributed.get_world_size())
    except RuntimeError as error:
        if "by peer" in str(error):  # so say all of gloo's ways to find a connection closed
            raise PeerLost("another process of this run ended; what it said tells why") from error
        raise
    finally:
        distributed.destroy_process_group()
