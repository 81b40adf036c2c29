"""Tries a function of one's own on samples, as a run would call it: problems, trajectories, repairs and groups."""

import inspect
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from thor_tir.errors import MachineFault, UsageError
from thor_tir.execution import ExecutionResult, Status
from thor_tir.hooks import CONTRACTS, HookKind, found_hook, is_hook, offered, spelling_of, waited_for
from thor_tir.inference.best_of_n import selector
from thor_tir.problem import Problem
from thor_tir.problems.sources import Split, load_problems
from thor_tir.problems.verifiers_tasks import PREFIX
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.episode import episode_rows, own_rule
from thor_tir.rl.repair_rewards import judged_repairs, load_repair_rewards
from thor_tir.rl.shaping import load_shape
from thor_tir.rollout.rewards import judged, load_rewards
from thor_tir.rollout.sample_many import Attempt
from thor_tir.rollout.toolbox import Toolbox
from thor_tir.tools.loading import load_tools
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

HOSTILE = "\x1b[2J\u202e\x00 \\boxed{} ``` </answer> {0} %s " + "9" * 400
"""Text as a model may write it, which is no answer and must break nothing."""
SLOW_S = 0.05
"""Seconds of a call, not async, above which everything else is noticeably held up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One case that a function was tried on."""

    case: str
    """Name of the case."""
    result: str
    """Result of the call, or the sentence about what is wrong with it."""
    is_fine: bool
    """True where the contract was kept."""
    seconds: float
    """Seconds of the slowest call."""
    remarks: tuple[str, ...] = ()
    """Sentences about what is allowed and may surprise."""


Case = tuple[str, Callable[[], object]]
"""Name of a case, and the call as a run makes it."""


def check_plugin(spec: str, kind: HookKind, *, calls: int = 2, arguments: str = "") -> list[Tried]:
    """Try a function on each case of its kind, `calls` times. Raises UsageError for one that cannot be loaded.

    `arguments` is a JSON object with which a tool is called; without it a tool is loaded alone.
    """
    if arguments and kind != "tool":
        raise UsageError(f"--arguments are those of a tool, and {spec} is tried as a {kind}")
    cases = [*_CASES[kind](spec), *(_tool_call(spec, arguments) if arguments else ())]
    tried = [_tried(name, call, calls, is_async=_is_async(spec, kind)) for name, call in cases]
    if kind == "reward" and all(each.result == "None" for each in tried):
        said = f"the reward {spec} returned None for every sample; does it end with `return`?"
        return [replace(each, result=said, is_fine=False) for each in tried]
    return tried


def kind_of_plugin(spec: str) -> HookKind:
    """The kind of what stands under a name: by the entry points that offer it, or by the arguments that it takes.

    Raises UsageError where that does not tell.
    """
    name = spelling_of(spec).name
    if not is_hook(name):
        kinds = [kind for kind in CONTRACTS if name in offered(kind)]
        if len(kinds) == 1:
            return kinds[0]
        said = f"is offered as {', '.join(kinds)}" if kinds else "is offered by no installed package"
        raise UsageError(f"{name} {said}; say --kind, and spell a function as module:function or file.py:function")
    if name.startswith(PREFIX):
        return "reward"
    found = found_hook("tool", name)
    if inspect.isclass(found) or not callable(found):
        return "tool"
    given = tuple(inspect.signature(found).parameters)
    taking = {kind: each.takes for kind, each in CONTRACTS.items() if each.takes}
    kinds = [kind for kind, takes in taking.items() if given[: len(takes)] == takes]
    if not kinds:
        wanted = "; ".join(f"{kind} ({', '.join(takes)})" for kind, takes in taking.items())
        raise UsageError(
            f"the arguments of {name} ({', '.join(given) or 'none'}) do not tell its kind: say --kind, or name them as "
            f"a kind does: {wanted}; a tool is tried by --kind tool"
        )
    return max(kinds, key=lambda kind: len(taking[kind]))


def _is_async(spec: str, kind: HookKind) -> bool:
    if kind == "tool":
        return True  # its call is async, or works in a thread
    name = spelling_of(spec).name
    if not (is_hook(name) or name in offered(kind)):
        return False  # a packaged one
    return name.startswith(PREFIX) or inspect.iscoroutinefunction(found_hook(kind, name))


def _tried(name: str, call: Callable[[], object], calls: int, *, is_async: bool) -> Tried:
    said = io.StringIO()
    results: list[object] = []
    slowest = 0.0
    for _ in range(calls):
        began = perf_counter()
        try:
            with redirect_stdout(said):
                results.append(call())
        except (UsageError, MachineFault) as error:
            return Tried(case=name, result=str(error), is_fine=False, seconds=perf_counter() - began)
        slowest = max(slowest, perf_counter() - began)
    remarks = []
    if len(set(map(repr, results))) > 1:
        remarks.append("the same call gave different results: runs with it cannot be repeated to the bit")
    if said.getvalue():
        line = said.getvalue().strip().split("\n")[0]
        remarks.append(f"it prints ({line[:40]!r}): that mixes with what the command prints")
    if slowest > SLOW_S and not is_async:
        remarks.append("a call takes long, and everything waits for it: make the function async")
    return Tried(case=name, result=_short(results[0]), is_fine=True, seconds=slowest, remarks=tuple(remarks))


def _short(result: object) -> str:
    text = f"{result:g}" if isinstance(result, float) else str(result)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---- samples


def _span(text: str, author: Author = Author.MODEL) -> Span:
    ids = tuple(text.encode("utf-8", "replace")[:64]) or (0,)
    return Span(token_ids=ids, author=author, logprobs=(-0.5,) * len(ids) if author is Author.MODEL else None)


def _said(text: str) -> Step:
    return Step(thought=Thought(text=text, span=_span(text)))


def _called(code: str, output: str, status: Status = Status.OK) -> Step:
    result = ExecutionResult(status=status, stdout=output, error=None if status is Status.OK else "NameError")
    return Step(
        thought=Thought(text="I compute it.\n", span=_span("I compute it.\n")),
        action=Action(code=code, span=_span(code)),
        observation=Observation(text=output, span=_span(output, Author.ENVIRONMENT), result=result),
    )


def _attempt(name: str, steps: Sequence[Step], outcome: Outcome, extracted: str | None = None) -> Attempt:
    problem = Problem(id=name, question="Compute 3 + 4.", answer="7", source="check", extra={"level": 2})
    trajectory = Trajectory(
        id=name,
        problem_id=name,
        prompt=_span("Compute 3 + 4.", Author.PROMPT),
        steps=tuple(steps),
        finish=Finish.ENDED if steps else Finish.TOKEN_LIMIT,
    )
    verdict = Verdict(outcome=outcome, extracted=extracted, reason="a sample")
    return Attempt(problem=problem, trajectory=trajectory, verdict=verdict)


_FAILED = _called("print(x)\n", "NameError: name 'x' is not defined", Status.RUNTIME)
_GOOD = _called("print(3 + 4)\n", "7\n")
_ATTEMPTS = (
    _attempt("right", [_GOOD, _said("So it is \\boxed{7}.")], Outcome.CORRECT, "7"),
    _attempt("wrong", [_said("It is \\boxed{8}.")], Outcome.WRONG, "8"),
    _attempt("no answer", [_GOOD, _said("Hm.")], Outcome.WRONG),
    _attempt("unscored", [_said("It is \\boxed{7}.")], Outcome.UNSCORED, "7"),
    _attempt("empty", [], Outcome.WRONG),
    _attempt("failing calls", [_FAILED, _FAILED, _GOOD, _said("\\boxed{7}")], Outcome.CORRECT, "7"),
    _attempt("hostile text", [_called(HOSTILE, HOSTILE), _said(HOSTILE)], Outcome.WRONG, HOSTILE),
)
"""Attempts of every kind that a run meets."""


# ---- cases by kind


def _reward_cases(spec: str) -> Iterator[Case]:
    rewards = load_rewards([spec])
    attempts: Sequence[Attempt] = _ATTEMPTS
    if spec.startswith(PREFIX):  # it judges its own tasks alone
        (problem, *_) = load_problems(spec, count=1).problems
        attempts = tuple(replace(each, problem=problem) for each in attempts if each.trajectory.steps)
    for each in attempts:

        def call(each: Attempt = each) -> object:
            if not rewards:  # `exact` alone
                return each.reward
            found = waited_for(judged(rewards, each.problem, each.trajectory, each.verdict))
            return found.total if len(found.parts) < 2 else dict(found.parts)

        yield each.trajectory.id, call


def _step_reward_cases(spec: str) -> Iterator[Case]:
    rewards = load_repair_rewards([spec])
    problem = _ATTEMPTS[0].problem
    silent = _called("pass\n", "", Status.OK_NO_OUTPUT)
    groups = {
        "two that ran": [_GOOD, _GOOD],
        "one failed": [_GOOD, _FAILED],
        "one made no call": [_GOOD, _said("No.")],
        "one is left": [_GOOD],
        "silent and hostile": [silent, _called(HOSTILE, HOSTILE)],
    }
    for name, repairs in groups.items():

        def call(repairs: list[Step] = repairs) -> object:
            return [each.total for each in waited_for(judged_repairs(rewards, problem, _FAILED, repairs))]

        yield name, call


def _selector_cases(spec: str) -> Iterator[Case]:
    found = selector(spec)
    groups = {"all samples": _ATTEMPTS, "one alone": _ATTEMPTS[:1], "two alike": (_ATTEMPTS[1], _ATTEMPTS[1])}
    for name, candidates in groups.items():
        yield name, lambda candidates=candidates: [_joined(each) for each in found.rank(candidates, {})]  # type: ignore[misc]


def _joined(score: Sequence[float]) -> str:
    return "/".join(f"{number:g}" for number in score)


def _filter_cases(spec: str) -> Iterator[Case]:
    rule = own_rule(spec)
    for each in _ATTEMPTS:
        yield each.trajectory.id, lambda each=each: rule(each) or "kept"  # type: ignore[misc]


def _advantage_cases(spec: str) -> Iterator[Case]:
    shape = load_shape(spec)
    right, wrong, unanswered, *_ = _ATTEMPTS
    groups = {"right and wrong": (right, wrong), "one of three": (right, wrong, unanswered)}
    for name, group in groups.items():

        def call(group: Sequence[Attempt] = group) -> object:
            rows = episode_rows([group], EpisodeConfig(), Counter(), shape=shape)
            return [round(row.terms[0].advantage, 3) for row in rows]

        yield name, call


def _problem_cases(spec: str) -> Iterator[Case]:
    for split in Split:

        def call(split: Split = split) -> object:
            found = load_problems(spec, split=split, count=3, seed=1)
            return "; ".join(f"{each.question[:30]!r} -> {each.answer[:12]!r}" for each in found.problems)

        yield f"three of {split}", call


def _tool_cases(spec: str) -> Iterator[Case]:
    def call() -> object:
        (tool,) = load_tools([spec])
        return f"{tool.spec.name}: {tool.spec.description}"

    yield "name, description and schema", call


def _tool_call(spec: str, arguments: str) -> Iterator[Case]:
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise UsageError(f"--arguments must be a JSON object such as '{{\"key\": 1}}', found {arguments!r:.80}")

    def call() -> object:
        tools = load_tools([spec])
        action = Action(code=arguments, span=_span(arguments), tool=tools[0].spec.name)
        result = waited_for(Toolbox(tools).run(action, _NO_SANDBOX))
        return result.stdout if result.status is Status.OK else f"failed call, {result.stderr.strip() or result.status}"

    yield f"called with {arguments}", call


_NO_SANDBOX: Any = None
"""Place of a sandbox, which no tool beside Python asks."""


_CASES: dict[HookKind, Callable[[str], Iterator[Case]]] = {
    "reward": _reward_cases,
    "step-reward": _step_reward_cases,
    "selector": _selector_cases,
    "filter": _filter_cases,
    "advantage": _advantage_cases,
    "problems": _problem_cases,
    "tool": _tool_cases,
}
