"""Inputs met in public reports, each with its right value: `shared/data/field/cases.jsonl` beside the checkout."""

import json
from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).resolve().parents[3] / "shared" / "data" / "field" / "cases.jsonl"


def field_cases(*areas: str) -> list[Any]:
    """One pytest parameter a case of these areas, named by its id; one skipped parameter where the file is absent."""
    if not CASES.exists():
        return [
            pytest.param({}, id="absent", marks=pytest.mark.skip(reason=f"{CASES.name} is not beside the checkout"))
        ]
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    return [pytest.param(row, id=row["id"]) for row in rows if row["area"] in areas]
