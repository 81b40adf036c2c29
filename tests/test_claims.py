"""The table of claims about speed: what was measured, what was missed and why, and what stands there from before."""

import json
from pathlib import Path

import pytest

import run_all
from claims import CLAIMS, WORKS, Claim

MOST = Claim(title="print", work="sandbox", read=lambda found: found["p50"], most=1.7, unit="×", why="the jail")
BEFORE = {"print": ("1.6×", "met", "old", "2020-01-01")}


def measured(**found: float) -> run_all.Done:
    return run_all.Done(status="measured", found=found, date="2026-11-28", machine="AMD EPYC AVX2, 2 cores, torch 2")


@pytest.mark.parametrize(
    ("ended", "row"),
    [
        (measured(p50=1.5), ["1.5×", "", "met", "AMD-EPYC-AVX2/2", "2026-11-28"]),
        (measured(p50=2.0), ["2×", "", "missed: the jail", "AMD-EPYC-AVX2/2", "2026-11-28"]),
        (measured(other=1.0), ["1.6×", "", "met", "old", "2020-01-01"]),
        (run_all.Done(status="skipped", why="no peer"), ["1.6×", "", "met", "old", "2020-01-01"]),
        (None, ["1.6×", "", "met", "old", "2020-01-01"]),
    ],
)
def test_a_row_is_measured_now_or_stands_from_before(ended, row):
    assert run_all.row_of(MOST, ended, BEFORE) == ["print", "≤1.7×", *row]


def test_what_nobody_measured_says_so():
    assert run_all.row_of(MOST, None, {})[2] == "not run"


def test_every_claim_has_its_work_and_one_goal():
    assert {claim.work for claim in CLAIMS} == set(WORKS)
    assert all((claim.most is None) != (claim.least is None) for claim in CLAIMS)


def test_a_failed_work_stops_nothing_and_a_finished_one_is_not_done_again(tmp_path, monkeypatch, capsys):
    ends = {"overlap": measured(), "tirgen": run_all.Done(status="failed", why="it broke")}
    begun = []

    def done(name: str, options: run_all.Options) -> run_all.Done:
        begun.append(name)
        return ends[name]

    monkeypatch.setattr(run_all, "done", done)
    options = run_all.Options(only=("overlap", "tirgen"), folder=tmp_path / "kept", results=tmp_path / "results.json")
    for _ in range(2):
        run_all.main(options)
    assert begun == ["overlap", "tirgen", "tirgen"]
    assert "tirgen was failed: it broke" in capsys.readouterr().out
    rows = json.loads(Path(options.results).read_text())["tables"]["claims"]["rows"]
    assert len(rows) == len(CLAIMS)
