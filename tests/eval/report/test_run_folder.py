"""What is read of a run's files, and how a file that cannot be read is told."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from fake_run import SUMMARY, write_run
from thor_tir.errors import UsageError
from thor_tir.eval.report.run_folder import MAX_ROUNDS, read_run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no results.json"),
        ("{}", "no result of this version .KeyError.'sets'"),
        ("[]", "no result of this version"),
        ("[{", "is not valid JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"name": "a", "sets": [{"avg": {"value": NaN}}]}', "no result of this version"),
        ('{"runs": [3]}', "no result of this version"),
    ],
)
def test_results_that_cannot_be_shown_are_told_in_one_sentence(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_run(tmp_path)


def test_numbers_that_json_cannot_hold_become_gaps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_trajectories=0)
    (run / "rl" / "metrics.jsonl").write_text('{"step": 1, "grad_norm": NaN, "answer_reward": 1e999, "calls": 2}\n')
    assert list(read_run(run).rl) == [{"step": 1, "grad_norm": None, "answer_reward": None, "calls": 2}]


def test_a_torn_last_line_is_no_round_and_a_long_run_keeps_its_first_and_last(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_trajectories=0)
    lines = "".join(f'{{"step": {i}}}\n' for i in range(3 * MAX_ROUNDS))
    (run / "rl" / "metrics.jsonl").write_text(lines + '{"step": 99')
    steps = [row["step"] for row in read_run(run).rl]
    assert (len(steps), steps[0], steps[-1]) == (MAX_ROUNDS, 0, 3 * MAX_ROUNDS - 1)
    # 2999 / 999 lines apart on average, which is a little more than 3
    assert {b - a for a, b in pairwise(steps)} == {3, 4}


def test_a_summary_field_of_the_wrong_kind_is_left_out_and_the_rest_is_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_trajectories=0)
    damaged = {
        **SUMMARY,
        "paired": [{"name": "no number"}, SUMMARY["paired"][0]],
        "seed": None,
        "chi_squared": {"table": [[1, 2]]},
    }
    (run / "summary.json").write_text(json.dumps(damaged))
    summary = read_run(run).summary
    assert [d.name for d in summary.paired] == ["hierarchical RL - SFT"]
    assert (summary.association, summary.seed, summary.machine) == (None, "not recorded", "two CPU cores")
