"""Curves where people watch them: what is written, and what is said where a tracker is missing."""

from pathlib import Path

import pytest

from thor_tir import extras, tracking
from thor_tir.errors import UsageError
from thor_tir.tracking import open_trackers, scalars


def test_the_scalars_of_a_record_are_its_finite_numbers_under_the_path_of_their_names():
    record = {
        "step": 3,
        "levels": {"episode": {"reward": 0.5, "pass_rate": None, "log_ratio": {"histogram": [1, 2]}}},
        "grad_norm": float("inf"),
        "recipe": "joint",
        "done": True,
    }
    assert scalars(record) == {"step": 3.0, "levels/episode/reward": 0.5}


def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)


def test_without_tensorboard_a_run_goes_on_and_one_line_says_so(tmp_path, monkeypatch):
    absent(monkeypatch)
    said: list[str] = []
    assert open_trackers(("tensorboard",), tmp_path, said.append) == []
    (line,) = said
    assert "metrics.jsonl" in line
    assert ".[track]" in line


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_that_was_asked_for_and_is_not_installed_is_the_users_mistake(tmp_path, monkeypatch, name):
    absent(monkeypatch)
    with pytest.raises(UsageError, match=rf"the tracker {name} needs {name}, .* pip install '\.\[{name}\]'"):
        open_trackers((name,), tmp_path, print)


def test_event_files_hold_every_scalar_at_its_step(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed (pip install '.[track]')")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tracker,) = open_trackers(("tensorboard", "tensorboard"), tmp_path, print)
    tracker.log(1, {"levels/episode/reward": 0.25})
    tracker.log(2, {"levels/episode/reward": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()  # on disk before the tracker is closed: a kill loses nothing
    tracker.close()
    assert [(e.step, e.value) for e in events.Scalars("levels/episode/reward")] == [(1, 0.25), (2, 0.5)]


class Told:
    """Stands for trackio and wandb."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def init(self, **options):
        self.calls.append(options)

    def log(self, values, step):
        self.calls.append((step, values))

    def finish(self):
        self.calls.append("finish")


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_trackio_and_wandb_are_given_all_curves_of_a_step_at_once(tmp_path, monkeypatch, name):
    told = Told()
    monkeypatch.setattr(extras, "find_spec", lambda name: object())
    monkeypatch.setattr(tracking, "_hosted", lambda name: told)
    (tracker,) = open_trackers((name,), tmp_path / "my-run", print)
    tracker.log(4, {"a": 1.0, "b": 2.0})
    tracker.close()
    assert told.calls == [{"project": "thor", "name": "my-run"}, (4, {"a": 1.0, "b": 2.0}), "finish"]
