"""How strongly programs are confined, and where that leaves the process that starts them."""

from dataclasses import dataclass

FULL, LANDLOCK, NONE = "full", "landlock", "none"
"""Levels, strongest first. `none` is for those who said that they know what it means."""


class Missing(Exception):
    """A layer of the level that was asked for is not to be had here; the message names it and what the kernel said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JailPlace:
    """Where a template finds itself when it starts."""

    level: str
    """Level of confinement."""
    paths: tuple[str, ...]
    """Paths that programs may read."""
    proc: int
    """A descriptor of the host's /proc, closed before the first program; -1 where there is none."""
