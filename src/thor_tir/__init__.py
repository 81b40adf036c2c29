"""THOR: tool-integrated mathematical reasoning. The names most programs need; every module can be imported by its own.

A name's module is imported when the name is first used, so that looking at records does not load a deep-learning
library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thor_tir.api import Thor
    from thor_tir.engines.loading import load_model
    from thor_tir.engines.local.engine import TransformersEngine
    from thor_tir.execution import ExecutionResult
    from thor_tir.grading.grader import Grader
    from thor_tir.problem import Problem
    from thor_tir.problems.data_set import read_problems
    from thor_tir.rollout.loop import RolloutConfig
    from thor_tir.trajectory import Action, Observation, Step, Thought, Trajectory
    from thor_tir.verdict import Verdict

__all__ = [
    "Action",
    "ExecutionResult",
    "Grader",
    "Observation",
    "Problem",
    "RolloutConfig",
    "Step",
    "Thor",
    "Thought",
    "Trajectory",
    "TransformersEngine",
    "Verdict",
    "load_model",
    "read_problems",
]

_HOMES = {
    "Action": "trajectory",
    "ExecutionResult": "execution",
    "Grader": "grading.grader",
    "Observation": "trajectory",
    "Problem": "problem",
    "RolloutConfig": "rollout.loop",
    "Step": "trajectory",
    "Thor": "api",
    "Thought": "trajectory",
    "Trajectory": "trajectory",
    "TransformersEngine": "engines.local.engine",
    "Verdict": "verdict",
    "load_model": "engines.loading",
    "read_problems": "problems.data_set",
}


def __getattr__(name: str) -> object:
    """Import a promised name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
