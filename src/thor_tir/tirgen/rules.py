"""The rules by which one raw trajectory is judged alone: each is a pure function to a reason for rejection, or None.

(Paper, section 2.2; specification, 3.3 and 3.5.) Rules that weigh samples against each other are in `selection.py`. The
released filter counts lines of a program; here every program is judged by its syntax tree, and nothing is executed.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass

from thor_tir.chat_template import CLOSES, OPENS
from thor_tir.dialect.dialect import Thinking
from thor_tir.grading.extract import extract_answer
from thor_tir.trajectory import PYTHON, Finish, Trajectory
from thor_tir.verdict import Outcome, Verdict

WINDOW = 20
"""Characters of prose that are compared for repetition, as in the released filter."""
_ESCAPED = re.compile(r"\\.", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A raw trajectory with what is known about it."""

    trajectory: Trajectory
    """Trajectory that is judged."""
    verdict: Verdict
    """Verdict on its answer."""
    no_tools_pass_rate: float | None = None
    """Share of right answers among samples without tools of the same question; None where none were drawn."""
    question: str = ""
    """Text of the question."""
    thinking: Thinking = Thinking.NONE
    """Form of the think tags in its text."""

    @property
    def num_tokens(self) -> int:
        """Length of the whole response in tokens, outputs included."""
        return sum(len(span) for step in self.trajectory.steps for span in step.spans)


def wrong_answer(candidate: Candidate) -> str | None:
    """Only answers that the grader accepts teach. A prompt that fills the context leaves no room for one."""
    if not candidate.trajectory.steps and candidate.trajectory.finish is Finish.TOKEN_LIMIT:
        return "prompt fills the context"
    outcome = candidate.verdict.outcome
    return None if outcome is Outcome.CORRECT else f"answer {outcome}"


def failed_calls(candidate: Candidate) -> str | None:
    """At least one call, and none that failed."""
    calls = candidate.trajectory.calls
    if not calls:
        return "no call"
    return "failed call" if any(step.failed for step in calls) else None


def bad_format(candidate: Candidate) -> str | None:
    """The model ended its turn; fences, think tags and dollars are in pairs; the answer stands in a box."""
    text = candidate.trajectory.response_text
    if candidate.trajectory.finish is not Finish.ENDED:
        return f"finish: {candidate.trajectory.finish}"
    if "```" in text:  # those of a program belong to its action, so that this one is open or opens no program
        return "stray fence"
    if not has_sound_thinking(text, candidate.thinking):
        return "think tags"
    if _ESCAPED.sub("", text).count("$") % 2:
        return "unbalanced $"
    if "\\boxed" not in text and "\\fbox" not in text:
        return "no box"
    if not (candidate.verdict.extracted or "").strip() or extract_answer(text) is None:
        return "empty box"
    return None


def has_sound_thinking(text: str, thinking: Thinking) -> bool:
    """Exactly one pair of tags around something, at the head of the response; none at all without a thinking turn."""
    opens, closes = text.count(OPENS), text.count(CLOSES)
    if thinking is Thinking.NONE:
        return not opens and not closes
    if closes != 1 or opens != (1 if thinking is Thinking.OWN else 0):
        return False
    before, _, thought = text.partition(CLOSES)[0].rpartition(OPENS)
    return not before.strip() and bool(thought.strip())


def trivial_code(candidate: Candidate, *, max_share: float, needs_import_or_control_flow: bool) -> str | None:
    """Programs that compute nothing teach the habit of calling, not its use. The reason is the first one's."""
    actions = (step.action for step in candidate.trajectory.calls)
    programs = [action.code for action in actions if action is not None and action.tool == PYTHON]
    faults = [fault_of(code, needs_import_or_control_flow=needs_import_or_control_flow) for code in programs]
    found = [fault for fault in faults if fault is not None]
    return found[0] if len(found) > max_share * len(programs) else None


def repetition(candidate: Candidate, max_repeats: int) -> str | None:
    """Prose that goes round in circles. Runs of blanks count as one, so indentation is no repetition."""
    text = " ".join(candidate.trajectory.response_text.split())
    if len(text) <= max_repeats:  # not enough places for so many windows
        return None
    windows = Counter(text[i : i + WINDOW] for i in range(len(text) - WINDOW + 1))
    return "repetition" if windows and max(windows.values()) > max_repeats else None


def bad_length(candidate: Candidate, *, min_tokens: int, max_tokens: int | None) -> str | None:
    """Neither shorter nor longer than asked, in tokens of the response."""
    if candidate.num_tokens < min_tokens:
        return "too short"
    return "too long" if max_tokens is not None and candidate.num_tokens > max_tokens else None


def easy_without_tools(candidate: Candidate, threshold: float) -> str | None:
    """Questions that the actor solves without tools as often as `threshold`."""
    rate = candidate.no_tools_pass_rate
    return "solved without tools" if rate is not None and rate >= threshold else None


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
