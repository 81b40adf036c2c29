"""Pieces of Python in a reply: their definitions, their input and output, and the helpers that join them."""

import ast
import builtins
import symtable
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import IntEnum

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_LASTING = (*_DEFINITIONS, ast.Import, ast.ImportFrom)
_CHANGES = frozenset(("append", "add", "extend", "insert", "update", "setdefault", "sort", "setrecursionlimit"))
"""Methods by which a statement goes on building what another has begun."""
_ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Code of a reply that Python can read."""

    text: str
    """Source, at the left margin."""
    tree: ast.Module
    """Syntax tree of the source."""
    is_tagged: bool
    """True if it stands in a fence that says Python."""


class Strength(IntEnum):
    """The degree to which code defines a name, from not at all to a function or class with a body."""

    NONE = 0
    STUB = 1
    VALUE = 2
    BODY = 3


def parsed(text: str) -> ast.Module | None:
    """The tree of a text; None where Python cannot read it."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def piece_of(text: str, *, is_tagged: bool) -> Piece | None:
    """A text as a piece, as it stands or without its margin; None where Python cannot read it."""
    for variant in (text, textwrap.dedent(text)):
        if (tree := parsed(variant)) is not None and tree.body:
            return Piece(text=variant, tree=tree, is_tagged=is_tagged)
    return None


def strength(tree: ast.Module, entry_point: str) -> Strength:
    """The degree to which a program defines a function, or the method of a class that `Class.method` names."""
    name, _, method = entry_point.partition(".")
    found = [node for node in tree.body if name in bound(node) and not isinstance(node, ast.Import | ast.ImportFrom)]
    if not found:
        return Strength.NONE
    if not isinstance(found[-1], _DEFINITIONS):
        return Strength.VALUE if any(_is_given(node, name) for node in found) else Strength.NONE
    return Strength.STUB if is_stub(found[-1], method) else Strength.BODY


def _is_given(node: ast.stmt, name: str) -> bool:
    """True for `name = value`, unless the value is what a call of the same name returned."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    return not any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node.value))


def is_stub(node: ast.stmt, method: str = "") -> bool:
    """True for a definition with nothing in it but a docstring, imports, `...`, `pass` or `raise NotImplementedError`.

    A class is a stub too if the method that is asked for is missing in it or a stub.
    """
    if isinstance(node, ast.ClassDef) and method:
        found = [inner for inner in node.body if method in bound(inner)]
        return not (found or node.bases) or any(is_stub(inner) for inner in found[-1:])
    return isinstance(node, _DEFINITIONS) and all(_is_empty(inner) for inner in node.body)


def _is_empty(node: ast.stmt) -> bool:
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom():
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
    return False


def outer_nodes(*roots: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run where they stand: not those inside functions, classes and lambdas."""
    todo = list(roots)
    while todo:
        yield (node := todo.pop())
        if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
            todo += ast.iter_child_nodes(node)


def bound(node: ast.stmt) -> set[str]:
    """Names that a statement defines, or goes on building; `*` for those of a whole module."""
    found = set()
    for inner in outer_nodes(node):
        match inner:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name.partition(".")[0])
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in _CHANGES:
                found.add(name)
    return found


def needed(text: str) -> set[str]:
    """Names that code takes from its module, or from Python, and does not bind there."""
    try:
        tables = [symtable.symtable(text, "", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    own = {each.get_name() for each in tables[0].get_symbols() if each.is_assigned()}
    used = set()
    for table in tables:
        tables += table.get_children()
        # `is_global` says yes to every name in a function that is called `top`: that is the module's own name.
        outside = [each for each in table.get_symbols() if not each.is_local() and not each.is_free()]
        used |= {each.get_name() for each in outside if each.is_referenced()}
        own |= {each.get_name() for each in table.get_symbols() if each.is_declared_global() and each.is_assigned()}
    return used - own


def reads(*roots: ast.AST) -> bool:
    """True if code takes something from standard input, by any of Python's ways; words and comments do not count."""
    nodes = [node for root in roots for node in ast.walk(root)]
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own = stored | {node.name for node in nodes if isinstance(node, _DEFINITIONS)}
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    return any(_is_read(node, own, arguments) for node in nodes)


def _is_read(node: ast.AST, own: AbstractSet[str], arguments: AbstractSet[str]) -> bool:
    match node:
        case ast.Name(id="input" | "stdin" as name, ctx=ast.Load()):
            return name not in own and name not in arguments
        case ast.Call(func=ast.Name(id="input")):
            return "input" not in own
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=0), *_]):
            return name in ("open", "read", "fdopen", "FileIO")
        case ast.Attribute(attr="stdin", ctx=ast.Load()) | ast.Attribute(value=ast.Name(id="fileinput")):
            return True
        case ast.Constant(value="/dev/stdin") | ast.alias(name="stdin", asname=str()):
            return True
    return False


def feigns_input(tree: ast.AST) -> bool:
    """True if code puts something of its own in place of standard input, as a demonstration or a test does."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                if any(_is_feigned(target, value) for target, value in zip(targets, values, strict=False)):
                    return True
            case ast.Assign(targets=targets, value=value):
                if any(_is_feigned(target, value) for target in targets):
                    return True
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
                texts = [arg.value for arg in args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                replaced = any(text.rpartition(".")[2] in ("input", "stdin") for text in texts)
                if replaced and name in ("patch", "object", "setattr"):
                    return True
    return False


def _is_feigned(target: ast.expr, value: ast.expr) -> bool:
    """True if an assignment replaces standard input by what neither reads it nor opens a file."""
    match target:
        case ast.Attribute(value=ast.Name(id=owner), attr="stdin" | "input" as name):
            is_replaced = owner != "self" if name == "stdin" else owner == "builtins"
            opens = any(isinstance(part, ast.Name) and part.id == "open" for part in ast.walk(value))
            return is_replaced and not opens and not reads(value)
    return False


def writes(nodes: Iterable[ast.AST]) -> bool:
    """True if one of the nodes prints, or writes to standard output."""
    for node in nodes:
        match node:
            case ast.Name(id="print" | "stdout", ctx=ast.Load()) | ast.Attribute(attr="stdout", ctx=ast.Load()):
                return True
            case ast.Call(func=ast.Name(id="write") | ast.Attribute(attr="write"), args=[ast.Constant(value=1), *_]):
                return True
    return False


def runs(tree: ast.Module) -> bool:
    """True if code does something as it stands: writes, or uses a function or class that it defines."""
    own = {node.name for node in tree.body if isinstance(node, _DEFINITIONS)}
    nodes = list(outer_nodes(tree))
    return writes(nodes) or any(isinstance(node, ast.Name) and node.id in own for node in nodes)


def put_before(head: str, text: str) -> str:
    """Code with other code before it, but behind what it imports from `__future__`."""
    tree = parsed(text)
    nodes = tree.body if tree is not None else []
    futures = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    lines = text.split("\n")
    at = (futures[-1].end_lineno or 0) if futures else 0
    return "\n".join([*lines[:at], head, *lines[at:]])


class Pieces:
    """The pieces of one reply, in their order, that help each other out with definitions."""

    def __init__(self, pieces: Sequence[Piece], known: AbstractSet[str]) -> None:
        self.pieces = pieces
        self._known = known | frozenset(dir(builtins))
        self._places: dict[str, dict[int, list[int]]] = {}
        for number, piece in enumerate(pieces):
            is_body = any(isinstance(node, ast.Return) for node in outer_nodes(piece.tree))
            for at, node in enumerate(() if is_body else piece.tree.body):
                for name in () if _is_main_guard(node) else bound(node):
                    self._places.setdefault(name, {}).setdefault(number, []).append(at)

    def joined(self, text: str, number: int) -> str:
        """Code with the imports, functions and values before it that it needs and other pieces define.

        `number` is the place of the code among the pieces. Of two definitions the later stands, if it is no stub; of
        two values the last before the code.
        """
        todo, own, taken, seen = needed(text), _names(text), set[tuple[int, int]](), set[str]()
        while todo := todo - own - self._known - seen:
            name = min(todo)
            seen.add(name)
            for place in set(self._supply(name, number)) - taken:
                taken.add(place)
                todo |= needed(self._source(place))
        helpers = "\n".join(self._source(place) for place in sorted(taken))
        return put_before(helpers, text) if helpers else text

    def is_driven(self, number: int) -> bool:
        """True if a piece itself reads input, or uses what another reads, or calls another's function on nothing."""
        piece = self.pieces[number]
        called = set(_called_on_nothing(piece.tree))
        for name in needed(piece.text) - self._known:
            nodes = [self.pieces[which].tree.body[at] for which, at in self._supply(name, number)]
            if any(name in called if isinstance(node, _DEFINITIONS) else reads(node) for node in nodes):
                return True
        return reads(piece.tree)

    def call_of(self, number: int) -> str | None:
        """The function of a piece that another piece calls without arguments."""
        own = {node.name for node in self.pieces[number].tree.body if isinstance(node, _FUNCTIONS)}
        others = [piece.tree for each, piece in enumerate(self.pieces) if each != number]
        return next((name for tree in others for name in _called_on_nothing(tree) if name in own), None)

    def _supply(self, name: str, number: int) -> list[tuple[int, int]]:
        """Statements of another piece that define a name; with one that reads input come all that do."""
        places = self._places.get(name) or self._places.get(_ANY, {})
        others = [each for each in places if each != number]
        if not others:
            return []
        which = max(others, key=lambda each: self._rank(each, places[each], number))
        body = self.pieces[which].tree.body
        if any(not isinstance(body[at], _LASTING) and reads(body[at]) for at in places[which]):
            also = [at for at, node in enumerate(body) if isinstance(node, ast.Assign) and reads(node)]
            return [(which, at) for at in {*places[which], *also}]
        return [(which, at) for at in places[which]]

    def _rank(self, which: int, places: Sequence[int], number: int) -> tuple[bool, bool, bool, int]:
        nodes = [self.pieces[which].tree.body[at] for at in places]
        lasts = any(isinstance(node, _LASTING) for node in nodes)
        return not is_stub(nodes[-1]), self.pieces[which].is_tagged, lasts or which < number, which

    def _source(self, place: tuple[int, int]) -> str:
        try:
            return ast.unparse(self.pieces[place[0]].tree.body[place[1]])
        except RecursionError:  # thousands of brackets or operators in one expression
            return ""


def _called_on_nothing(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[], keywords=[]):
                yield name


def _is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )


def _names(text: str) -> set[str]:
    tree = parsed(text)
    return {name for node in tree.body for name in bound(node)} if tree is not None else set()
