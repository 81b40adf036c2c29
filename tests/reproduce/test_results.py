"""From stored attempts to a result: rows, paired differences, agreement with the paper, the page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from called_attempts import attempt_of
from thor_tir.commands.reproduce import Reproduce
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import ProblemSet
from thor_tir.reproduce.declared import Experiment, Layout, Pair, Reported, Row, Stage, Subject
from thor_tir.reproduce.report import SPENT, markdown, table
from thor_tir.reproduce.results import Result, read_result, result_of
from thor_tir.rollout.sample_many import attempt_to_json
from thor_tir.verdict import Outcome

RIGHT, WRONG = Outcome.CORRECT, Outcome.WRONG
EXPERIMENT = Experiment(
    name="table",
    title="A table",
    rows=(Row(name="old", evaluation="eval-old"), Row(name="new", evaluation="eval-new")),
    measures=("accuracy", "calls_ok", "right_if_clean"),
    pairs=(Pair(ours="new", theirs="old"),),
    paper=(Reported(model="theirs", measure="accuracy", values={"old": 50.0, "new": 61.5}),),
    notes=("Nothing is said here.",),
)
SUBJECT = Subject(name="toy", actor="a", critic="c", preset="nano")
STAGES = {
    "eval-old": Stage(name="eval-old", command="eval", words=(), is_of_seed=False),
    "eval-new": Stage(name="eval-new", command="eval", words=("--seed", "{seed}")),
}

Told = Sequence[tuple[str, Outcome]]
"""Calls and outcome of one attempt at each problem."""


def layout(root: Path) -> Layout:
    return Layout(subject=SUBJECT, root=root, stages=STAGES)


def stored(folder: Path, told: Told, names: Sequence[str] = "abcd") -> None:
    problems = tuple(Problem(id=name, question=name, answer="1", source="t") for name in names)
    about = {"samples": 1, "seed": 0, "name": "tools", "select": None}
    asked = ProblemSet(name="t", title="t", problems=problems, sha256="0")
    sets = [{"name": "t", "title": "t", "sha256": "0", "notes": []}]
    EvalFolder(path=folder).start((asked,), {**about, "sets": sets})  # type: ignore[typeddict-item]
    (folder / "attempts").mkdir()
    with (folder / "attempts" / "t.jsonl").open("w", encoding="utf-8") as out:
        for problem, (calls, outcome) in zip(problems, told, strict=True):
            attempt = replace(attempt_of(calls, outcome=outcome), problem=problem)
            out.write(json.dumps({"key": f"{problem.id}/0", **attempt_to_json(attempt)}) + "\n")


def found(root: Path, old: Told, new: Mapping[int, Told]) -> Result:
    place = layout(root)
    stored(place.folder("eval-old", 0), old)
    for seed, told in new.items():
        stored(place.folder("eval-new", seed), told)
    return result_of(EXPERIMENT, place, list(new), wanted=5, command="thor reproduce table")


HALF = [("+", RIGHT), ("+", WRONG), ("-", WRONG), ("+-", RIGHT)]


def test_rows_hold_each_seed_and_differences_are_paired_with_what_has_no_seed(tmp_path: Path) -> None:
    better = [("+", RIGHT), ("+", RIGHT), ("-", WRONG), ("++", RIGHT)]
    best = [("+", RIGHT), ("+", RIGHT), ("+", RIGHT), ("++", RIGHT)]
    result = found(tmp_path, HALF, {0: better, 1: best})
    old, new = result["rows"]
    assert (old["seeds"], new["seeds"], new["attempts"]) == ([0], [0, 1], 8)
    assert new["measures"]["accuracy"]["by_seed"] == [75.0, 100.0]
    assert old["measures"]["calls_ok"]["mean"] == pytest.approx(60.0)  # three of five calls
    assert old["measures"]["right_if_clean"]["mean"] == 50.0  # of two whose calls all succeeded
    assert old["tool_success"]["table"] == [[1, 1], [1, 1]]
    (gap,) = result["differences"]
    assert (gap["difference"], gap["by_seed"]) == (pytest.approx(37.5), [25.0, 50.0])
    assert gap["paper"] == {"theirs": 11.5}
    assert gap["agrees"] == "not told apart"  # four problems
    assert gap["p_corrected"] is None


def test_a_difference_that_is_told_apart_agrees_with_the_paper_or_does_not(tmp_path: Path) -> None:
    rights, wrongs = [[("+", outcome)] * 4 for outcome in (RIGHT, WRONG)]
    wrongs = [*wrongs[:3], ("+", RIGHT)]
    better = found(tmp_path / "1", wrongs, {0: rights, 1: rights})
    place = layout(tmp_path / "2")
    stored(place.folder("eval-old", 0), [("+", RIGHT)] * 60, [f"p{i}" for i in range(60)])
    stored(place.folder("eval-new", 0), [("+", WRONG)] * 59 + [("+", RIGHT)], [f"p{i}" for i in range(60)])
    worse = result_of(EXPERIMENT, place, [0], wanted=1, command="")
    assert [each["differences"][0]["agrees"] for each in (better, worse)] == ["not told apart", "no"]


def test_a_row_without_calls_has_no_share_of_them_and_no_difference_in_it(tmp_path: Path) -> None:
    place = layout(tmp_path)
    stored(place.folder("eval-old", 0), [("", WRONG)] * 4)
    stored(place.folder("eval-new", 0), HALF)
    both = replace(EXPERIMENT, compared=("accuracy", "calls_ok"))
    result = result_of(both, place, [0], wanted=1, command="")
    assert result["rows"][0]["measures"]["calls_ok"] is None
    assert [each["measure"] for each in result["differences"]] == ["accuracy"]
    assert "| old | 1 | 0.0 (0.0 to " in markdown(result)


def test_the_difference_in_each_seed_is_that_of_the_rows(tmp_path: Path) -> None:
    place = layout(tmp_path)
    stored(place.folder("eval-old", 0), HALF)  # three of five calls
    for seed, told in enumerate(([("+", RIGHT)] * 4, [("+", RIGHT), ("---", WRONG), ("+", WRONG), ("-", WRONG)])):
        stored(place.folder("eval-new", seed), told)  # four of four, two of six
    result = result_of(replace(EXPERIMENT, compared=("calls_ok",)), place, [0, 1], wanted=2, command="")
    assert result["differences"][0]["by_seed"] == pytest.approx([100 - 60, 100 / 3 - 60])


def test_selectors_among_the_same_attempts_are_compared_in_accuracy_alone(tmp_path: Path) -> None:
    place = layout(tmp_path)
    stored(place.folder("eval-new", 0), HALF)
    rows = (Row(name="one", evaluation="eval-new"), Row(name="vote", evaluation="eval-new", select="vote"))
    pairs = (Pair(ours="vote", theirs="one"),)
    both = replace(EXPERIMENT, rows=rows, pairs=pairs, paper=(), compared=("accuracy", "calls_ok"))
    assert [each["measure"] for each in result_of(both, place, [0], wanted=1, command="")["differences"]] == [
        "accuracy"
    ]


def test_a_share_of_few_attempts_that_is_nought_has_a_wide_interval(tmp_path: Path) -> None:
    place = layout(tmp_path)
    stored(place.folder("eval-new", 0), [("+", RIGHT)] * 3 + [("-", WRONG)])
    rows = (Row(name="new", evaluation="eval-new"),)
    few = replace(EXPERIMENT, rows=rows, pairs=(), paper=(), measures=("right_if_failed",))
    value = result_of(few, place, [0], wanted=1, command="")["rows"][0]["measures"]["right_if_failed"]
    assert value is not None
    assert value["ci95"] == pytest.approx([0.0, 97.5])  # one problem has an attempt with a failed call


def test_methods_of_rl_have_the_rounds_and_tokens_of_the_run_behind_each_evaluation(tmp_path: Path) -> None:
    stages = {
        "sft": Stage(name="sft", command="sft", words=()),
        "rl-x": Stage(name="rl-x", command="rl", words=("--model", "{sft}/model")),
        "eval-x": Stage(name="eval-x", command="eval", words=("--model", "{rl-x}/model")),
        "eval-sft": Stage(name="eval-sft", command="eval", words=("--model", "{sft}/model")),
    }
    place = Layout(subject=SUBJECT, root=tmp_path, stages=stages)
    rows = (Row(name="cold start", evaluation="eval-sft"), Row(name="x", evaluation="eval-x"))
    for seed, tokens in enumerate(([10_000, 20_000], [31_000])):
        for row in rows:
            stored(place.folder(row.evaluation, seed), HALF)
        metrics = place.folder("rl-x", seed) / "metrics.jsonl"
        metrics.parent.mkdir()
        lines = (json.dumps({"key": str(i), "sampled_tokens": each}) for i, each in enumerate(tokens))
        metrics.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    family = replace(EXPERIMENT, rows=rows, pairs=(), paper=(), is_family=True)
    result = result_of(family, place, [0, 1], wanted=2, command="thor reproduce family")
    assert "spent" not in result["rows"][0]
    assert result["rows"][1]["spent"] == {"rounds": [2, 1], "sampled_tokens": [30_000, 31_000]}
    head, (cold, tuned) = table(result)
    assert tuple(head[-2:]) == SPENT
    assert (cold[-2:], tuned[-2:]) == (("-", "-"), ("1.5", "30"))
    for row in result["rows"]:
        row.pop("spent", None)
    assert SPENT[0] not in table(result)[0]


def test_the_page_says_how_many_seeds_are_missing_and_what_the_paper_has(tmp_path: Path) -> None:
    text = markdown(found(tmp_path, HALF, {0: HALF, 1: HALF}))
    assert "2 seeds, 4 held-out problems; in brackets 95 % intervals, in square ones each seed." in text
    assert "| new | 2 | 50.0 (" in text
    assert ") [50.0, 50.0] |" in text
    assert "3 seeds of the 5 that were asked for are missing" in text
    assert "| new - old | +0.0 (" in text
    assert "| theirs | accuracy, % | 50 | 61.5 |" in text
    assert "* Nothing is said here." in text


def test_evaluations_of_other_problems_are_refused(tmp_path: Path) -> None:
    place = layout(tmp_path)
    stored(place.folder("eval-old", 0), HALF)
    stored(place.folder("eval-new", 0), HALF, "abce")
    with pytest.raises(UsageError, match="not asked the same problems"):
        result_of(EXPERIMENT, place, [0], wanted=1, command="")


def test_an_unfinished_evaluation_is_refused(tmp_path: Path) -> None:
    place = layout(tmp_path)
    stored(place.folder("eval-old", 0), HALF)
    stored(place.folder("eval-new", 0), HALF)
    path = place.folder("eval-new", 0) / "attempts" / "t.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    with pytest.raises(UsageError, match="lacks 1 attempts"):
        result_of(EXPERIMENT, place, [0], wanted=1, command="")


def test_a_result_file_is_read_again_and_another_file_refused(tmp_path: Path) -> None:
    result = found(tmp_path, HALF, {0: HALF})
    path = tmp_path / "table.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    assert read_result(path) == result
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match="no result of `thor reproduce`"):
        read_result(path)


def test_what_would_be_run_on_the_papers_models_is_printed_and_nothing_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Reproduce(names=("table6",), preset="paper", seeds=2, output=tmp_path / "runs").run()
    printed = capsys.readouterr().out
    assert "thor rl --preset paper-reasoning --model" in printed
    assert "hours of one H100 at least" in printed
    assert not (tmp_path / "runs").exists()


def test_an_unknown_table_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="table2, table3"):
        Reproduce(names=("table9",), output=tmp_path).run()


def test_nothing_is_measured_where_no_evaluation_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Reproduce(names=("table6",), measure=True, output=tmp_path / "runs").run()
    assert capsys.readouterr().out == "table6: no row is finished\n"
    assert not (tmp_path / "runs").exists()


def test_the_page_names_the_stages_in_another_precision_than_most(tmp_path: Path) -> None:
    def page(**asked: bool) -> str:
        for name, is_half in asked.items():
            record = layout(tmp_path).folder(f"eval-{name}", 0) / "config.json"
            record.write_text(json.dumps({"resources": {"engine": {"bf16": is_half}}}), encoding="utf-8")
        return markdown(result_of(EXPERIMENT, layout(tmp_path), [0, 1], wanted=2, command="thor reproduce table"))

    told = markdown(found(tmp_path, HALF, {0: HALF, 1: HALF}))
    assert "float" not in told  # nothing is known of it
    assert ", float32. Intervals" in page(old=False, new=False)
    second = layout(tmp_path).folder("eval-new", 1) / "config.json"
    second.write_text('{"bf16": false}', encoding="utf-8")
    assert ", float32, but bfloat16 in seed 0, eval-new. Intervals" in page(new=True)
    second.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"eval-new/config.json is damaged"):
        page(old=False)
