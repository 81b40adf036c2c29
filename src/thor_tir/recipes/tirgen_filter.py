"""The filter as a stage of a run: raw trajectories and tool-free samples on disk -> the data set and its funnel."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from thor_tir.attempt import DROPPED, Attempt, attempt_from_json, attempt_to_json
from thor_tir.journal import Journal, write_atomically
from thor_tir.problem import Problem
from thor_tir.recipes.settings import RunConfig
from thor_tir.tirgen.filters import Candidate, sieve
from thor_tir.verdict import Outcome


def select(problems: Sequence[Problem], raw: Journal, words: Journal, config: RunConfig, folder: Path) -> Path:
    """Write `funnel.json` and the data set, whose path is returned."""
    by_id = {problem.id: problem for problem in problems}
    rates = words_pass_rates(words)
    rows = [row for row in (raw[f"{p.id}/0"] for p in problems) if DROPPED not in row]
    attempts = [attempt_from_json(row, by_id[row["problem_id"]]) for row in rows]
    candidates = [
        Candidate(trajectory=a.trajectory, verdict=a.verdict, words_pass_rate=rates.get(a.problem.id)) for a in attempts
    ]
    kept, stages = sieve(candidates, config.filter)
    fates: Counter[str] = Counter()
    for row in rows:
        fates.update(row["critic"])
    funnel = {"stages": [asdict(stage) for stage in stages], "critic": dict(fates)}
    write_atomically(folder / "funnel.json", json.dumps(funnel, indent=1) + "\n")
    chosen = [
        attempt_to_json(Attempt(problem=by_id[c.trajectory.problem_id], trajectory=c.trajectory, verdict=c.verdict))
        | {"problem": asdict(by_id[c.trajectory.problem_id])}
        for c in kept
    ]
    path = folder / "dataset.jsonl"
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen))
    return path


def words_pass_rates(words: Journal) -> dict[str, float]:
    """Share of tool-free samples that are right, per problem id."""
    grouped: dict[str, list[float]] = {}
    for row in words:
        if DROPPED not in row:
            grouped.setdefault(row["problem_id"], []).append(float(row["outcome"] == Outcome.CORRECT))
    return {id: sum(rates) / len(rates) for id, rates in grouped.items()}
