"""Which of N attempts is taken."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from called_attempts import attempt_of
from thor_tir.errors import UsageError
from thor_tir.inference.best_of_n import USABLE, call_pass_rate, choose, selector, usable, vote_shares
from thor_tir.rollout.sample_many import Attempt
from thor_tir.verdict import Outcome


def taken(candidates: list[Attempt], name: str, seed: int = 0) -> Attempt:
    """The attempt that the selector of that name takes."""
    return choose(candidates, selector(name), seed=seed).chosen


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
    chosen = {name: taken(candidates, name).trajectory.id for name in USABLE}
    assert (chosen["pass-rate"], chosen["ran-rate"], chosen["pass-rate-then-vote"]) == ("half", "silent", "half")


def test_the_attempt_whose_calls_ran_best_wins_whatever_their_number():
    candidates = [attempt_of("++++-"), attempt_of("+"), attempt_of("-"), attempt_of("")]
    assert all(taken(candidates, "pass-rate", seed) is candidates[1] for seed in range(10))


def test_an_attempt_without_a_call_loses_to_one_with_a_single_success_among_failures():
    candidates = [attempt_of(""), attempt_of("---+")]
    assert taken(candidates, "pass-rate") is candidates[1]


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_among_equal_pass_rates_one_with_an_answer_wins(nothing):
    candidates = [attempt_of("+", nothing), attempt_of("+", "5"), attempt_of("+", nothing)]
    assert all(taken(candidates, "pass-rate", seed) is candidates[1] for seed in range(10))


def test_a_better_pass_rate_without_an_answer_beats_an_answer():
    candidates = [attempt_of("+-", "5"), attempt_of("+", None)]
    assert taken(candidates, "pass-rate") is candidates[1]


def test_ties_are_drawn_from_the_seed_among_the_best_alone():
    candidates = [attempt_of("+", id="a"), attempt_of("-", id="b"), attempt_of("+", id="c")]
    drawn = [taken(candidates, "pass-rate", seed).trajectory.id for seed in range(40)]
    assert drawn == [taken(candidates, "pass-rate", seed).trajectory.id for seed in range(40)]
    assert set(drawn) == {"a", "c"}


@given(st.lists(st.sampled_from(["", "+", "-", "+-"]), min_size=1, max_size=6), st.integers(0, 9), st.data())
def test_the_choice_does_not_know_which_attempts_are_correct(calls, seed, data):
    outcomes = data.draw(st.lists(st.sampled_from(Outcome), min_size=len(calls), max_size=len(calls)))
    blind = [attempt_of(c, id=str(i)) for i, c in enumerate(calls)]
    knowing = [attempt_of(c, id=str(i), outcome=o) for i, (c, o) in enumerate(zip(calls, outcomes, strict=True))]
    for name in USABLE:
        assert taken(knowing, name, seed).trajectory.id == taken(blind, name, seed).trajectory.id


def test_a_vote_counts_equal_answers_whatever_their_blanks_and_nothing_for_no_answer():
    candidates = [attempt_of("", a) for a in (" 12 ", "12", "3", None, None)]
    # of five candidates two say 12
    assert vote_shares(candidates) == [2 / 5, 2 / 5, 1 / 5, 0.0, 0.0]


def test_spellings_of_one_value_vote_together():
    candidates = [attempt_of("", a) for a in ("1/2", "0.5", r"\frac{1}{2}", "3", "3")]
    assert vote_shares(candidates) == [3 / 5] * 3 + [2 / 5] * 2
    assert taken(candidates, "vote").verdict.extracted != "3"


def test_the_majority_wins_the_vote_and_breaks_ties_of_the_pass_rate():
    candidates = [attempt_of("+", "3"), attempt_of("-", "5"), attempt_of("-", "5"), attempt_of("+", "5")]
    assert taken(candidates, "vote").verdict.extracted == "5"
    # of the first and the last, both of pass rate 1, the last has three votes
    assert all(taken(candidates, "pass-rate-then-vote", seed) is candidates[3] for seed in range(10))


def test_there_is_nothing_to_choose_from_no_candidates():
    with pytest.raises(ValueError, match="at least one candidate"):
        taken([], "pass-rate")


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
    assert choose(candidates, own, seed=0).chosen.trajectory.id == "one"
    assert own.title.format(8) == f"{tmp_path / 'mine.py'}:fewest of 8"
    with pytest.raises(UsageError, match=r"the selector .*:breaks raised AttributeError.*mine.py, line 4"):
        choose(candidates, selector(f"{tmp_path / 'mine.py'}:breaks"), seed=0)
    with pytest.raises(UsageError, match="returned 'much', which is no finite number"):
        choose(candidates, selector(f"{tmp_path / 'mine.py'}:text"), seed=0)
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
    assert choose(candidates, selector("fewest"), seed=0).chosen.trajectory.id == "one"
    assert selector("fewest,base=3").rank(candidates, {}) == [(1.0,), (2.0,)]
    with pytest.raises(UsageError, match=r"known: .*fewest"):
        selector("most")


def test_a_vote_weighs_each_attempt_by_its_pass_rate_and_is_a_plain_one_where_nothing_ran() -> None:
    # 7 has 1 + 0 of weight, 8 three halves: more, though 9 has the most votes and none of the weight.
    candidates = [attempt_of("+", "7"), attempt_of("-", "7"), *(attempt_of("+-", "8") for _ in range(3))]
    candidates += [attempt_of("-", "9") for _ in range(4)]
    assert taken(candidates, "weighted-vote").verdict.extracted == "8"
    assert taken(candidates, "vote").verdict.extracted == "9"
    idle = [attempt_of("-", "1"), attempt_of("", "2"), attempt_of("-", "2"), attempt_of("", None), attempt_of("", None)]
    assert taken(idle, "weighted-vote").verdict.extracted == "2"


def test_equal_sums_of_pass_rates_are_equal_whatever_the_order_of_addition():
    fifths = ["+" * n + "-" * (5 - n) for n in range(6)]
    candidates = [attempt_of(fifths[n], "8") for n in (1, 2)] + [attempt_of(fifths[n], "9") for n in (3, 0)]
    chosen = {taken(candidates, "weighted-vote", seed).verdict.extracted for seed in range(20)}
    assert 1 / 5 + 2 / 5 > 3 / 5
    assert chosen == {"8", "9"}


def test_the_shortest_is_taken_among_the_best_alone() -> None:
    # a scripted step writes two tokens, thought and program
    candidates = [attempt_of("+++", id="long"), attempt_of("-", id="brief"), attempt_of("+", id="short")]
    assert all(taken(candidates, "shortest", seed).trajectory.id == "short" for seed in range(10))


def test_random_takes_anyone_by_its_seed_and_the_oracle_a_right_one() -> None:
    candidates = [
        attempt_of("+", id="a"),
        attempt_of("", None, id="b"),
        attempt_of("-", outcome=Outcome.CORRECT, id="c"),
    ]
    drawn = [taken(candidates, "random", seed).trajectory.id for seed in range(40)]
    assert set(drawn) == {"a", "b", "c"}
    assert drawn == [taken(candidates, "random", seed).trajectory.id for seed in range(40)]
    assert all(taken(candidates, "oracle", seed).trajectory.id == "c" for seed in range(10))
    with pytest.raises(UsageError, match="knows which attempts are right"):
        usable("oracle")


def test_a_choice_says_in_one_sentence_why_this_candidate_won() -> None:
    candidates = [attempt_of("+-"), attempt_of("+"), attempt_of("+", "2")]
    choice = choose(candidates, selector("pass-rate"), seed=0)
    assert (choice.num_best, choice.scores) == (2, [(0.5, 1.0), (1.0, 1.0), (1.0, 1.0)])
    number = choice.place + 1
    assert choice.reason == f"candidate {number}: pass rate 1, an answer 1; 2 of 3 are as good, and the seed drew it"
    alone = choose(candidates[:2], selector("vote"), seed=0)
    assert alone.reason.endswith("share of the votes 1; 2 of 2 are as good, and the seed drew it")
    assert choose(candidates[:2], selector("pass-rate"), seed=0).reason.endswith("an answer 1; the best of 2")
