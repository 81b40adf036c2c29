"""Costs of models, over the calls of a command that goes on and over its parts."""

import json
from pathlib import Path
from typing import Any

from thor_tir.engines.model_record import ModelRecord, unite_parts


def about(requests: int) -> dict[str, Any]:
    return {"model": "m", "spent": {"requests": requests, "retries": 0}}


def stored(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_calls_add_up_and_one_that_was_killed_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.json"
    for requests in (3, None, 4):
        record = ModelRecord(path)
        record.begin()
        if requests is not None:  # else it was killed
            record.end(about(requests))
    assert stored(path) == {**about(7), "calls": {"begun": 3, "ended": 2}}


def test_models_in_roles_and_parts_add_up_too(tmp_path: Path) -> None:
    for part, requests in (("1-of-2", 3), ("2-of-2", 4)):
        for _ in range(2):
            record = ModelRecord(tmp_path / f"models.{part}.json")
            record.begin()
            record.end({"actor": about(requests), "critic": {"model": "c"}})
    unite_parts(tmp_path, "models")
    assert stored(tmp_path / "models.json") == {
        "actor": about(14),
        "critic": {"model": "c"},
        "calls": {"begun": 4, "ended": 4},
    }


def test_a_record_that_did_not_count_calls_is_of_one(tmp_path: Path) -> None:
    (tmp_path / "endpoint.json").write_text(json.dumps(about(3)))
    record = ModelRecord(tmp_path / "endpoint.json")
    record.begin()
    record.end(about(1))
    assert stored(tmp_path / "endpoint.json") == {**about(4), "calls": {"begun": 2, "ended": 2}}


def test_a_command_without_parts_leaves_its_record(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text("{}")
    unite_parts(tmp_path, "models")
    assert stored(tmp_path / "models.json") == {}
