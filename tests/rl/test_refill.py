"""Groups that teach nothing are replaced by those of further problems, up to a bound, and a kill changes nothing."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thor_tir.problem import Problem
from thor_tir.rl.collect import further_problems, problems_of_round
from thor_tir.rl.config import EpisodeConfig, RLConfig
from told_sandbox import ToldSandbox
from toy_task import LIMITS, OTHER, PROGRAMS, RIGHT, primed_model, run

HOPELESS = [Problem(id=name, question=name, answer="9", source="toy") for name in "abc"]
TEACHING = [Problem(id=name, question=name, answer="7", source="toy") for name in "de"]
CONFIG = RLConfig(
    levels="episode",
    num_rounds=2,
    problems_per_round=2,
    refill=1.0,
    rollout=LIMITS,
    episode=EpisodeConfig(num_generations=6),
)


class Killed(BaseException):
    """Stands for SIGKILL."""


class Fused(ToldSandbox):
    """Kills at the given program."""

    def __init__(self, number: int) -> None:
        super().__init__(PROGRAMS)
        self.left = number

    async def run(self, code: str, limits: Any = None) -> Any:
        self.left -= 1
        if not self.left:
            raise Killed
        return await super().run(code, limits)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(folder: Path, number: int) -> list[str]:
    """Problems of a round in the order of their places."""
    rows = [row for row in lines(folder / "rollouts.jsonl") if row["key"].startswith(f"round{number}/")]
    return list(dict.fromkeys(row["problem_id"] for row in sorted(rows, key=lambda row: row["key"])))


@pytest.fixture(scope="module")
def model_of():
    return lambda: primed_model(RIGHT, OTHER)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model_of):
    folder = tmp_path_factory.mktemp("whole")
    run(model_of(), CONFIG, folder, problems=HOPELESS + TEACHING)
    return folder


def test_a_group_without_rows_is_replaced_until_the_round_is_full_or_its_bound_is_reached(whole):
    for record in lines(whole / "metrics.jsonl"):
        problems = asked(whole, record["step"])
        first, further = problems[:2], problems[2:]
        assert len(set(problems)) == len(problems) == record["levels"]["episode"]["groups"] == 2 + record["refills"]
        kept = record["levels"]["episode"]["groups_kept"]
        assert kept == 2 or len(further) == 2  # full, or as many asked as may be
        assert record["refills"] >= sum(name in "abc" for name in first)
    assert sum(record["refills"] for record in lines(whole / "metrics.jsonl")) > 0


def test_what_is_sampled_is_trained_or_counted_by_cause(whole):
    for record in lines(whole / "metrics.jsonl"):
        assert record["sampled"] == record["rows_episode"] + sum(record["dropped"].values())


def test_a_run_that_is_killed_among_its_refills_asks_what_it_would_have_asked(whole, model_of, tmp_path):
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - asked about below
        run(model_of(), CONFIG, tmp_path, problems=HOPELESS + TEACHING, sandbox=Fused(14))  # of 12 in the first two
    assert isinstance(caught.value, Killed) or caught.value.subgroup(Killed) is not None
    run(model_of(), CONFIG, tmp_path, problems=HOPELESS + TEACHING)
    assert lines(tmp_path / "updates.jsonl") == lines(whole / "updates.jsonl")
    keys = Counter(row["key"] for row in lines(tmp_path / "rollouts.jsonl"))
    assert set(keys.values()) == {1}
    assert list(keys) == [row["key"] for row in lines(whole / "rollouts.jsonl")]


def test_further_problems_are_none_of_the_rounds_and_no_more_than_the_bound():
    problems = HOPELESS + TEACHING
    for number in range(6):
        further = further_problems(problems, number, CONFIG)
        assert len(further) == 2
        assert not {p.id for p in further} & {p.id for p in problems_of_round(problems, number, CONFIG)}
    assert further_problems(problems, 0, replace(CONFIG, refill=0.0)) == []
    assert len(further_problems(problems, 0, replace(CONFIG, refill=9.0))) == 3  # all that there are


def test_refills_without_trajectories_that_are_trained_are_refused():
    with pytest.raises(ValueError, match="--levels step trains on none"):
        RLConfig(levels="step", refill=1.0)
