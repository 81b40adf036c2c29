"""Every program of a worked solution does what the solution claims, and the solution is right."""

import asyncio
import re
from itertools import chain
from random import Random

import pytest

from nano_models.worked import Program, WorkedStep, work
from thor_tir.dialect.observation import brief_text
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits
from worked_cases import FAMILIES, is_as_claimed, shown, solutions_of

NUMBER = re.compile(r"\d+")
DIGITS = re.compile(r"-?[0-9a-f]+")
"""In any base up to 16."""


def steps_of(family: str) -> list[WorkedStep]:
    return [step for _, worked in solutions_of(family) for step in worked.steps]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_program_prints_exactly_what_the_solution_says_it_prints(family: str) -> None:
    programs = list(chain.from_iterable(step.programs for step in steps_of(family)))
    assert [(p.code, shown(p.code)) for p in programs] == [(p.code, p.shown) for p in programs]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_careless_program_fails_exactly_as_the_solution_says(family: str) -> None:
    programs = list(chain.from_iterable(step.careless for step in steps_of(family)))
    assert programs
    assert [p.code for p in programs if not is_as_claimed(p, shown(p.code))] == []


def test_the_check_of_programs_would_notice_a_wrong_claim() -> None:
    assert shown("print(6 * 7)") == "42"
    assert not is_as_claimed(Program(code="print(x)", shown="TypeError: no"), shown("print(x)"))
    assert not is_as_claimed(Program(code="6 * 7", shown="42"), shown("6 * 7"))  # nothing is printed


async def seen_in_the_sandbox(programs: list[Program]) -> list[str]:
    config = LocalSandboxConfig(workers=1, limits=Limits(timeout_s=30.0), modules=("numpy", "sympy"))
    async with LocalSandbox(config) as sandbox:
        return [brief_text(await sandbox.run(p.code), max_chars=512) for p in programs]


def test_the_sandbox_shows_the_model_what_the_solution_says() -> None:
    steps = [step for family in FAMILIES for step in next(solutions_of(family))[1].steps]
    right = [program for step in steps for program in step.programs]
    careless = [program for step in steps for program in step.careless]
    seen = asyncio.run(seen_in_the_sandbox(right + careless))
    assert seen[: len(right)] == [p.shown for p in right]
    wrong = zip(careless, seen[len(right) :], strict=True)
    assert [(p.code, text) for p, text in wrong if not is_as_claimed(p, text)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_gets_full_marks_from_the_scorer_of_its_own_family(family: str) -> None:
    from reasoning_gym import get_score_answer_fn

    score = get_score_answer_fn(family)
    for problem, worked in solutions_of(family):
        entry = {"question": problem.question, "answer": problem.answer, "metadata": problem.extra["metadata"]}
        assert score(answer=worked.answer, entry=entry) == 1.0


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"complex_arithmetic"}))
def test_the_answer_is_made_of_the_numbers_that_the_last_program_prints(family: str) -> None:
    for problem, worked in solutions_of(family):
        printed = worked.steps[-1].programs[0].shown
        assert DIGITS.findall(worked.answer) == DIGITS.findall(printed), problem.id


def test_a_complex_answer_is_made_of_the_two_parts_that_the_programs_print() -> None:
    for problem, worked in solutions_of("complex_arithmetic"):
        real, imaginary = " ".join(step.programs[0].shown for step in worked.steps).split()
        answer = complex(worked.answer.replace(" ", "").replace("i", "j"))  # written `-28.0 + 4.0i`
        assert answer == complex(int(real), int(imaginary)), problem.id


@pytest.mark.parametrize("family", FAMILIES)
def test_words_and_program_of_a_step_come_to_the_same_result(family: str) -> None:
    """Every number that a program prints stands in the claim."""
    for step in steps_of(family):
        assert set(NUMBER.findall(step.programs[0].shown)) <= set(NUMBER.findall(step.claim)), step.claim


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logic_alone_holds_every_number_that_a_program_of_the_step_computes_with(family: str) -> None:
    """What the critic reads is one step. Numbers below 17 are loop bounds and bases that a programmer knows."""
    for step in steps_of(family):
        told = set(NUMBER.findall(step.logic))
        for program in step.programs:
            code = program.code.replace("0123456789abcdef", "")
            assert {number for number in NUMBER.findall(code) if int(number) > 16} <= told, program.code


def test_a_family_without_a_worked_form_is_refused() -> None:
    with pytest.raises(KeyError, match="sudoku"):
        work("sudoku", {}, "", Random(0))
