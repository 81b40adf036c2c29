"""Numbers of rounds as curves: what people are told to watch comes first, and runs are laid over each other."""

import json
from pathlib import Path

import pytest

from thor_tir.view import curves as module
from thor_tir.view.curves import WATCHED, curves
from thor_tir.view.run import ViewedRun, open_runs
from viewed_runs import training_run


def opened(*folders: Path) -> list[ViewedRun]:
    runs = open_runs(list(folders))
    for run in runs:
        run.refresh(10)
    return runs


def test_what_docs_tell_people_to_watch_comes_first_by_level_and_run(tmp_path: Path) -> None:
    runs = opened(training_run(tmp_path / "a", rounds=3), training_run(tmp_path / "b", rounds=2))
    (group,) = curves(runs)
    titles = [chart["title"] for chart in group["charts"]]
    assert titles[:6] == ["Entropy, nats", "Clip shares", "approx_kl", "Pass rate", "Groups kept", "Reward"]
    entropy = group["charts"][0]["series"]
    assert [(each["run"], each["label"]) for each in entropy] == [
        (0, "episode"),
        (0, "step"),
        (1, "episode"),
        (1, "step"),
    ]
    assert entropy[0]["points"] == [[1, 0.4], [2, 0.2], [3, pytest.approx(0.4 / 3)]]
    assert {each["label"] for each in group["charts"][1]["series"]} == {
        f"{level} {side} share" for level in ("episode", "step") for side in ("low", "high")
    }


def test_every_figure_of_a_level_that_the_pages_names_is_watched() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rl.md").read_text()
    assert all(f"`{name}`" in page for name in ("entropy", "pass_rate", "groups_kept", "mismatch", "reward"))
    assert len({watched.title for watched in WATCHED}) == len(WATCHED)


def test_numbers_of_unknown_names_follow_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"key": str(n), "step": n, "loss": 1 / n, "new/figure": n, "bad": float("nan"), "word": "x"} for n in (1, 2)
    ]
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (group,) = curves(opened(tmp_path))
    assert group["name"] == "sft/metrics"
    assert [chart["title"] for chart in group["charts"]] == ["Loss", "new/figure"]
    assert group["charts"][0]["series"][0]["points"] == [[1, 1.0], [2, 0.5]]


def test_a_figure_of_a_round_that_stands_under_its_level_too_is_drawn_once(tmp_path: Path) -> None:
    row = {"key": "0", "step": 1, "calls": 1.5, "levels": {"episode": {"calls": 1.5}, "step": {"calls": 1.0}}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (group,) = curves(opened(tmp_path))
    assert [each["label"] for each in group["charts"][0]["series"]] == ["episode", "step"]


@pytest.mark.parametrize("count", [1, 10, 11, 999])
def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(module, "MAX_POINTS", 10)
    rows = "".join(json.dumps({"key": str(n), "step": n, "loss": n}) + "\n" for n in range(count))
    (tmp_path / "metrics.jsonl").write_text(rows)
    points = curves(opened(tmp_path))[0]["charts"][0]["series"][0]["points"]
    assert len(points) == min(count, 10)
    assert (points[0][0], points[-1][0]) == (0, count - 1)
