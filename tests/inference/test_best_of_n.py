"""Which of N attempts is taken."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted_agent import result_of
from thor_tir.errors import UsageError
from thor_tir.inference.best_of_n import (
    SELECTORS,
    call_pass_rate,
    hybrid,
    select,
    selector,
    self_consistent,
    self_rewarded,
    vote_share,
)
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

PROBLEM = Problem(id="p", question="?", answer="1", source="test")


def step_of(code: str) -> Step:
    model, environment = (Span(token_ids=(1,), author=author) for author in (Author.MODEL, Author.ENVIRONMENT))
    return Step(
        thought=Thought(text="", span=model),
        action=Action(code=code, span=model),
        observation=Observation(text="", span=environment, result=result_of(code)),
    )


def attempt_of(calls: str, answer: str | None = "1", *, outcome: Outcome = Outcome.WRONG, id: str = "t") -> Attempt:
    """`calls` holds one letter for each call: + succeeds, - fails, . runs in silence, which is no success."""
    steps = tuple(step_of({"+": "1", "-": "boom", ".": "pass"}[call]) for call in calls)
    prompt = Span(token_ids=(7,), author=Author.PROMPT)
    trajectory = Trajectory(id=id, problem_id="p", prompt=prompt, steps=steps, finish=Finish.ENDED)
    return Attempt(
        problem=PROBLEM, trajectory=trajectory, verdict=Verdict(outcome=outcome, extracted=answer, reason="")
    )


@pytest.mark.parametrize(
    ("calls", "rate"), [("", 0.0), ("+", 1.0), ("-", 0.0), ("+-+-", 0.5), (".", 0.0), ("+.", 0.5), ("--+", 1 / 3)]
)
def test_the_pass_rate_is_the_share_of_calls_that_succeed_and_0_without_any(calls, rate):
    assert call_pass_rate(attempt_of(calls)) == rate


@pytest.mark.parametrize(("calls", "rate"), [("", 0.0), (".", 1.0), ("+.-.", 0.75), ("--", 0.0), ("..", 1.0)])
def test_by_option_a_call_counts_that_ran_in_silence(calls, rate):
    assert call_pass_rate(attempt_of(calls), "ran") == rate


def test_only_the_ran_rate_takes_an_attempt_that_printed_nothing_for_the_best():
    candidates = [attempt_of("+-", id="half"), attempt_of("..", id="silent")]
    chosen = {name: select(candidates, SELECTORS[name].score, seed=0).trajectory.id for name in SELECTORS}
    assert (chosen["pass-rate"], chosen["ran-rate"], chosen["pass-rate-then-vote"]) == ("half", "silent", "half")


def test_the_attempt_whose_calls_ran_best_wins_whatever_their_number():
    candidates = [attempt_of("++++-"), attempt_of("+"), attempt_of("-"), attempt_of("")]
    assert all(select(candidates, self_rewarded, seed=seed) is candidates[1] for seed in range(10))


def test_an_attempt_without_a_call_loses_to_one_with_a_single_success_among_failures():
    candidates = [attempt_of(""), attempt_of("---+")]
    assert select(candidates, self_rewarded, seed=0) is candidates[1]


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_among_equal_pass_rates_one_with_an_answer_wins(nothing):
    candidates = [attempt_of("+", nothing), attempt_of("+", "5"), attempt_of("+", nothing)]
    assert all(select(candidates, self_rewarded, seed=seed) is candidates[1] for seed in range(10))


def test_a_better_pass_rate_without_an_answer_beats_an_answer():
    candidates = [attempt_of("+-", "5"), attempt_of("+", None)]
    assert select(candidates, self_rewarded, seed=0) is candidates[1]


def test_ties_are_drawn_from_the_seed_among_the_best_alone():
    candidates = [attempt_of("+", id="a"), attempt_of("-", id="b"), attempt_of("+", id="c")]
    drawn = [select(candidates, self_rewarded, seed=seed).trajectory.id for seed in range(40)]
    assert drawn == [select(candidates, self_rewarded, seed=seed).trajectory.id for seed in range(40)]
    assert set(drawn) == {"a", "c"}


@given(st.lists(st.sampled_from(["", "+", "-", "+-"]), min_size=1, max_size=6), st.integers(0, 9), st.data())
def test_the_choice_does_not_know_which_attempts_are_correct(calls, seed, data):
    outcomes = data.draw(st.lists(st.sampled_from(Outcome), min_size=len(calls), max_size=len(calls)))
    blind = [attempt_of(c, id=str(i)) for i, c in enumerate(calls)]
    knowing = [attempt_of(c, id=str(i), outcome=o) for i, (c, o) in enumerate(zip(calls, outcomes, strict=True))]
    for score in (self_rewarded, self_consistent, hybrid):
        chosen = select(knowing, score, seed=seed).trajectory.id
        assert chosen == select(blind, score, seed=seed).trajectory.id


def test_a_vote_counts_equal_answers_whatever_their_blanks_and_nothing_for_no_answer():
    candidates = [attempt_of("", a) for a in (" 12 ", "12", "3", None, None)]
    # of five candidates two say 12
    assert [vote_share(c, candidates) for c in candidates] == [2 / 5, 2 / 5, 1 / 5, 0.0, 0.0]


def test_spellings_of_one_value_vote_together():
    candidates = [attempt_of("", a) for a in ("1/2", "0.5", r"\frac{1}{2}", "3", "3")]
    assert [vote_share(c, candidates) for c in candidates] == [3 / 5] * 3 + [2 / 5] * 2
    assert select(candidates, self_consistent, seed=0).verdict.extracted != "3"


def test_the_majority_wins_the_vote_and_breaks_ties_of_the_pass_rate():
    candidates = [attempt_of("+", "3"), attempt_of("-", "5"), attempt_of("-", "5"), attempt_of("+", "5")]
    assert select(candidates, self_consistent, seed=0).verdict.extracted == "5"
    # of the first and the last, both of pass rate 1, the last has three votes
    assert all(select(candidates, hybrid, seed=seed) is candidates[3] for seed in range(10))


def test_there_is_nothing_to_choose_from_no_candidates():
    with pytest.raises(ValueError, match="at least one candidate"):
        select([], self_rewarded, seed=0)


def test_an_unknown_selector_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="known: pass-rate, ran-rate, vote, pass-rate-then-vote"):
        selector("longest")


def test_a_selector_of_ones_own_ranks_the_candidates(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def fewest(attempt, candidates):\n    return -len(attempt.trajectory.calls)\n"
        "def breaks(attempt, candidates):\n    return attempt.nothing\n"
        "def text(attempt, candidates):\n    return 'much'\n"
    )
    candidates = [attempt_of("++", id="two"), attempt_of("-", id="one"), attempt_of("+++", id="three")]
    own = selector(f"{tmp_path / 'mine.py'}:fewest")
    assert select(candidates, own.score, seed=0).trajectory.id == "one"
    assert own.title.format(8) == f"{tmp_path / 'mine.py'}:fewest of 8"
    with pytest.raises(UsageError, match=r"the selector .*:breaks raised AttributeError.*mine.py, line 4"):
        select(candidates, selector(f"{tmp_path / 'mine.py'}:breaks").score, seed=0)
    with pytest.raises(UsageError, match="returned 'much', which is no finite number"):
        select(candidates, selector(f"{tmp_path / 'mine.py'}:text").score, seed=0)
    with pytest.raises(UsageError, match="there is no file"):
        selector("nowhere.py:f")


def test_an_installed_package_offers_a_selector_by_a_short_name(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "offered_by_test.py").write_text(
        "def fewest(attempt, candidates, *, base=0):\n    return base - len(attempt.trajectory.calls)\n"
    )
    about = tmp_path / "offered_by_test-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: offered-by-test\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[thor_tir.selectors]\nfewest = offered_by_test:fewest\n")
    monkeypatch.syspath_prepend(tmp_path)
    candidates = [attempt_of("++", id="two"), attempt_of("-", id="one")]
    assert select(candidates, selector("fewest").score, seed=0).trajectory.id == "one"
    assert selector("fewest,base=3").score(candidates[0], candidates) == (1.0,)
    with pytest.raises(UsageError, match=r"known: .*fewest"):
        selector("most")
