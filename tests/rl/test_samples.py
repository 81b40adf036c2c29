"""Which tokens are trained, and with which terms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.execution import ExecutionResult, Status
from thor_tir.rl.samples import episode_row, step_row
from thor_tir.trajectory import Action, Author, Finish, Observation, Prefix, Span, Step, Thought, Trajectory

RESULT = ExecutionResult(status=Status.OK, stdout="1")
IDS = st.lists(st.integers(0, 99), max_size=6).map(tuple)


def sampled(ids: tuple[int, ...]) -> Span:
    return Span(token_ids=ids, author=Author.MODEL, logprobs=tuple(-0.01 * (i + 1) for i in ids))


def environment(ids: tuple[int, ...]) -> Span:
    return Span(token_ids=ids, author=Author.ENVIRONMENT)


def called(thought: tuple[int, ...], code: tuple[int, ...], seen: tuple[int, ...]) -> Step:
    return Step(
        thought=Thought(text="", span=sampled(thought)),
        action=Action(code="", span=sampled(code)),
        observation=Observation(text="", span=environment(seen), result=RESULT),
    )


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    steps = [called(*parts) for parts in draw(st.lists(st.tuples(IDS, IDS, IDS), max_size=3))]
    steps.append(Step(thought=Thought(text="", span=sampled(draw(IDS)))))
    prompt = Span(token_ids=(7, *draw(IDS)), author=Author.PROMPT)
    return Trajectory(id="t", problem_id="p", prompt=prompt, steps=tuple(steps), finish=Finish.ENDED)


def components(row) -> dict[str, tuple[float, float]]:
    return {term.name: (term.weight, term.advantage) for term in row.terms}


@given(trajectories())
def test_the_tokens_trained_are_exactly_those_the_model_sampled(trajectory):
    row = episode_row(trajectory, advantage=1.0, nll_weight=0.01, group="g")
    authors = [span.author for span in trajectory.spans for _ in span.token_ids]
    assert list(row.trained) == [author is Author.MODEL for author in authors]
    assert [not math.isnan(logprob) for logprob in row.old_logprobs] == list(row.trained)


@given(trajectories())
def test_the_ids_of_a_row_are_the_sampled_ids_with_the_ids_of_the_environment_between(trajectory):
    row = episode_row(trajectory, advantage=1.0, nll_weight=0.01, group="g")
    assert row.token_ids == tuple(token for span in trajectory.spans for token in span.token_ids)
    logprobs = [logprob for span in trajectory.spans for logprob in span.logprobs or ()]
    assert [lp for lp, is_trained in zip(row.old_logprobs, row.trained, strict=True) if is_trained] == logprobs


@given(trajectories(), IDS, IDS, IDS)
def test_a_repair_trains_the_regenerated_suffix_and_action_and_neither_prefix_nor_observation(trajectory, r, a, o):
    prefix = Prefix(spans=tuple(trajectory.spans), parent="t", call=1)
    row = step_row(prefix, called(r, a, o), id="s", advantage=1.0, nll_weight=0.01, group="g")
    assert row.token_ids == (*prefix.token_ids, *r, *a)
    assert row.trained == (False,) * len(prefix.token_ids) + (True,) * (len(r) + len(a))
    assert (row.id, row.parent, row.group) == ("s", "t", "g")


def test_a_repair_that_made_no_call_is_trained_on_its_thought():
    prefix = Prefix(spans=(Span(token_ids=(1, 2), author=Author.PROMPT),), parent="t", call=0)
    step = Step(thought=Thought(text="", span=sampled((3, 4))))
    row = step_row(prefix, step, id="s", advantage=-1.0, nll_weight=0.01, group="g")
    assert (row.token_ids, row.trained) == ((1, 2, 3, 4), (False, False, True, True))


@pytest.mark.parametrize(
    ("advantage", "has_nll"), [(0.5, True), (1e-6, True), (1e-8, False), (0.0, False), (-1.0, False)]
)
def test_only_samples_of_positive_advantage_carry_the_nll(advantage, has_nll):
    step = Step(thought=Thought(text="", span=sampled((3,))))
    prompt = Span(token_ids=(1,), author=Author.PROMPT)
    trajectory = Trajectory(id="t", problem_id="p", prompt=prompt, steps=(step,), finish=Finish.ENDED)
    episode = components(episode_row(trajectory, advantage=advantage, nll_weight=0.01, group="g"))
    prefix = Prefix(spans=(prompt,), parent="t", call=0)
    repair = components(step_row(prefix, step, id="s", advantage=advantage, nll_weight=0.02, group="g"))
    assert episode == {"episode": (1.0, advantage)} | ({"episode_nll": (0.01, 0.0)} if has_nll else {})
    assert repair == {"step": (1.0, advantage)} | ({"step_nll": (0.02, 0.0)} if has_nll else {})


def test_a_thought_that_no_policy_of_the_run_sampled_cannot_become_an_rl_row():
    foreign = Span(token_ids=(3,), author=Author.MODEL)
    prompt = Span(token_ids=(1,), author=Author.PROMPT)
    step = Step(thought=Thought(text="", span=foreign))
    trajectory = Trajectory(id="t", problem_id="p", prompt=prompt, steps=(step,), finish=Finish.ENDED)
    with pytest.raises(ValueError, match="1 trained tokens have no sampling log-probability"):
        episode_row(trajectory, advantage=1.0, nll_weight=0.01, group="g")
