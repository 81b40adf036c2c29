"""Which of a worker's two templates a program is run by, found from its import statements.

The heavy template has imported more, which makes programs that use it start at once and every fork of it dearer.
"""

import re

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
_HEAVY_NAMES = frozenset(name.partition(".")[0] for name in HEAVY)


def is_heavy(code: str) -> bool:
    """Whether an import statement names a heavy library. Imports that are hidden from it work too, only slower."""
    if not any(name in code for name in _HEAVY_NAMES):
        return False
    return any(_HEAVY_NAMES.intersection(_NAME.findall(names)) for names in _IMPORT.findall(code))
