"""The interface of every sandbox, so that rollouts do not care where programs run."""

from dataclasses import dataclass
from typing import Protocol

from thor_tir.errors import UsageError
from thor_tir.execution import ExecutionResult


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one program. It may start threads, and never another process."""

    timeout_s: float = 5.0
    """Wall-clock time."""
    memory_bytes: int = 512 * 2**20
    """Address space on top of what the interpreter and its preloaded libraries hold."""
    output_bytes: int = 2**20
    """Largest size of stdout, and of stderr, in bytes; a program that prints more is stopped."""

    def __post_init__(self) -> None:
        if not (0 < self.timeout_s < 86_400 and 0 < self.memory_bytes < 2**50 and 0 < self.output_bytes <= 2**28):
            raise UsageError(
                f"{self}: time must be above 0 and under a day, memory above 0, output between 1 byte and 256 MiB"
            )


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """One program to run in a batch."""

    code: str
    """Source of the program."""
    limits: Limits | None = None
    """None means the sandbox's default."""
    stdin: str = ""
    """Text that the program reads from its standard input."""
    seed: int = 0
    """Seed of the random generators of Python and NumPy; equal requests give equal bytes wherever they run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """The way in which a program follows earlier ones, as a cell follows cells."""

    earlier: tuple[str, ...] = ()
    """Programs that are run before it in the same process, without their output."""
    extra_s: float = 0.0
    """Time that those took, on top of the limit."""
    echoes: bool = False
    """True prints the value of a last line that is an expression."""


class Sandbox(Protocol):
    """Runs untrusted programs, each in a fresh process that leaves nothing behind."""

    @property
    def level(self) -> str:
        """Level of confinement, in the sandbox's words; stands in every result and in a run's record."""
        ...

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        """Run one program, see `Snippet`. What the program does wrong is in the result.

        Raises SandboxUnavailable when the machine, not the program, is at fault.
        """
        ...
