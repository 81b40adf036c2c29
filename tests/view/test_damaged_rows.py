"""Journals that somebody damaged: whatever stands in them, the page is told a fact or a sentence, never a fault."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from thor_tir.errors import UsageError
from thor_tir.view.curves import curves
from thor_tir.view.detail import candidates, detail, tokens
from thor_tir.view.outcomes import outcomes
from thor_tir.view.run import open_runs
from thor_tir.view.selection import ORDERS, Selection, choose, facets, listed
from viewed_runs import evaluation_run, training_run

WRONG_NUMBERS = (-1, 1e308, 10**400, 2**40, True, float("inf"), float("nan"))
WRONG = (None, "", "x", "\ud83d", [], {}, [None], [1, 2], {"a": []}, *WRONG_NUMBERS)


def damaged(value: Any, rng: Random, share: float) -> Any:
    """A copy in which some values are gone or of another kind."""
    if rng.random() < share:
        return rng.choice(WRONG)
    if isinstance(value, dict):
        return {k: damaged(v, rng, share) for k, v in value.items() if rng.random() > share / 4}
    return [damaged(v, rng, share) for v in value] if isinstance(value, list) else value


def damage(path: Path, rng: Random, share: float) -> None:
    lines = path.read_text().splitlines()
    new = [json.dumps(damaged(json.loads(line), rng, share)) if rng.random() < 0.8 else line for line in lines]
    new += ["", "{", "[]", "null", '"x"', "\x00", "{}", '{"key": [], "step": {}}', '{"rows": [{}], "key": []}']
    rng.shuffle(new)
    path.write_text("\n".join(new) + "\n")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_rows_are_facts_or_sentences(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    folder = training_run(tmp_path / "run", rounds=2)
    evaluation_run(folder / "eval")
    for path in sorted(folder.rglob("*.json*")):
        if path.suffix == ".jsonl":
            damage(path, rng, rng.choice((0.005, 0.02, 0.1)))
        elif rng.random() < 0.7:
            path.write_text(json.dumps(damaged(json.loads(path.read_text()), rng, 0.1)))
    results = {"runs": [{"name": "a", "sets": [{"title": "t", "avg": {"value": 0.5, "ci95": [0, 1]}}]}]}
    (folder / "results.json").write_text(json.dumps(damaged(results, rng, 0.15)))
    (run,) = open_runs([folder])
    run.refresh(30)
    said: list[Any] = [facets(run, ""), facets(run, "rl/rollouts"), outcomes(run), curves([run])]
    for asked in ({"level": "repairs"}, {"text": "12"}, *({"sort": name} for name in ORDERS)):
        said.append(listed(run, choose(run, Selection.of(asked))))
    for file in run.files:
        for key in list(file.entries):
            for ask in (detail, tokens, candidates):
                try:
                    said.append(ask(run, file.name, key))
                except UsageError as error:
                    said.append(str(error))
    json.dumps(said, allow_nan=False)
