"""Progress of long work: units that are done, a line about the state, lines that are kept."""

from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """The place to which long work reports."""

    def resume(self, units: int) -> None:
        """Count `units` as done before this process began: they are in the sum and in no rate."""
        ...

    def advance(self, units: int = 1) -> None:
        """Count `units` more as done."""
        ...

    def note(self, line: str) -> None:
        """Show a line about the work to a person; it replaces the line before."""
        ...

    def log(self, line: str, brief: str = "") -> None:
        """Print a line that stays, with the time that is left; `brief` stands beside the bar until the next one."""
        ...


class Reporter(Protocol):
    """Destination of the messages that stages show to a person."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Progress]:
        """Work of `total` units begins; leaving the context ends it."""
        ...

    def say(self, text: str) -> None:
        """One line."""
        ...


class Unseen:
    """Progress that is not shown."""

    def resume(self, units: int) -> None:
        """Count nothing."""

    def advance(self, units: int = 1) -> None:
        """Count nothing."""

    def note(self, line: str) -> None:
        """Show nothing."""

    def log(self, line: str, brief: str = "") -> None:
        """Print nothing."""


UNSEEN = Unseen()


def duration(seconds: float) -> str:
    """A length of time in one figure with its unit, for a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rate(units: float, seconds: float) -> str:
    """Units a second, or the seconds of each where they are slow; empty where nothing was done yet."""
    if units <= 0:
        return ""
    speed = units / max(seconds, 1e-9)
    return f"{speed:,.1f}/s" if speed >= 0.5 else f"{duration(1 / speed)} each"
