"""Benchmark runs from end to end with scripted policies: scores, resuming, shards, comparison."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripted_benchmark import Quiet, play, right, scripted_run, set_of, wrong
from thor_tir import cli
from thor_tir.app.stages.evaluate import limited, requests_of, write_results
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.errors import UsageError
from thor_tir.eval.compare import compare
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.metrics import set_result
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import BENCHMARKS, load_benchmark
from thor_tir.storage.journal import Shard, shard_of

DATA = Path(__file__).parents[3] / "shared" / "data" / "bench"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark files are not beside this checkout")

SUMS = [
    Problem(id=f"sum/{i}", question=f"What is {i} plus {i}?", answer=str(2 * i), source="mine", extra={"level": i % 2})
    for i in range(11, 17)
]


def right_on(*ids: str):
    return lambda problem: right(problem) if problem.id in ids else wrong(problem)


def test_results_are_the_same_where_tokens_are_counted_and_not_read(tmp_path: Path) -> None:
    run = scripted_run(tmp_path, [set_of(*SUMS)])
    play(run, right_on("sum/11", "sum/13"))
    (asked,) = run.folder.sets
    whole, counted = (run.folder.evaluation(asked, counts_only=each) for each in (False, True))
    results = [set_result(asked, each, each, each.seconds, samples=2, seed=0) for each in (whole, counted)]
    assert results[0] == results[1]
    assert results[0]["tokens_kept"] > 0
    assert run.folder.counts_suffice("vote")
    assert not run.folder.counts_suffice("mine.py:best")


@needs_data
def test_a_perfect_policy_scores_100_percent_and_a_wrong_one_0_on_real_problems(tmp_path: Path) -> None:
    sets = [limited(load_benchmark(name, DATA), 6) for name in BENCHMARKS]
    for folder, replies, score in (("perfect", right, 1.0), ("wrong", wrong, 0.0)):
        run = scripted_run(tmp_path / folder, sets)
        play(run, replies)
        results = write_results(run.folder, Quiet())
        assert results is not None
        for entry in results["sets"]:
            values = {entry["avg"]["value"], entry["pass_at"]["2"]["value"], entry["maj_at"]["2"]["value"]}
            assert (values, entry["ends"]["correct" if score else "wrong"]) == ({score}, 12), entry["name"]
        assert results["six_set_average"]["avg"]["value"] == score


@needs_data
@pytest.mark.slow
def test_every_problem_of_every_set_is_right_with_its_reference_and_wrong_with_another_number(tmp_path: Path) -> None:
    sets = [load_benchmark(name, DATA) for name in BENCHMARKS]
    for folder, replies, score in (("perfect", right, 1.0), ("wrong", wrong, 0.0)):
        run = scripted_run(tmp_path / folder, sets, samples=1)
        play(run, replies)
        results = write_results(run.folder, Quiet())
        assert results is not None
        assert {entry["name"]: entry["avg"]["value"] for entry in results["sets"]} == dict.fromkeys(BENCHMARKS, score)
        assert results["six_set_average"]["avg"]["value"] == score


def test_a_run_cut_anywhere_continues_without_a_lost_or_doubled_attempt(tmp_path: Path) -> None:
    run = scripted_run(tmp_path, [set_of(*SUMS)])
    play(run, right)
    path = tmp_path / "attempts" / "mine.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:40])  # what a kill leaves: 5 attempts and a torn sixth
    assert run.folder.num_missing(run.sets[0]) == 7
    assert write_results(run.folder, reporter := Quiet()) is None
    assert "mine 7" in reporter.said[0]
    assert len(play(run, right)) == 7
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert sorted(keys) == sorted(f"{p.id}/{k}" for p in SUMS for k in (0, 1))


def test_shards_are_disjoint_and_together_give_the_results_of_one_run(tmp_path: Path) -> None:
    asked = [set_of(*SUMS)]
    one = scripted_run(tmp_path / "one", asked)
    play(one, right_on("sum/11", "sum/14"))
    for index in (2, 1):
        part = scripted_run(tmp_path / "parts", asked, shard=Shard(index=index, count=2))
        assert len(play(part, right_on("sum/11", "sum/14"))) == 6
        united = write_results(part.folder, Quiet())
        assert (united is None) == (index == 2)
    whole = scripted_run(tmp_path / "parts", asked)
    assert play(whole, right) == []  # nothing is left for a run without --shard
    alone = write_results(one.folder, Quiet())
    for results in (alone, united):
        results["sets"][0].pop("seconds")
        results["average"].pop("seconds")
    assert united == alone


def test_a_seed_depends_on_problem_and_sample_but_not_on_the_shard(tmp_path: Path) -> None:
    asked = set_of(*SUMS)
    whole = {r.id: r.seed for r in requests_of(scripted_run(tmp_path, [asked]), asked)}
    parts = [requests_of(scripted_run(tmp_path, [asked], shard=shard_of(f"{i}/4")), asked) for i in (1, 2, 3, 4)]
    assert {r.id: r.seed for part in parts for r in part} == whole
    assert sum(map(len, parts)) == len(whole) == len(set(whole.values())) == 12


def test_two_processes_cannot_add_to_the_same_part(tmp_path: Path) -> None:
    folder = EvalFolder(path=tmp_path)
    with folder.writing(Shard(index=1, count=2)), folder.writing(Shard(index=2, count=2)):
        for taken in (Shard(index=1, count=2), Shard(index=1, count=1)):
            with pytest.raises(UsageError, match="another process"), folder.writing(taken):
                pass
    with folder.writing(Shard(index=1, count=1)):
        pass


@pytest.mark.parametrize("text", ["0/2", "3/2", "x/2", "2", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="shard"):
        shard_of(text)


def test_a_comparison_tells_difference_mcnemar_and_what_flipped(tmp_path: Path) -> None:
    asked = [set_of(*SUMS)]
    play(first := scripted_run(tmp_path / "a", asked), right_on("sum/11", "sum/12", "sum/13"))
    play(second := scripted_run(tmp_path / "b", asked), right_on("sum/13", "sum/16"))
    found = compare(first.folder, second.folder)
    (entry,) = found["sets"]
    assert entry["difference"]["value"] == pytest.approx(1 / 6)  # 3 of 6 against 2 of 6
    assert entry["flipped"] == {"only_first": ["sum/11", "sum/12"], "only_second": ["sum/16"]}
    assert entry["mcnemar"] == {"only_first": 2, "only_second": 1, "p": 1.0}  # 2 (1 + 3) / 8, at most 1


def test_a_style_of_observations_reaches_the_model_the_record_and_the_comparison(tmp_path: Path) -> None:
    def replies(problem: Problem) -> list[str]:
        return ["```python\npass\n```\n", right(problem)[0]] * 2

    asked = [set_of(SUMS[0])]
    told = {"brief": "(no output)", "paper": "timeout_decorator.TimeoutError: 'Timed Out'"}
    runs = {}
    for style, words in told.items():
        observation = ObservationConfig(style=style, max_chars=256)
        run = scripted_run(tmp_path / style, asked)
        runs[style] = run = replace(run, config=replace(run.config, observation=observation))
        texts = play(run, replies)
        assert [f"```output\n{words}\n```" in text for text in texts] == [False, True] * 2
        assert run.folder.manifest["observation"] == {"style": style, "max_chars": 256}
    found = compare(runs["brief"].folder, runs["paper"].folder)
    assert [found[side]["observation"]["style"] for side in ("first", "second")] == ["brief", "paper"]


def test_runs_on_different_problems_are_not_compared(tmp_path: Path) -> None:
    play(first := scripted_run(tmp_path / "a", [set_of(*SUMS)]), right)
    play(second := scripted_run(tmp_path / "b", [set_of(*SUMS[:-1])]), right)
    with pytest.raises(UsageError, match="1 differ, for example sum/16"):
        compare(first.folder, second.folder)
    play(third := scripted_run(tmp_path / "c", [set_of(*SUMS, name="other")]), right)
    with pytest.raises(UsageError, match="no set in common"):
        compare(first.folder, third.folder)


def test_results_count_ends_apart_and_break_down_by_level(tmp_path: Path) -> None:
    def replies(problem: Problem) -> list[str]:
        if problem.id == "sum/11":
            return [r"\boxed{22}", "I do not know."]
        if problem.id == "sum/12":
            return ["and so on " * 600] * 2  # 4,000 tokens do not hold it
        return list(right(problem))

    run = scripted_run(tmp_path, [set_of(*SUMS)])
    play(run, replies)
    results = write_results(run.folder, Quiet())
    assert results is not None
    (entry,) = results["sets"]
    ends = {"correct": 9, "wrong": 0, "truncated": 2, "no_room": 0, "no_answer": 1, "unscored": 0, "dropped": 0}
    assert entry["ends"] == ends
    # Levels are id % 2: 11, 13, 15 have 1/2, 1, 1; 12, 14, 16 have 0, 1, 1.
    # Three problems resampled: all three may be the one without a right attempt, or all right ones.
    assert entry["by_level"] == {
        "0": {"value": pytest.approx(2 / 3), "ci95": [0.0, 1.0], "n": 3},
        "1": {"value": pytest.approx(5 / 6), "ci95": [0.5, 1.0], "n": 3},
    }
    # pass@2 solves all but sum/12; in sum/11 the silent attempt abstains, so the vote of two is right as well.
    assert entry["pass_at"]["2"]["value"] == entry["maj_at"]["2"]["value"] == pytest.approx(5 / 6)
    assert "| mine | 6 | 0 | 75.0 (" in (tmp_path / "results.md").read_text()
    assert r"\toprule" in (tmp_path / "results.tex").read_text()


def test_stored_attempts_are_listed_and_shown_and_shards_are_merged_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    asked = [set_of(*SUMS)]
    for index in (1, 2):
        if index == 2:
            assert status_of("eval", "merge", str(tmp_path)) == 2  # half is missing
            assert "attempts still missing: mine 6" in capsys.readouterr().out
        play(scripted_run(tmp_path, asked, shard=Shard(index=index, count=2)), right)
    assert status_of("eval", "merge", str(tmp_path)) == 0
    assert json.loads((tmp_path / "results.json").read_text())["sets"][0]["avg"]["value"] == 1
    assert "100.0 (" in capsys.readouterr().out
    assert status_of("show", str(tmp_path)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13  # one names the journal
    assert status_of("show", str(tmp_path), "sum/13/1") == 0
    told = capsys.readouterr().out
    assert "What is 13 plus 13?" in told
    assert "answer: 26" in told
    assert status_of("eval", "compare", str(tmp_path), str(tmp_path), "--output", str(tmp_path / "same.json")) == 0
    assert json.loads((tmp_path / "same.json").read_text())["sets"][0]["difference"]["value"] == 0


@needs_data
@pytest.mark.slow
def test_a_run_killed_with_signal_9_continues_to_the_attempts_of_one_left_alone(tmp_path: Path) -> None:
    def command(folder: str) -> list[str]:
        options = (
            "eval --problems amc23,humaneval --samples 2 --limit 8 --rollout.max-completion-length 64 "
            "--engine.max-num-seqs 2 --deterministic"
        )
        place = ["--data", str(DATA), "--concurrency", "2", "--output", str(tmp_path / folder)]
        return [sys.executable, "-m", "thor_tir", *options.split(), *place]

    journal = tmp_path / "killed" / "attempts" / "amc23.jsonl"
    running = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL)
    while running.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        time.sleep(0.02)
    running.kill()
    assert running.wait() == -9
    for folder in ("killed", "alone"):
        subprocess.run(command(folder), check=True, stdout=subprocess.DEVNULL)
    for name in ("amc23", "humaneval"):
        texts = [(tmp_path / f / "attempts" / f"{name}.jsonl").read_text() for f in ("killed", "alone")]
        killed, alone = ([without_seconds(json.loads(line)) for line in text.splitlines()] for text in texts)
        assert len({row["key"] for row in alone}) == len(alone) == 16
        assert killed == alone  # every token and every verdict, in the same order
    results = [without_seconds(json.loads((tmp_path / f / "results.json").read_text())) for f in ("killed", "alone")]
    assert results[0] == results[1]


def without_seconds(value: Any) -> Any:
    """JSON but for how long things took, which no two runs share."""
    if isinstance(value, dict):
        return {key: without_seconds(v) for key, v in value.items() if key not in ("seconds", "cpu_s", "stderr")}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def status_of(*argv: str) -> int:
    """The exit status of a command that is run in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(argv))
    assert isinstance(ended.value.code, int)
    return ended.value.code
