"""The result of running a program, and when it counts as a success; faults of the machine are exceptions."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

CallSuccess = Literal["printed", "ran"]
"""Rule by which a call is a success. `printed`: it ran to its end and printed something that can be read, so that an
empty program, `pass` or a comment is none (the released code asks for output too). `ran`: it ran to its end."""


class Status(StrEnum):
    """Ways in which a program ends, known from the sandbox's clock and from wait(), never guessed from output."""

    OK = "ok"
    """Exit code 0 and something on stdout."""
    OK_NO_OUTPUT = "ok_no_output"
    """Exit code 0 and nothing on stdout: it ran, and is no success unless a run asks for that rule."""
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
    NOT_RUN = "not_run"
    """Never began, since no call was left; the observation says so."""


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
    def ran(self) -> bool:
        """True where the program ran to its end without a fault."""
        return self.status in (Status.OK, Status.OK_NO_OUTPUT)

    @property
    def printed(self) -> bool:
        """True where standard output shows something that can be read, however the program ended."""
        return can_be_read(self.stdout)

    def succeeds(self, rule: CallSuccess = "printed") -> bool:
        """True where the call is a success by that rule: the execution reward of the paper's step level (2.3.2)."""
        return self.ran and (rule == "ran" or self.printed)

    @property
    def failure_class(self) -> str:
        """Name of what stopped it, as tables of failures count it: the exception's type, or the status."""
        is_named = self.status in (Status.RUNTIME, Status.SYNTAX) and self.error
        return str(self.error if is_named else self.status)


NO_CALL_LEFT = ExecutionResult(status=Status.NOT_RUN, stdout="")
"""Stands for a program that was written when no call was left."""


_STEERING = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)
"""Escape sequences that colour, move or name a terminal (ECMA-48): they steer it and show nothing."""
_HOLLOW = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters that count as letters or symbols and are drawn as nothing."""


def can_be_read(text: str) -> bool:
    """True where a text shows something: blanks, characters without width and escape sequences show nothing."""
    shown = _STEERING.sub("", text)
    return any(character.isprintable() and not character.isspace() and character not in _HOLLOW for character in shown)
