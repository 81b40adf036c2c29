"""The multi-stage filter: which raw trajectories become training data (paper, section 2.2; specification, 3.3 and 3.5).

Every rule is a pure function from a candidate to a reason for rejection, or None. `sieve` applies the stages in order
and keeps the count of each reason. The same candidates and seed give the same selection.
"""

import ast
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from thor_tir.trajectory import Finish, Trajectory
from thor_tir.verdict import Outcome, Verdict


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """What is kept."""

    needs_import_or_control_flow: bool = False
    """The paper's rule for code quality. Off, a program need only compute: on arithmetic the rule would drop most."""
    max_trivial_share: float = 0.0
    """Share of a sample's programs that may be trivial."""
    solved_in_words: float = 1.0
    """Drop a question whose tool-free samples are right at least this often; above 1 drops none."""
    per_question: int = 1
    max_repeats: int = 20
    """Occurrences of one 20-character window of prose that are still no repetition."""
    one_call_share: float = 0.5
    """At most this share of the selection may make a single call; more is sampled away."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A raw trajectory with what is known about it."""

    trajectory: Trajectory
    verdict: Verdict
    words_pass_rate: float | None = None
    """Of tool-free samples of the same question; None where none were drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one stage of the filter left, and why it dropped the rest."""

    name: str
    kept: int
    rejected: Mapping[str, int]


Rule = Callable[[Candidate], str | None]


def sieve(candidates: Sequence[Candidate], config: FilterConfig) -> tuple[list[Candidate], list[Stage]]:
    """The selection, and one record for every stage."""
    rng = Random(config.seed)
    stages = [Stage(name="generated", kept=len(candidates), rejected={})]
    kept = list(candidates)
    rules: Sequence[tuple[str, Rule]] = (
        ("correct answer", wrong_answer),
        ("calls", failed_calls),
        ("format", bad_format),
        ("code quality", lambda c: trivial_code(c, config)),
        ("repetition", lambda c: repetition(c, config.max_repeats)),
        ("needs a tool", lambda c: easy_in_words(c, config.solved_in_words)),
    )
    for name, rule in rules:
        reasons = [rule(candidate) for candidate in kept]
        kept = [c for c, reason in zip(kept, reasons, strict=True) if reason is None]
        stages.append(Stage(name=name, kept=len(kept), rejected=dict(Counter(r for r in reasons if r is not None))))
    for name, select in (("one per question", _per_question), ("balance", _balance)):
        chosen = select(kept, config, rng)
        dropped = len(kept) - len(chosen)
        kept = chosen
        stages.append(Stage(name=name, kept=len(kept), rejected={name: dropped} if dropped else {}))
    return kept, stages


def wrong_answer(candidate: Candidate) -> str | None:
    """Only answers that the grader accepts teach."""
    outcome = candidate.verdict.outcome
    return None if outcome is Outcome.CORRECT else f"answer {outcome}"


def failed_calls(candidate: Candidate) -> str | None:
    """At least one call, and none that failed."""
    calls = candidate.trajectory.calls
    if not calls:
        return "no call"
    return "failed call" if any(step.failed for step in calls) else None


def bad_format(candidate: Candidate) -> str | None:
    """The turn was ended by the model, fences are closed, and the answer's box is not empty."""
    if candidate.trajectory.finish is not Finish.ENDED:
        return f"finish: {candidate.trajectory.finish}"
    if "```" in candidate.trajectory.response_text:
        return "stray fence"
    if not (candidate.verdict.extracted or "").strip():
        return "empty box"
    return None


def trivial_code(candidate: Candidate, config: FilterConfig) -> str | None:
    """Programs that compute nothing teach the habit of calling, not its use."""
    programs = [step.action.code for step in candidate.trajectory.calls if step.action is not None]
    is_good = has_import_or_control_flow if config.needs_import_or_control_flow else computes
    trivial = sum(not is_good(code) for code in programs)
    return "trivial code" if trivial > config.max_trivial_share * len(programs) else None


def repetition(candidate: Candidate, max_repeats: int) -> str | None:
    """Prose that goes round in circles. Runs of blanks count as one, so indentation is no repetition."""
    text = " ".join(candidate.trajectory.response_text.split())
    windows = Counter(text[i : i + 20] for i in range(len(text) - 19))
    return "repetition" if windows and max(windows.values()) > max_repeats else None


def easy_in_words(candidate: Candidate, threshold: float) -> str | None:
    """Questions that pure reasoning solves as often as `threshold`."""
    rate = candidate.words_pass_rate
    return "solved in words" if rate is not None and rate >= threshold else None


def computes(code: str) -> bool:
    """Whether a program that parses does more than print what it was given."""
    tree = _parsed(code)
    return tree is not None and any(_is_computation(node) for node in ast.walk(tree))


def has_import_or_control_flow(code: str) -> bool:
    """The paper's rule: a library that is used, or a loop, branch, comprehension or function."""
    tree = _parsed(code)
    if tree is None:
        return False
    flow = (ast.For, ast.While, ast.If, ast.comprehension, ast.FunctionDef, ast.Lambda)
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return any(isinstance(node, flow) for node in ast.walk(tree)) or bool(imported & used)


def _parsed(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError):
        return None


def _is_computation(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return not (isinstance(node.func, ast.Name) and node.func.id in ("print", "str", "repr"))
    return isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare | ast.comprehension | ast.For | ast.While)


def _per_question(candidates: Sequence[Candidate], config: FilterConfig, rng: Random) -> list[Candidate]:
    """A random choice among the samples of each question, over the whole set at once."""
    by_question: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_question.setdefault(candidate.trajectory.problem_id, []).append(candidate)
    chosen = [
        rng.sample(group, config.per_question) if len(group) > config.per_question else group
        for group in by_question.values()
    ]
    return [candidate for group in chosen for candidate in group]


def _balance(candidates: Sequence[Candidate], config: FilterConfig, rng: Random) -> list[Candidate]:
    """Down-sample single-call trajectories to their share, in the order in which they came."""
    single = [i for i, c in enumerate(candidates) if len(c.trajectory.calls) == 1]
    several = len(candidates) - len(single)
    if config.one_call_share >= 1 or not several:
        return list(candidates)
    room = int(several * config.one_call_share / (1 - config.one_call_share))
    dropped = set(rng.sample(single, max(0, len(single) - room)))
    return [c for i, c in enumerate(candidates) if i not in dropped]
