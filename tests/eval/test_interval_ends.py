"""At 0 and at 100 % every place that prints an interval prints one that is not a point."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_benchmark_runs import SUMS
from test_losses import printed, results_of_replies

from scripted_agent import FAILING, program
from scripted_benchmark import play, right, scripted_run, set_of, wrong
from thor_tir.eval.compare import compare, comparison_rows
from thor_tir.eval.tables import latex, markdown, run_table, score_table

LOW, HIGH = 100 * 0.025 ** (1 / 6), 100 * (1 - 0.025 ** (1 / 6))
"""Clopper and Pearson for 6 of 6, and for 0 of 6, in percent."""


def intervals(value: Any) -> Iterator[list[float]]:
    """Every interval in JSON values, but that of an odds ratio, which may not exist."""
    if isinstance(value, dict):
        if "value" in value and "ci95" in value:
            yield value["ci95"]
        for each in value.values():
            yield from intervals(each)
    elif isinstance(value, list):
        for each in value:
            yield from intervals(each)


@pytest.mark.parametrize(("replies", "shown"), [(right, f"100.0 ({LOW:.1f}-100.0)"), (wrong, f"0.0 (0.0-{HIGH:.1f})")])
def test_every_table_has_the_exact_binomial_interval(tmp_path: Path, replies, shown: str) -> None:
    # 0.025^(1/6) = 0.5407
    results = results_of_replies(tmp_path, SUMS, lambda p: [f"{program('1')}", *replies(p)[:1]] * 2)
    found = list(intervals(results))
    assert len(found) > 10
    assert all(low < high for low, high in found)
    for text in (markdown(results), latex(results), printed(tmp_path), *map(str, score_table(results)[1])):
        assert shown in text
    assert shown.replace("-", " - ").partition("(")[2].rstrip(")") in run_table([results])[1][0]


@pytest.mark.parametrize("code", ["1", FAILING])
def test_shares_of_calls_that_all_ran_or_all_failed_have_one_too(tmp_path: Path, code: str) -> None:
    (entry,) = results_of_replies(tmp_path, SUMS, lambda p: [program(code), right(p)[0]] * 2)["sets"]
    low, high = entry["call_success"]["ci95"]
    assert (low, high) == pytest.approx((LOW / 100, 1) if code == "1" else (0, HIGH / 100))


@pytest.mark.parametrize(
    ("first", "second"), [(right, right), (wrong, wrong), (right, wrong), (wrong, right)], ids=["11", "00", "10", "01"]
)
def test_a_difference_that_is_the_same_on_every_problem_has_one_too(tmp_path: Path, first, second) -> None:
    runs = [scripted_run(tmp_path / name, [set_of(*SUMS), set_of(*SUMS, name="again")]) for name in ("a", "b")]
    for run, replies in zip(runs, (first, second), strict=True):
        play(run, lambda p, replies=replies: [*replies(p), *replies(p)])  # both sets ask the same
    found = compare(*(run.folder for run in runs))
    assert all(low < high for low, high in intervals(json.loads(json.dumps(found))))
    for row in comparison_rows(found)[1]:
        low, high = re.findall(r"[+-]\d+\.\d", row[5])[1:]
        assert low != high


def test_a_single_problem_says_almost_nothing(tmp_path: Path) -> None:
    (entry,) = results_of_replies(tmp_path, SUMS[:1], right)["sets"]
    assert entry["avg"]["ci95"] == [pytest.approx(0.025), 1.0]
