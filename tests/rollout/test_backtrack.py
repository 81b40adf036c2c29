"""The cut before a failed call stays inside its thought."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted_agent import Spelled, result_of
from thor_tir.execution import ExecutionResult, Status
from thor_tir.rollout.backtrack import BY_ERROR, CUTS, backtrack, by_error, failed_prefix, kept_thought
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory

IDS = st.lists(st.integers(0, 99), max_size=8).map(tuple)
SUFFIX = st.integers(0, 12)


def sampled(ids: tuple[int, ...]) -> Span:
    return Span(token_ids=ids, author=Author.MODEL, logprobs=tuple(-0.01 * i for i in ids))


def called(thought: tuple[int, ...], code: tuple[int, ...], seen: tuple[int, ...], *, fails: bool = True) -> Step:
    observed = Span(token_ids=seen, author=Author.ENVIRONMENT)
    return Step(
        thought=Thought(text="", span=sampled(thought)),
        action=Action(code="", span=sampled(code)),
        observation=Observation(text="", span=observed, result=result_of("boom" if fails else "1")),
    )


def trajectory_of(*steps: Step) -> Trajectory:
    prompt = Span(token_ids=(7, 8), author=Author.PROMPT)
    return Trajectory(id="t", problem_id="p", prompt=prompt, steps=steps, finish=Finish.ENDED)


@given(IDS, SUFFIX)
def test_what_is_kept_of_a_thought_is_all_but_its_last_suffix_tokens_with_their_logprobs(thought, suffix_tokens):
    kept = kept_thought(called(thought, (1,), (2,)), suffix_tokens=suffix_tokens)
    # min(L_suf, |r_t|) tokens go
    assert kept == sampled(thought)[: len(thought) - min(suffix_tokens, len(thought))]


@given(st.lists(st.tuples(IDS, IDS, IDS), min_size=1, max_size=3), SUFFIX)
def test_everything_before_the_failing_thought_stays_token_for_token(parts, suffix_tokens):
    steps = [*(called(*p, fails=False) for p in parts[:-1]), called(*parts[-1])]
    prefix = failed_prefix(trajectory_of(*steps), len(steps) - 1, suffix_tokens=suffix_tokens)
    before = (7, 8, *(token for part in parts[:-1] for ids in part for token in ids))
    assert prefix.token_ids[: len(before)] == before
    thought = parts[-1][0]
    assert prefix.token_ids[len(before) :] == thought[: max(0, len(thought) - suffix_tokens)]
    assert (prefix.parent, prefix.call) == ("t", len(steps) - 1)


def test_a_thought_shorter_than_the_suffix_goes_whole_and_the_observation_before_it_stays():
    steps = called((1,), (2,), (3, 4), fails=False), called((5, 6), (9,), (9,))
    assert failed_prefix(trajectory_of(*steps), 1, suffix_tokens=100).token_ids == (7, 8, 1, 2, 3, 4)


def test_without_a_suffix_the_whole_thought_is_kept():
    assert failed_prefix(trajectory_of(called((5, 6), (9,), (9,))), 0, suffix_tokens=0).token_ids == (7, 8, 5, 6)


def test_what_follows_the_failed_call_is_left_out():
    steps = called((1, 2), (3,), (4,)), called((5,), (6,), (7,))
    assert failed_prefix(trajectory_of(*steps), 0, suffix_tokens=1).token_ids == (7, 8, 1)


def test_the_kept_part_is_the_last_span_even_where_it_is_empty():
    before = [Span(token_ids=(7,), author=Author.PROMPT)]
    prefix = backtrack(before, called((1,), (2,), (3,)), suffix_tokens=1, parent="t", call=0)
    assert [len(span) for span in prefix.spans] == [1, 0]
    assert prefix.spans[-1].author is Author.MODEL


@pytest.mark.parametrize(
    "step", [called((1,), (2,), (3,), fails=False), Step(thought=Thought(text="", span=sampled((1,))))]
)
def test_there_is_nothing_to_go_back_from_where_no_call_failed(step):
    with pytest.raises(ValueError, match="step 0 of trajectory t has no failed call"):
        failed_prefix(trajectory_of(step), 0, suffix_tokens=1)


def ended(status: Status, error: str | None = None) -> Step:
    """A call of a thought of nine tokens that ended so."""
    seen = Span(token_ids=(3,), author=Author.ENVIRONMENT)
    result = ExecutionResult(status=status, stdout="", error=error)
    return Step(
        thought=Thought(text="", span=sampled(tuple(range(9)))),
        action=Action(code="", span=sampled((1,))),
        observation=Observation(text="", span=seen, result=result),
    )


def test_a_cut_takes_nothing_a_suffix_or_the_whole_of_the_thought():
    assert {cut: CUTS[cut](ended(Status.RUNTIME), 4) for cut in ("action", "suffix", "replan")} == {
        "action": 0,
        "suffix": 4,
        "replan": 9,
    }


@pytest.mark.parametrize(
    ("status", "error", "tokens"),
    [
        (Status.SYNTAX, "IndentationError", 0),
        (Status.RUNTIME, "NameError", 0),
        (Status.OK_NO_OUTPUT, None, 0),
        (Status.RUNTIME, "ValueError", 4),
        (Status.DENIED, None, 4),
        (Status.TIMEOUT, None, 9),
        (Status.MEMORY, "MemoryError", 9),
    ],
)
def test_by_error_goes_by_the_exception_then_by_the_status_then_takes_the_suffix(status, error, tokens):
    assert CUTS["by-error"](ended(status, error), 4) == tokens


def test_a_table_of_ones_own_decides_by_error():
    table = {**BY_ERROR, "ValueError": "replan", "timeout": "action"}
    assert by_error(ended(Status.RUNTIME, "ValueError"), 4, table) == 9
    assert by_error(ended(Status.TIMEOUT), 4, table) == 0


TEXT = "Ab 12.5 × c1, \\frac 1,000 日本語 ü."


@pytest.mark.parametrize(
    ("suffix_tokens", "kept"),
    [(n, kept) for n, kept in enumerate(TEXT[: len(TEXT) - n] for n in range(len(TEXT)))],
)
def test_a_cut_at_whole_words_moves_to_the_front_of_what_it_would_split(suffix_tokens, kept):
    tokenizer = Spelled()
    step = called(tuple(tokenizer.encode(TEXT)), (1,), (2,))
    count = len(tokenizer.encode(TEXT[len(kept) :]))
    cut = kept_thought(step, suffix_tokens=count, decode=tokenizer.decode)
    words = ("Ab", "12.5", "c1", "\\frac", "1,000", "ü")
    starts = [(TEXT.index(word), TEXT.index(word) + len(word)) for word in words]
    end = next((a for a, b in starts if a < len(kept) < b), len(kept))
    assert tokenizer.decode(list(cut.token_ids)) == TEXT[:end]
