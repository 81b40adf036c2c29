"""The episode level: groups, the trajectories that count in them, and their rewards (paper, section 2.3.1).

Each filter is a function from an attempt to the cause for which it leaves the episode level, or None.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from thor_tir.errors import UsageError
from thor_tir.execution import CallSuccess
from thor_tir.grading.extract import extract_answer
from thor_tir.hooks import answer_now, load_spelled
from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.algorithms import Advantages, are_equal, group_advantages
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.growth import in_trees
from thor_tir.rl.resampling import resampled
from thor_tir.rl.samples import EPISODE, episode_row
from thor_tir.rl.shaping import Shape, as_they_are, credit_group
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Decode, Finish

NO_TREES: Mapping[str, str] = MappingProxyType({})
"""Trees of a run without any."""
DropRule = Callable[[Attempt], str | None]


def unscored(attempt: Attempt) -> str | None:
    """Without a reward there is no credit; this rule is no choice."""
    return "unscored" if attempt.reward is None else None


def no_room(attempt: Attempt) -> str | None:
    """Prompts that fill the model's context leave room for no token; this rule is no choice."""
    return None if attempt.trajectory.num_model_tokens else "prompt fills the context"


def failed_call(attempt: Attempt, rule: CallSuccess = "printed") -> str | None:
    """The fault may lie in a single call, which the step level repairs (paper, section 2.3.2)."""
    return "failed call" if any(step.fails(rule) for step in attempt.trajectory.steps) else None


def too_short(attempt: Attempt, min_tokens: int) -> str | None:
    """Abnormally short responses, observations counted (released code; it calls the filter abnormal length)."""
    length = sum(len(span) for step in attempt.trajectory.steps for span in step.spans)
    return "too short" if length <= min_tokens else None


def no_box(attempt: Attempt, window: int, decode: Decode) -> str | None:
    """No answer in a box that is not empty within the last tokens of what the model wrote (released code)."""
    written = [token for step in attempt.trajectory.steps for token in step.thought.span.token_ids]
    answer = extract_answer(decode(written[-window:]))
    return None if answer is not None and answer.strip() else "no box"


def void_turn(attempt: Attempt) -> str | None:
    """A turn that ran no program and gave no answer (SimpleTIR, arXiv 2509.02479); only a last turn runs none."""
    last = attempt.trajectory.steps[-1] if attempt.trajectory.steps else None
    is_void = last is None or (not last.is_call and extract_answer(last.thought.text) is None)
    return "void turn" if is_void else None


def truncated(attempt: Attempt) -> str | None:
    """Ended by the limit of tokens: its reward is about the limit (DAPO's overlong filter, arXiv 2503.14476)."""
    return "truncated" if attempt.trajectory.finish is Finish.TOKEN_LIMIT else None


def rules_of(
    names: Sequence[str],
    *,
    min_tokens: int,
    box_window: int,
    decode: Decode | None,
    call_success: CallSuccess = "printed",
) -> list[DropRule]:
    """The rules of these names in this order, between the two that always hold."""

    def lacks_box(attempt: Attempt) -> str | None:
        if decode is None:
            raise ValueError("the filter no-box reads the text of the last tokens; hand in `decode`")
        return no_box(attempt, box_window, decode)

    known: dict[str, DropRule] = {
        "failed-call": lambda attempt: failed_call(attempt, call_success),
        "too-short": lambda attempt: too_short(attempt, min_tokens),
        "no-box": lacks_box,
        "void-turn": void_turn,
        "truncated": truncated,
    }
    return [no_room, *(known[name] if name in known else own_rule(name, known) for name in names), unscored]


def own_rule(spec: str, known: Iterable[str] = ()) -> DropRule:
    """The rule of a function of one's own, from an attempt to a cause, or to True where its name is cause enough.

    Raises UsageError for one that cannot be loaded.
    """
    function = load_spelled("filter", spec, known=known)
    name = f"the filter {spec}"

    def rule(attempt: Attempt) -> str | None:
        cause = answer_now(name, function, attempt)
        if cause is None or ((is_truth := type(cause).__name__ in ("bool", "bool_")) and not cause):
            return None
        if is_truth:
            return spec
        if not isinstance(cause, str) or not cause.strip():
            raise UsageError(f"{name} returned {str(cause)[:80]!r}; it returns None to keep an attempt, or a cause")
        return cause

    return rule


Teaches = Callable[[Sequence[Attempt]], bool]
"""True for a group that gives rows."""


def teaching(config: EpisodeConfig, *, decode: Decode | None, call_success: CallSuccess) -> Teaches:
    """The test of `episode_rows`: enough members of a group are left by the filters, and their rewards differ."""
    rules = rules_of(
        config.filters,
        min_tokens=config.min_tokens,
        box_window=config.box_window,
        decode=decode,
        call_success=call_success,
    )

    def teaches(group: Sequence[Attempt]) -> bool:
        taken = resampled(group, config.num_generations, call_success)
        found = [a.reward for a in taken if a.reward is not None and not any(rule(a) is not None for rule in rules)]
        return len(found) >= config.quota and not are_equal(found)

    return teaches


def episode_rows(
    groups: Sequence[Sequence[Attempt]],
    config: EpisodeConfig,
    dropped: Counter[str],
    *,
    advantages: Advantages = group_advantages,
    shape: Shape = as_they_are,
    credits_equals: bool = False,
    roots: Mapping[str, str] = NO_TREES,
    decode: Decode | None = None,
    call_success: CallSuccess = "printed",
) -> list[TrainingSample]:
    """Rows of all groups (one group = the attempts at one problem).

    Trajectories with a failed call leave the episode level, since the fault may lie in a single call: they feed the
    step level. Unscored ones leave means and gradients alone. Groups whose rewards are all equal teach nothing.
    What is left out is counted in `dropped` by cause. `credits_equals` keeps groups of equal rewards that `shape`
    credits all the same; `roots` names the tree of each trajectory, where trees are compared. `decode` is read by the
    filter `no-box` alone.
    """
    rules = rules_of(
        config.filters,
        min_tokens=config.min_tokens,
        box_window=config.box_window,
        decode=decode,
        call_success=call_success,
    )
    rows: list[TrainingSample] = []
    for group in groups:
        taken = resampled(group, config.num_generations, call_success)
        if gone := len(group) - len(taken):
            dropped["episode: resampled away"] += gone
        members = [attempt for attempt in taken if _counts(attempt, rules, dropped)]
        rewards = [attempt.reward for attempt in members if attempt.reward is not None]
        if len(members) < config.quota:
            dropped["episode: too few survivors"] += len(members)
            continue
        agrees = are_equal(rewards)
        if agrees and not credits_equals:
            dropped[f"episode: all {_NAMED.get(rewards[0], 'equal')}"] += len(members)
            continue
        credits = in_trees(members, rewards, roots, advantages) if roots else advantages(rewards)
        made = [
            episode_row(
                attempt.trajectory,
                advantage=advantage,
                nll_weight=config.nll_weight,
                group=f"episode {attempt.problem.id}",
            )
            for attempt, advantage in zip(members, credits, strict=True)
        ]
        shaped = shape(credit_group(EPISODE, rewards, credits, members, made), config.nll_weight)
        if agrees and not any(row.leaves_gradient for row in shaped):
            dropped[f"episode: all {_NAMED.get(rewards[0], 'equal')}"] += len(members)
            continue
        rows += shaped
    return rows


_NAMED = {1.0: "right", 0.0: "wrong"}
"""Names of the rewards that an answer alone earns."""


def _counts(attempt: Attempt, rules: Sequence[DropRule], dropped: Counter[str]) -> bool:
    cause = next((cause for rule in rules if (cause := rule(attempt)) is not None), None)
    if cause is not None:
        dropped[f"episode: {cause}"] += 1
    return cause is None
