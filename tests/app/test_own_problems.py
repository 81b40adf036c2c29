"""Problems of one's own through a whole run: no question is trained on and tested on."""

from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir.app.config import quickstart
from thor_tir.app.stages.own_problems import TEST, TRAIN, parts_of, with_own_problems
from thor_tir.app.stages.quickstart import _test_set
from thor_tir.app.stages.rl import problems_of
from thor_tir.app.stages.tirgen import tirgen_problems
from thor_tir.errors import UsageError
from thor_tir.problem import Problem, write_problems
from thor_tir.problems.sources import normalised


def problems(first: int, last: int, text: str = "What is {} + 1?") -> list[Problem]:
    return [Problem(id=f"p{n}", question=text.format(n), answer=str(n + 1), source="own") for n in range(first, last)]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    write_problems(tmp_path / "own.jsonl", problems(0, 200))
    return tmp_path / "own.jsonl"


def questions(found) -> set[str]:
    return {normalised(problem.question) for problem in found}


def test_a_tenth_is_held_out_and_every_stage_trains_on_the_rest(own, tmp_path):
    said: list[str] = []
    config = with_own_problems(replace(quickstart(), problems=str(own)), tmp_path, said.append)
    test = questions(_test_set(config).problems)
    rl = problems_of(config)
    trained = [tirgen_problems(config).problems, rl.train.problems, rl.validation.problems]
    assert 10 <= len(test) <= 40
    assert all(questions(part) and not questions(part) & test for part in trained)
    assert len(test) + len(rl.train.problems) + len(rl.validation.problems) == 200
    assert f"{len(test)} problems held out of {own} by a digest of the question; no stage trains on them" in said[0]
    before = [(tmp_path / place).read_bytes() for place in (TRAIN, TEST)]
    with_own_problems(replace(quickstart(), problems=str(own)), tmp_path, said.append)  # as after a kill
    assert [(tmp_path / place).read_bytes() for place in (TRAIN, TEST)] == before


def test_problems_that_are_named_for_the_test_are_not_trained_on(own, tmp_path):
    write_problems(tmp_path / "test.jsonl", problems(190, 230, "what is  {} + 1"))
    parts = parts_of(replace(quickstart(), problems=str(own), test_problems=str(tmp_path / "test.jsonl")))
    assert (len(parts.train), len(parts.test)) == (190, 40)
    assert "10 of which are in" in parts.remark


def test_too_few_problems_are_refused_in_a_sentence_that_says_what_helps(tmp_path):
    write_problems(tmp_path / "own.jsonl", problems(0, 2))
    with pytest.raises(UsageError, match="to test on: give more problems, or others to test on by --test-problems"):
        parts_of(replace(quickstart(), problems=str(tmp_path / "own.jsonl")))


def test_generated_problems_are_as_they_were(tmp_path):
    config = quickstart()
    assert with_own_problems(config, tmp_path, print) is config
    assert list(tmp_path.iterdir()) == []
