"""From a model's response to the program that is tested: our way, and the ways of EvalPlus and of LiveCodeBench.

Ours: fenced blocks tagged as Python, then other blocks, then bare code between prose, of each the last that fits what
the task needs, with the definitions that it takes from the others. The other two follow what their authors' runners do,
faults included, for numbers that stand beside theirs; no code of theirs is here.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from thor_tir.eval.code.pieces import (
    Piece,
    Pieces,
    Strength,
    bound,
    feigns_input,
    outer_nodes,
    parsed,
    piece_of,
    put_before,
    reads,
    runs,
    strength,
    writes,
)
from thor_tir.grading.extract import after_thoughts
from thor_tir.problems.code_tasks import CodeTask

ExtractorName = Literal["thor", "evalplus", "livecodebench"]

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif __name__", "\nprint", "\nassert", "\n```", "\n@")
"""Where the continuation of a function by a base model ends (arXiv 2107.03374, section 2.1, and what models add)."""

_FENCE = re.compile(r"(?P<before>[ \t>]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_BARE_FENCE = re.compile(
    r"^[ \t>]*(?:`{3,}|~{3,})[ \t]*(?:python[\d.]*|py[\d.]*)?[ \t]*|[ \t]*(?:`{3,}|~{3,})[ \t]*$", re.IGNORECASE
)
_PYTHON = re.compile(r"\{?\.?(?:i?python|py)[\d.]*\b", re.IGNORECASE)
_CODE_BEGINS = re.compile(
    r"[ \t]+\S|(?:import|from|def|class|async|for|while|if|try|with|print)\b|@|[A-Za-z_][\w.\[\], ]*=|\w+\("
)
_MOST_FENCES = 20
"""Fences that are tried as the end of one block."""
_READY = 4
"""The rank of a program that reads its input, writes, and runs."""
_ENDLESS = ("was never closed", "unterminated triple-quoted", "unexpected EOF", "expected an indented block")
"""In Python's words: more lines could still make it a program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FencedBlock:
    """A fenced block of a text."""

    text: str
    """Lines between the fences, without the indentation of the first fence."""
    is_tagged: bool
    """True if its first fence says Python, False if it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One piece among the others of its kind."""

    pieces: Pieces
    """All of its kind, in their order."""
    number: int
    """Its place among them."""

    @property
    def piece(self) -> Piece:
        return self.pieces.pieces[self.number]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """The code of a reply."""

    fenced: Pieces
    """Blocks that Python can read."""
    bare: Pieces
    """Code outside of blocks, or of blocks that hold more than code."""

    def places(self) -> list[_Place]:
        """Tagged blocks, then other blocks, then bare code, of each the last first."""
        fenced = [_Place(pieces=self.fenced, number=number) for number in range(len(self.fenced.pieces))]
        bare = [_Place(pieces=self.bare, number=number) for number in range(len(self.bare.pieces))]
        tagged = [place for place in fenced if place.piece.is_tagged]
        untagged = [place for place in fenced if not place.piece.is_tagged]
        return tagged[::-1] + untagged[::-1] + bare[::-1]


def find_program(task: CodeTask, response: str) -> str | None:
    """The program of a response; None for mere words. Only what follows `</think>` counts where there is one.

    A block or bare code fits if it is Python and defines the entry point, is the body of the function whose head the
    prompt gives, or reads its input where the task has no entry point. Where nothing fits, the last block that is
    Python stands, then the last block. Code without the head of a prompt that is to be continued keeps its imports,
    and imports, functions and values that other blocks define stay with the code that needs them.
    """
    answer = after_thoughts(response)
    blocks, bare = _blocks(answer), _bare_code(answer)
    known = {name for node in _before_function(task) for name in bound(node)}
    reply = _Reply(
        fenced=Pieces([piece for each in blocks if (piece := piece_of(each.text, is_tagged=each.is_tagged))], known),
        bare=Pieces([piece for each in bare if (piece := piece_of(each, is_tagged=False))], known),
    )
    tagged = [block.text for block in blocks if block.is_tagged]
    untagged = [block.text for block in blocks if not block.is_tagged]
    if not task.entry_point:
        return _reader(reply) or next(reversed(tagged), None)
    if (program := _function(task, reply, [*bare, *untagged, *tagged])) is not None:
        return program
    readable = [text for text in (*bare, *untagged, *tagged) if _is_code(text)]
    return next(iter([*reversed(readable), *reversed(tagged), *reversed(untagged)]), None)


def program_from_completion(task: CodeTask, completion: str) -> str:
    """The text that a base model wrote right behind the prompt, up to the first stop sequence.

    For a prompt without code the completion is the program.
    """
    return task.prompt + cut_at_stops(completion) if task.is_continued else completion


def cut_at_stops(completion: str) -> str:
    """The completion up to where the function's body has ended."""
    ends = [at for stop in STOPS if (at := completion.find(stop)) >= 0]
    return completion[: min(ends)] if ends else completion


def _function(task: CodeTask, reply: _Reply, texts: Sequence[str]) -> str | None:
    """The program around the last definition of the entry point, else around its last body, else its last stub."""
    found = max(reply.places(), key=lambda place: strength(place.piece.tree, task.entry_point), default=None)
    how = strength(found.piece.tree, task.entry_point) if found is not None else Strength.NONE
    if how < Strength.VALUE and (body := _from_body(task, texts)) is not None:
        return reply.fenced.joined(body, len(reply.fenced.pieces))
    if found is None or how is Strength.NONE:
        return None
    program = found.pieces.joined(found.piece.text, found.number)
    return put_before(_imports(task), program) if task.is_continued else program


def _from_body(task: CodeTask, texts: Sequence[str]) -> str | None:
    """The prompt's function with the last of the texts that is a body of it."""
    head = task.prompt.rstrip(" \t")
    for text in reversed(texts) if task.is_continued else ():
        if "return" in text or "yield" in text:
            bodies = (text, textwrap.indent(textwrap.dedent(text), "    "), f"    {text.strip()}\n")
            for body in bodies:
                if _has_body(head + body, task.entry_point):
                    return head + body
    return None


def _reader(reply: _Reply) -> str | None:
    """The last program that reads its input and writes, else the one that comes nearest to it."""
    best, chosen = 0, None
    for place in reply.places():
        program = place.pieces.joined(place.piece.text, place.number)
        tree = parsed(program)
        if tree is not None and not runs(tree) and (name := place.pieces.call_of(place.number)):
            program += f"\n{name}()\n" if writes(ast.walk(tree)) else f"\nprint({name}())\n"
        if (rank := _readiness(place, program)) > best:
            best, chosen = rank, program
        if best == _READY:
            break
    return chosen


def _readiness(place: _Place, program: str) -> int:
    """From `_READY` for a program that reads, writes and runs down to 0 for what is none."""
    tree, own = parsed(program), place.piece.tree
    if tree is None or not (place.piece.is_tagged or _is_code(place.piece.text)):
        return 0
    has_output = writes(ast.walk(tree))
    if feigns_input(own) or not (reads(own) or place.pieces.is_driven(place.number)):
        return 2 if {"solve", "main"} & {name for node in own.body for name in bound(node)} else int(has_output)
    return _READY if reads(tree) and has_output and runs(tree) else 3 if has_output else 2


def _has_body(program: str, entry_point: str) -> bool:
    """True if the program's last statement defines the function, and that returns something itself."""
    tree = parsed(program)
    last = tree.body[-1] if tree is not None and tree.body else None
    if not isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef) or last.name != entry_point:
        return False
    return any(isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) for node in outer_nodes(*last.body))


def _blocks(text: str) -> list[_FencedBlock]:
    """Python's fenced blocks and those without a tag, in their order; the last may be open."""
    lines, found, at = text.split("\n"), [], 0
    while at < len(lines):
        opening = _FENCE.match(lines[at].rstrip())
        if opening is None:
            at += 1
            continue
        ends = list(_closing(lines, at + 1, opening["mark"])) or [len(lines)]
        info = opening["info"].strip()
        bodies = {end: _unindented(lines[at + 1 : end], opening["before"]) for end in ends[:_MOST_FENCES]}
        # A fence inside a docstring closes nothing: the block goes on to the first end at which it is Python.
        is_python = not info or _PYTHON.match(info)
        end = next(
            (end for end, body in bodies.items() if is_python and body.strip() and parsed(textwrap.dedent(body))),
            ends[0],
        )
        if is_python:
            found.append(_FencedBlock(text=bodies[end], is_tagged=bool(info)))
        at = end + 1
    return found


def _closing(lines: Sequence[str], start: int, mark: str) -> Iterator[int]:
    """Lines that could close a block: nothing but the same fence, at least as long."""
    for number in range(start, len(lines)):
        line = lines[number].strip(" \t>\r")
        if line.startswith(mark) and not line.strip(mark[0]):
            yield number


def _unindented(lines: Sequence[str], before: str) -> str:
    """Lines of a block without what stands before its first fence: marks of a quotation, the indentation of a list."""
    quoted, width = before.count(">"), len(before.expandtabs(4))
    clean = []
    for line in lines:
        line = line.rstrip("\r")
        for _ in range(quoted):
            line = line.lstrip(" ").removeprefix(">").removeprefix(" ")
        if width and not quoted:
            line = line.expandtabs(4)
            line = line[min(width, len(line) - len(line.lstrip(" "))) :]
        clean.append(line)
    return "\n".join(clean) + "\n"


def _bare_code(text: str) -> list[str]:
    """Runs of lines that are Python, each as long as can be, without stray fences and the words around them."""
    lines = [_BARE_FENCE.sub("", line) if _BARE_FENCE.search(line) else line for line in text.split("\n")]
    pieces, at = [], 0
    while at < len(lines):
        end = _end_of_code(lines, at) if _CODE_BEGINS.match(lines[at]) else at
        piece = _without_words("\n".join(lines[at:end]))
        if piece.strip():
            pieces.append(f"{piece}\n")
        at = max(end, at + 1)
    return pieces


def _end_of_code(lines: Sequence[str], start: int) -> int:
    """The end of the longest run of lines from `start` that Python can read; `start` where there is none."""
    width, size = _margin(lines[start]), 40
    limit = next((n for n in range(start, len(lines)) if lines[n].strip() and _margin(lines[n]) < width), len(lines))
    while True:  # of a long text mostly a few lines decide
        window = lines[start : min(limit, start + size)]
        num, is_open = _num_readable(window, head="if True:\n" if width else "")
        if start + size >= limit or (num < len(window) and not is_open):
            return start + num
        size *= 8


def _num_readable(lines: Sequence[str], *, head: str) -> tuple[int, bool]:
    """Number of the first lines that Python can read together, and True if more lines could make it more."""
    num, is_open = len(lines), False
    while num:
        try:
            ast.parse(head + "\n".join(lines[:num]))
            break
        except SyntaxError as error:  # no run that holds the line of the error can be read
            is_open = is_open or any(words in str(error) for words in _ENDLESS)
            num = min(num - 1, max(0, (error.lineno or 1) - 1 - bool(head)))
        except (ValueError, RecursionError, MemoryError):
            return 0, False
    return num, is_open


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip())


def _without_words(text: str) -> str:
    """Code without the lines at its end that Python reads as names and values, as it reads `Done` or `Note: this`."""
    tree = parsed(text) or parsed(textwrap.dedent(text))
    if tree is None:
        return text
    body = list(tree.body)
    while body and _is_words(body[-1]):
        body.pop()
    return "\n".join(text.split("\n")[: body[-1].end_lineno]) if body else ""


def _is_words(node: ast.stmt) -> bool:
    """True for a statement that does nothing: a name, a value, a comparison, or an annotation of nothing."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Await | ast.Yield)


def _is_code(text: str) -> bool:
    """True if Python can read it, and it ends as no plain text can: other than by a name or a value."""
    tree = parsed(text)
    return tree is not None and bool(tree.body) and not _is_words(tree.body[-1])


def _before_function(task: CodeTask) -> list[ast.stmt]:
    """The imports and helpers before the function that a prompt asks to complete."""
    tree = parsed(task.prompt) if task.is_continued else None
    return [] if tree is None else tree.body[:-1]


def _imports(task: CodeTask) -> str:
    return "\n".join(ast.unparse(node) for node in _before_function(task))


def evalplus_program(task: CodeTask, response: str) -> str | None:
    """As EvalPlus sanitises: of all runs of lines that are Python the longest, and of it only what the function needs.

    Imports stay, and definitions and assignments that the entry point reaches; a function must return something. What
    the prompt imports is not added. Without an entry point every definition stays.
    """
    lines = response.split("\n")
    best: list[str] = []
    for start in range(len(lines)):
        end = _end_of_code(lines, start) if lines[start].strip() and not lines[start][:1].isspace() else start
        if sum(bool(line.strip()) for line in lines[start:end]) > sum(bool(line.strip()) for line in best):
            best = list(lines[start:end])
    tree = parsed("\n".join(best))
    if tree is None or not tree.body:
        return None
    named = {name: node for node in tree.body for name in _names_bound(node)}
    wanted = _reached(task.entry_point.partition(".")[0], named) if task.entry_point else set(named)
    kept = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) or any(name in wanted for name in _names_bound(node))
    ]
    return "\n".join(ast.unparse(node) for node in kept) or None


def _names_bound(node: ast.stmt) -> list[str]:
    """Names that a definition or an assignment of a module binds; a function without `return` binds none."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name] if any(isinstance(inner, ast.Return) for inner in ast.walk(node)) else []
        case ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _reached(name: str, named: Mapping[str, ast.stmt]) -> set[str]:
    """Names that a definition uses, itself included, and what those use."""
    found, todo = set(), [name]
    while todo:
        if (name := todo.pop()) in named and name not in found:
            found.add(name)
            todo += [inner.id for inner in ast.walk(named[name]) if isinstance(inner, ast.Name)]
    return found


def livecodebench_program(task: CodeTask, response: str) -> str | None:
    """As LiveCodeBench extracts: the lines between the last two lines that hold a fence, whatever they are."""
    lines = response.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else None


EXTRACTORS: Mapping[ExtractorName, Callable[[CodeTask, str], str | None]] = {
    "thor": find_program,
    "evalplus": evalplus_program,
    "livecodebench": livecodebench_program,
}
"""The ways from a response to a program, by the name that `--extractor` knows."""
