"""What a sandbox holds of the machine, counted from outside, to see that a program leaves nothing behind."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SPARE_BYTES = 4 * 2**20
"""The memory of a worker may move by so much: what a buffer that was used once still holds."""
PATIENCE_S = 10.0
"""Until the process of the next program stands ready."""


@dataclass(frozen=True, kw_only=True)
class Census:
    """Of this process and of the sandbox of one worker that it has."""

    processes: int
    descriptors: tuple[int, ...]
    """Of this process, the watcher and the template."""
    mounts: tuple[int, ...]
    """In the views of the same three."""
    memory_bytes: int
    """Resident in watcher and template."""

    def allows(self, later: "Census") -> bool:
        """Whether nothing stayed since."""
        counts = (self.processes, self.descriptors, self.mounts)
        has_grown = later.memory_bytes > self.memory_bytes + SPARE_BYTES
        return counts == (later.processes, later.descriptors, later.mounts) and not has_grown


def census() -> Census:
    lasting = [os.getpid(), *_descendants(os.getpid())[:2]]
    return Census(
        processes=len(_descendants(os.getpid())),
        descriptors=tuple(len(os.listdir(f"/proc/{pid}/fd")) for pid in lasting),
        mounts=tuple(Path(f"/proc/{pid}/mounts").read_text().count("\n") for pid in lasting),
        memory_bytes=sum(_resident(pid) for pid in lasting[1:]),
    )


def at_rest() -> Census:
    """The same once the process of the next program stands ready: watcher, template and it."""
    return _until(lambda now: now.processes == 3)


def after(before: Census) -> Census:
    """The same once nothing is left since `before`; what there is where something stays."""
    return _until(before.allows)


def _until(is_enough: Callable[[Census], bool]) -> Census:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        now = census()
        if is_enough(now) or time.monotonic() > deadline:
            return now
        time.sleep(0.005)


def _descendants(pid: int) -> list[int]:
    """Parents before their children."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return children + [each for child in children for each in _descendants(child)]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
