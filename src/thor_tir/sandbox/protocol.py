"""What every sandbox promises, so that rollouts do not care where programs run."""

from dataclasses import dataclass
from typing import Protocol

from thor_tir.execution import ExecutionResult


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use."""

    timeout_s: float = 5.0
    """Wall-clock time."""
    memory_bytes: int = 512 * 2**20
    """Address space on top of what the interpreter and its preloaded libraries hold."""
    output_bytes: int = 64 * 2**10
    """Of stdout and of stderr, each."""
    processes: int = 0
    """Further processes the program may start. Threads are not processes."""
    file_bytes: int = 16 * 2**20
    """Size of any file it writes in its own working directory."""


class Sandbox(Protocol):
    """Runs one untrusted program at a time per worker, each in a fresh process that leaves nothing behind."""

    async def run(self, code: str, limits: Limits | None = None) -> ExecutionResult:
        """Run one program; None means the sandbox's default limits. What the program does wrong is in the result.

        Raises SandboxUnavailable when the machine, not the program, is at fault.
        """
        ...
