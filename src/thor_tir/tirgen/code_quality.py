"""Whether a program is worth showing to a student, read from its syntax tree; nothing is executed.

The released filter counts lines, and a sample of one program passes whatever that program is. Here every program is
judged by what it does.
"""

import ast

NUMERICAL = frozenset(
    {
        "bisect",
        "calendar",
        "cmath",
        "collections",
        "datetime",
        "decimal",
        "fractions",
        "functools",
        "heapq",
        "itertools",
    }
    | {"math", "mpmath", "networkx", "numpy", "operator", "random", "scipy", "statistics", "string", "sympy"}
)
"""Modules whose use is a reason to call a tool: exact and symbolic mathematics, counting, combinatorics, dates."""

_FLOW = (ast.For, ast.While, ast.If, ast.IfExp, ast.comprehension, ast.FunctionDef, ast.Lambda)
_SPELLING = frozenset({"print", "str", "repr"})
"""Calls that change how a value looks and not what it is."""


def fault_of(code: str, *, needs_import_or_control_flow: bool) -> str | None:
    """Why a program teaches nothing, or None.

    It must parse and compute: a literal that is printed, by way of a variable or not, was known before. With
    `needs_import_or_control_flow` the paper's rule holds as well (section 2.2).
    """
    tree = _parsed(code)
    if tree is None:
        return "code does not parse"
    if _has_flow(tree) or _uses_numerical_module(tree):
        return None
    if not any(_is_computation(node) for node in ast.walk(tree)):
        return "prints what is known"
    return "no library or control flow" if needs_import_or_control_flow else None


def _parsed(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: brackets nested without end
        return None


def _is_computation(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return not (isinstance(node.func, ast.Name) and node.func.id in _SPELLING)
    return isinstance(
        node, ast.BinOp | ast.BoolOp | ast.Compare | ast.comprehension | ast.For | ast.While | ast.AugAssign
    )


def _has_flow(tree: ast.Module) -> bool:
    return any(isinstance(node, _FLOW) for node in ast.walk(tree))


def _uses_numerical_module(tree: ast.Module) -> bool:
    """An import alone is a habit; the name it brings must be read."""
    names, has_star = set(), False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [alias for alias in node.names if alias.name.split(".")[0] in NUMERICAL]
            names |= {alias.asname or alias.name.split(".")[0] for alias in wanted}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in NUMERICAL:
            names |= {alias.asname or alias.name for alias in node.names}
            has_star |= any(alias.name == "*" for alias in node.names)
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return bool(names & read) or (has_star and bool(read - _SPELLING))
