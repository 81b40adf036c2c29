"""The records of a trajectory and the one place that says which tokens are trained."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted_agent import result_of
from thor_tir.trajectory import (
    Action,
    Author,
    Finish,
    Observation,
    Prefix,
    Span,
    Step,
    Thought,
    Trajectory,
    flatten,
    with_discarded,
)

IDS = st.lists(st.integers(0, 99), max_size=6).map(tuple)


@st.composite
def any_span(draw: st.DrawFn) -> Span:
    ids, author = draw(IDS), draw(st.sampled_from(Author))
    has_logprobs = author is Author.MODEL and draw(st.booleans())
    return Span(token_ids=ids, author=author, logprobs=tuple(-0.5 * i for i in ids) if has_logprobs else None)


def sampled(*ids: int) -> Span:
    return Span(token_ids=ids, author=Author.MODEL, logprobs=tuple(-0.1 * i for i in ids))


def called(thought: str, *, fails: bool = False, ids: int = 1) -> Step:
    return Step(
        thought=Thought(text=thought, span=sampled(*[1] * ids)),
        action=Action(code="\\boxed{0}", span=sampled(2)),
        observation=Observation(
            text="\\boxed{1}", span=Span(token_ids=(3, 3), author=Author.ENVIRONMENT), result=result_of("boom" * fails)
        ),
    )


def trajectory_of(*steps: Step) -> Trajectory:
    prompt = Span(token_ids=(7, 8), author=Author.PROMPT)
    return Trajectory(id="t", problem_id="p", prompt=prompt, steps=steps, finish=Finish.ENDED)


@given(st.lists(st.tuples(any_span(), st.booleans())))
def test_flatten_lays_every_token_down_once_in_order(marked):
    flat = flatten(marked)
    assert flat.token_ids == tuple(token for span, _ in marked for token in span.token_ids)
    assert flat.authors == tuple(span.author for span, _ in marked for _ in span.token_ids)


@given(st.lists(st.tuples(any_span(), st.booleans())))
def test_a_token_is_trained_if_and_only_if_the_model_wrote_it_and_its_span_is_marked(marked):
    expected = [is_marked and span.author is Author.MODEL for span, is_marked in marked for _ in span.token_ids]
    assert list(flatten(marked).trained) == expected


@given(st.lists(st.tuples(any_span(), st.booleans())))
def test_a_logprob_is_nan_exactly_where_none_was_recorded(marked):
    expected = [span.logprobs is None for span, _ in marked for _ in span.token_ids]
    assert [math.isnan(logprob) for logprob in flatten(marked).logprobs] == expected


@given(any_span(), st.integers(0, 7))
def test_a_cut_span_joins_to_itself(span, cut):
    assert span[:cut] + span[cut:] == span


def test_logprobs_survive_joining_only_where_both_parts_have_them():
    unknown = Span(token_ids=(5,), author=Author.MODEL)
    assert (sampled(1) + unknown).logprobs is None
    assert (sampled(1) + sampled(2)).logprobs == (-0.1, -0.2)


def test_spans_of_two_authors_cannot_be_one():
    with pytest.raises(ValueError, match="by the model and by the environment"):
        sampled(1) + Span(token_ids=(1,), author=Author.ENVIRONMENT)


def test_logprobs_must_fit_the_tokens_and_belong_to_the_model():
    with pytest.raises(ValueError, match="1 log-probabilities for 2 tokens"):
        Span(token_ids=(1, 2), author=Author.MODEL, logprobs=(-0.1,))
    with pytest.raises(ValueError, match="was not sampled"):
        Span(token_ids=(1,), author=Author.ENVIRONMENT, logprobs=(-0.1,))


def test_an_action_without_an_observation_is_no_step():
    with pytest.raises(ValueError, match="if and only if there is an action"):
        Step(thought=Thought(text="", span=sampled(1)), action=Action(code="", span=sampled(2)))


def test_a_step_without_a_call_neither_failed_nor_succeeded():
    step = Step(thought=Thought(text="", span=sampled(1)))
    assert (step.failed, step.succeeded) == (False, False)


def test_an_answer_is_looked_for_in_thoughts_and_never_in_programs_or_their_output():
    last = Step(thought=Thought(text="So \\boxed{2}.", span=sampled(4)))
    assert trajectory_of(called("First. "), last).response_text == "First. So \\boxed{2}."


def test_discarded_repairs_cost_tokens_and_are_no_part_of_the_context():
    lost = called("x", fails=True, ids=4)
    trajectory = trajectory_of(with_discarded(called("y"), (lost, lost)))
    # kept: thought 1 + action 1; lost twice: thought 4 + action 1; observations are nobody's tokens
    assert trajectory.num_model_tokens == 2 + 2 * 5
    assert [i for span in trajectory.spans for i in span.token_ids] == [7, 8, 1, 2, 3, 3]


def test_the_calls_of_a_trajectory_are_its_steps_with_an_action():
    last = Step(thought=Thought(text="", span=sampled(4)))
    steps = called("a"), called("b", fails=True), last
    assert trajectory_of(*steps).calls == steps[:2]


def test_a_prefix_reads_its_spans_in_order():
    assert Prefix(spans=(sampled(1, 2), sampled(), sampled(3)), parent="t", call=0).token_ids == (1, 2, 3)
