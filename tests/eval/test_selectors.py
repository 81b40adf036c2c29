"""Selectors compared on one set of samples: closed forms, what is asked once and kept, and what people read."""

import asyncio
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from called_attempts import attempt_of
from endpoint_server import Server, says
from scripted_benchmark import TOOLS_SPEC, Quiet, play, scripted_run, set_of
from thor_tir.app.config import ResourceConfig
from thor_tir.app.stages.evaluate import evaluate, write_results
from thor_tir.app.stages.select import compare_more
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.errors import UsageError
from thor_tir.eval.compare import compare
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.selector_tables import growth_table, plot_growth, selector_remarks, selector_table
from thor_tir.eval.selectors import MAX_SUBSETS, accuracy_at_k
from thor_tir.eval.statistics import best_at_k, majority_at_k, pass_at_k
from thor_tir.inference.best_of_n import ASKED, SELECTORS, ballots, expanded, selector
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome

GROUPS = st.lists(
    st.tuples(st.sampled_from(["", "+", "-", "+-"]), st.sampled_from(["1", "2", "3", None]), st.booleans()),
    min_size=1,
    max_size=6,
)


def group_of(rows: list[tuple[str, str | None, bool]]):
    return [
        attempt_of(calls, answer, outcome=Outcome.CORRECT if is_right else Outcome.WRONG, id=str(n))
        for n, (calls, answer, is_right) in enumerate(rows)
    ]


@given(GROUPS, st.data())
def test_growth_is_the_mean_over_all_subsets_with_ties_shared_evenly(rows, data) -> None:
    group = group_of(rows)
    k = data.draw(st.integers(1, len(group)))
    for name in SELECTORS:
        by, taken = selector(name), []
        for subset in combinations(group, k):
            scores = by.rank(subset, {})
            taken.append(fmean(a.is_correct for a, s in zip(subset, scores, strict=True) if s == max(scores)))
        assert accuracy_at_k(group, by, {}, k, seed=0) == pytest.approx(fmean(taken)), name


@given(GROUPS, st.data())
def test_the_oracle_grows_as_pass_at_k_a_random_choice_not_at_all_and_the_vote_as_maj_at_k(rows, data) -> None:
    # as a grader judges: no answer is wrong, and equal answers have one verdict
    judged = [(calls, answer, answer == "1") for calls, answer, _ in rows]
    group = group_of(judged)
    k, right = data.draw(st.integers(1, len(group))), sum(answer == "1" for _, answer, _ in judged)
    at = {name: accuracy_at_k(group, selector(name), {}, k, seed=0) for name in ("oracle", "random", "vote")}
    assert at["oracle"] == pytest.approx(pass_at_k(len(group), right, k))
    assert at["random"] == pytest.approx(right / len(group))
    assert at["vote"] == pytest.approx(majority_at_k(ballots(group), [a.is_correct for a in group], k))


def test_the_best_of_k_by_hand() -> None:
    # Scores 2, 1, 1 with verdicts wrong, right, wrong; k = 2: {2,1}, {2,1}, {1,1}: 0, 0, 1/2 -> 1/6.
    assert best_at_k([(2.0,), (1.0,), (1.0,)], [False, True, False], 2) == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match="best@4"):
        best_at_k([(1.0,)] * 3, [True] * 3, 4)


def test_of_many_subsets_a_seeded_part_is_looked_at() -> None:
    group = group_of([("+", str(n % 3), n % 3 == 0) for n in range(14)])  # C(14, 7) = 3432
    by = selector("vote")
    some = accuracy_at_k(group, by, {}, 7, seed=1)
    assert some == accuracy_at_k(group, by, {}, 7, seed=1)
    exact = majority_at_k(ballots(group), [a.is_correct for a in group], 7)
    assert abs(some - exact) < 4 * 0.5 / MAX_SUBSETS**0.5


def test_all_stands_for_every_selector_that_needs_no_place_each_once() -> None:
    assert expanded(["vote", "all", "reward:M", "vote"]) == (
        "vote",
        *(name for name in (*SELECTORS, *ASKED) if name != "vote"),
        "reward:M",
    )


SUMS = [Problem(id=f"sum/{i}", question=f"What is {i} plus {i}?", answer=str(2 * i), source="mine") for i in (11, 12)]


def replies(problem: Problem) -> list[str]:
    """Three attempts, of which the first two agree on a wrong answer; then a comparison and two checks."""
    wrong, right = r"So \boxed{5}.", rf"So \boxed{{{problem.answer}}}."
    return [wrong, wrong, right, "CHOICE 1", "no program", "no program"]


def run_of(folder: Path, *names: str, samples: int = 3):
    spec = replace(TOOLS_SPEC, compared=names) if len(names) > 1 else replace(TOOLS_SPEC, select=names[0])
    return scripted_run(folder, [set_of(*SUMS)], samples=samples, spec=spec)


def test_one_set_of_samples_gives_every_selector_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    run = run_of(tmp_path, "vote", "oracle", "gen-select", "tool-verified")
    asked = play(run, replies)
    assert len(asked) == 2 * (3 + 1 + 2)  # attempts, a comparison, a check of each of two answers
    assert play(run, lambda problem: []) == []  # another start asks nothing
    reporter = Quiet()
    results = write_results(run.folder, reporter)
    assert results is not None
    (entry,) = results["sets"]
    found = entry["selectors"]
    assert {name: each["accuracy"]["value"] for name, each in found.items() if name != "gen-select"} == {
        "vote": 0.0,
        "oracle": 1.0,
        "tool-verified": 0.0,  # nothing was checked, so the vote decided
    }
    assert found["oracle"]["is_bound"]
    assert found["oracle"]["against_one"]["value"] == pytest.approx(2 / 3)
    assert found["oracle"]["against_pass_rate"]["value"] == pytest.approx(2 / 3)  # no call: pass rates are all alike
    assert {k: each["value"] for k, each in found["oracle"]["by_n"].items()} == pytest.approx(
        {"1": 1 / 3, "2": 2 / 3, "3": 1}
    )
    assert found["gen-select"]["by_n"] == {}
    cost = found["gen-select"]["asked"]
    assert (cost["calls"], cost["requests"], cost["fallbacks"], cost["lost"]) == (1, 2, 0, 0)
    assert cost["tokens"] > 0
    assert cost["read_tokens"] > 0
    assert found["tool-verified"]["asked"]["fallbacks"] == 4
    assert found["vote"]["asked"] is None
    assert json.loads((tmp_path / "results.json").read_text())["sets"][0]["selectors"].keys() == found.keys()


def test_people_read_tables_a_figure_and_sentences(tmp_path: Path) -> None:
    run = run_of(tmp_path, "vote", "oracle", "tool-verified")
    play(run, replies)
    results = write_results(run.folder, Quiet())
    assert results is not None
    (entry,) = results["sets"]
    head, rows = selector_table(entry)
    assert [row[0] for row in rows] == ["vote", "oracle (upper bound)", "tool-verified"]
    assert {len(row) for row in rows} == {len(head)}
    assert growth_table(entry)[1][1] == ("oracle", "33.3", "66.7", "100.0")
    said = list(selector_remarks(results))
    assert said[0] == "mine, tool-verified: 4 of 4 requests gave nothing usable; a rule decided there"
    assert "oracle knows the references" in said[1]
    text = (tmp_path / "results.md").read_text()
    assert "## Selectors on mine" in text
    assert "| oracle | 33.3 | 66.7 | 100.0 |" in text
    if plot_growth(results, tmp_path / "growth.png"):
        assert (tmp_path / "growth.png").read_bytes()[1:4] == b"PNG"


def test_a_run_that_selects_by_asking_scores_what_was_chosen_and_can_be_compared(tmp_path: Path) -> None:
    run = run_of(tmp_path / "picked", "gen-select")
    play(run, replies)
    results = write_results(run.folder, Quiet())
    assert results is not None
    assert results["select"] == "gen-select"
    assert results["sets"][0]["selectors"] == {}
    plain = run_of(tmp_path / "voted", "vote")
    play(plain, replies)
    assert write_results(plain.folder, Quiet()) is not None
    difference = compare(run.folder, plain.folder)["sets"][0]["difference"]
    assert difference is not None
    assert difference["value"] == results["sets"][0]["avg"]["value"]  # the vote is always wrong here


def test_results_wait_for_opinions_that_are_missing_and_shards_ask_their_own_problems(tmp_path: Path) -> None:
    from thor_tir.storage.journal import shard_of

    whole = run_of(tmp_path, "vote", "gen-select")
    for part, missing in (("1/2", True), ("2/2", False)):
        asked = play(replace(whole, shard=shard_of(part)), replies)
        assert len(asked) == 3 + 1
        reporter = Quiet()
        assert (write_results(whole.folder, reporter) is None) == missing
    for path in tmp_path.glob("opinions/gen-select-*/mine.2-of-2.jsonl"):
        path.unlink()
    reporter = Quiet()
    assert write_results(whole.folder, reporter) is None
    assert reporter.said == ["opinions still missing: gen-select 1; the same command, or `thor eval select`, continues"]


def test_further_selectors_are_asked_afterwards_and_nothing_is_sampled_again(tmp_path: Path) -> None:
    run = run_of(tmp_path, "vote", "random")
    play(run, replies)
    before = {path: path.read_bytes() for path in tmp_path.glob("attempts/*")}

    async def more(server: Server) -> None:
        await server.start()
        try:
            names = (f"reward:{server.address}", "oracle")
            await compare_more(run.folder, names, RewardOptions(), ResourceConfig(), Quiet())
        finally:
            await server.stop()

    # the reward model likes the third of the attempts at each problem
    server = Server(usual=rewards_by_answer)
    asyncio.run(more(server))
    assert len(server.asked) == 2 * 3 + 1  # and one that found out how to speak
    assert {path: path.read_bytes() for path in before} == before
    results = write_results(run.folder, Quiet())
    assert results is not None
    found = results["sets"][0]["selectors"]
    assert list(found) == ["vote", "random", f"reward:{server.address}", "oracle"]
    rewarded = found[f"reward:{server.address}"]
    assert rewarded["accuracy"]["value"] == 1.0
    assert [each["value"] for each in rewarded["by_n"].values()] == pytest.approx([1 / 3, 2 / 3, 1])
    assert (rewarded["asked"]["calls"], rewarded["asked"]["read_tokens"]) == (3, 3 * 9)
    asyncio.run(compare_more(run.folder, ("oracle",), RewardOptions(), ResourceConfig(), Quiet()))
    assert run.folder.selectors == tuple(found)


async def rewards_by_answer(asked, writer) -> None:
    """A pooling server that gives 1 to a response whose answer is not 5."""
    text = asked.body["messages"][1]["content"]
    data = [0.0 if "{5}" in text else 1.0]
    await says({"data": [{"data": data}], "usage": {"prompt_tokens": 9}})(asked, writer)


def test_an_unfinished_evaluation_is_not_compared(tmp_path: Path) -> None:
    run = run_of(tmp_path, "vote", "random")
    play(run, replies)
    with (tmp_path / "attempts" / "mine.jsonl").open("r+") as file:
        file.truncate(10)
    with pytest.raises(UsageError, match="lacks 6 attempts"):
        asyncio.run(compare_more(run.folder, ("oracle",), RewardOptions(), ResourceConfig(), Quiet()))


def test_a_selector_that_cannot_be_had_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown selector 'longest'"):
        run_of(tmp_path, "vote", "longest")


def test_a_reward_model_that_is_not_there_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    run = run_of(tmp_path, "vote", f"reward:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match="there is no reward model"):
        asyncio.run(evaluate(run, Quiet()))
    assert not list(tmp_path.iterdir())


def test_a_damaged_record_of_selectors_is_named(tmp_path: Path) -> None:
    (tmp_path / "selectors.json").write_text("{")
    with pytest.raises(UsageError, match=r"selectors\.json is damaged"):
        _ = EvalFolder(path=tmp_path).selectors
