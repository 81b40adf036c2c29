"""Causes of wrong answers behind calls that all succeeded, and the area under a curve with ties."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from called_attempts import attempt_of
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Thought


def script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "why_wrong.py"
    spec = importlib.util.spec_from_file_location("why_wrong", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WHY = script()


def told(thought: str, code: str, printed: str, answer: str | None) -> Attempt:
    """One call at "What is 84 times 12?", whose answer is 1008."""
    attempt = attempt_of("+", answer)
    (step,) = attempt.trajectory.steps
    assert step.action is not None
    assert step.observation is not None
    result = replace(step.observation.result, stdout=printed)
    step = replace(
        step,
        thought=Thought(text=thought, span=step.thought.span),
        action=replace(step.action, code=code),
        observation=replace(step.observation, result=result),
    )
    problem = Problem(id="p", question="What is 84 times 12?", answer="1008", source="t")
    return replace(attempt, problem=problem, trajectory=replace(attempt.trajectory, steps=(step,)))


@pytest.mark.parametrize(
    ("attempt", "cause"),
    [
        (told("I take 48 and 12.", "print(48 * 12)", "576", "576"), "copied wrong"),
        (told("I take 84 and 12.", "print(84 * 21)", "1764", "1764"), "slip into the program"),
        (told("I take 84 and 12.", "print(84 + 12)", "96", "96"), "program"),
        (told("I take 84 and 12.", "print(84 * 12)", "1008", "108"), "last sentence"),
        (told("I take 84 and 12.", "print(84 + 12)", "96", "97"), "between"),
        (told("I take 84 and 12.", "print(84 * 12)", "1008", None), "no answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_thing_that_went_wrong_is_named(attempt: Attempt, cause: str) -> None:
    assert WHY.cause(attempt) == cause


def test_pairs_that_tie_are_half_right() -> None:
    assert WHY.auc(iter([(1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.5, 0.5)])) == (0.5, 0.5)  # 1 + 0 + two halves of 4
