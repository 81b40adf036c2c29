"""Modules that templates import before any program comes, so that programs need not."""

import logging
import re
from collections.abc import Sequence

_LOG = logging.getLogger(__name__)

LEAN = (
    *("math", "cmath", "fractions", "decimal", "random", "statistics", "itertools", "functools", "collections"),
    *("heapq", "bisect", "re", "string", "operator", "datetime", "time", "json", "copy", "typing", "dataclasses"),
    *("sys", "os", "io", "numbers", "queue", "textwrap", "enum", "abc", "array", "struct", "hashlib"),
    *("numpy", "numpy.random", "numpy.linalg", "numpy.fft", "numpy.polynomial", "sympy", "mpmath"),
)
HEAVY = (
    *("scipy", "scipy.optimize", "scipy.stats", "scipy.special", "scipy.integrate", "scipy.linalg", "scipy.sparse"),
    *("scipy.interpolate", "scipy.spatial", "scipy.signal", "networkx", "pandas"),
)
_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+([^\n#;]+)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w*")


def is_heavy(code: str, modules: Sequence[str] = HEAVY) -> bool:
    """True where an import statement names a library of these. Hidden imports work too, only slower."""
    libraries = {name.partition(".")[0] for name in modules}
    if not any(name in code for name in libraries):
        return False
    return any(not libraries.isdisjoint(_NAME.findall(names)) for names in _IMPORT.findall(code))


class Preload:
    """The modules that templates import, less those that turn out to start threads; all workers share it."""

    def __init__(self, lean: tuple[str, ...], heavy: tuple[str, ...]) -> None:
        self._lean, self._heavy = lean, heavy
        self.left_out: frozenset[str] = frozenset()

    def modules(self, *, is_heavy: bool) -> tuple[str, ...]:
        """Modules of a template."""
        return tuple(name for name in self._lean + self._heavy * is_heavy if name not in self.left_out)

    def leave_out(self, names: Sequence[str]) -> None:
        """Import these in no further template, and name them."""
        new = sorted({*names} - self.left_out)
        self.left_out |= {*new}
        if new:
            _LOG.warning(
                "sandbox: %s started a thread at import and so is not preloaded; programs import it themselves, which "
                "takes them longer",
                ", ".join(new),
            )
