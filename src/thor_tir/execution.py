"""The result of running a program. Only the program's own doing stands here; faults of the machine are exceptions."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The way a program ended, known from the sandbox's own clock and from wait(), never guessed from its output."""

    OK = "ok"
    """Exit code 0 and something on stdout."""
    OK_NO_OUTPUT = "ok_no_output"
    """Exit code 0 and nothing on stdout: a success, and reported to the model as such."""
    SYNTAX = "syntax"
    """Did not compile."""
    RUNTIME = "runtime"
    """Ended by an exception, a non-zero exit code or a signal of its own; `error` names which."""
    TIMEOUT = "timeout"
    """Used up its wall-clock or CPU time."""
    MEMORY = "memory"
    """Asked for more memory than it may have."""
    OUTPUT_LIMIT = "output_limit"
    """Printed more than it may, and was stopped."""
    DENIED = "denied"
    """Tried what the policy forbids and was stopped for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """One program, run once."""

    status: Status
    """Way in which the program ended."""
    stdout: str
    """Standard output, as far as it was kept."""
    stderr: str = ""
    """Standard error, as far as it was kept."""
    error: str | None = None
    """For RUNTIME and SYNTAX the exception's type, e.g. `NameError`; for a signal its name."""
    exit_code: int | None = None
    """Negative for a signal, as in `subprocess`; None where the sandbox ended the program."""
    seconds: float = 0.0
    """Wall-clock time of the program itself."""
    level: str = ""
    """Level of confinement, in the sandbox's words."""
    is_truncated: bool = False
    """stdout or stderr was longer than allowed; what stands here is its beginning."""
    cpu_s: float = 0.0
    """Processor time, of all its threads."""
    peak_bytes: int = 0
    """Resident memory at its highest, the shared libraries of the interpreter included; 0 where it is not known."""
    queue_s: float = 0.0
    """Waited for a free worker before it ran."""
    runs: int = 1
    """2 if the machine failed under it the first time."""

    @property
    def succeeded(self) -> bool:
        """The execution reward of the paper's step level (section 2.3.2): the call ran to its end without a fault."""
        return self.status in (Status.OK, Status.OK_NO_OUTPUT)
