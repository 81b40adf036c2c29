"""How a reasoning model's thoughts are marked, and where its answer may stand."""

from collections.abc import Callable
from enum import StrEnum

from thor_tir.dialect.dialect import Dialect
from thor_tir.trajectory import Finish, Trajectory

OPENS, CLOSES = "<think>", "</think>"


class Thinking(StrEnum):
    """Who writes the tags around a model's thoughts."""

    NONE = "none"
    """No tags: the model is not asked for a thinking turn."""
    OWN = "own"
    """The model writes both tags."""
    OPENED = "opened"
    """The prompt ends with the opening tag, so the response holds the closing one alone."""


def thinking_of(dialect: Dialect) -> Thinking:
    """How the thoughts of this model will be marked, seen from the prompt that its template makes."""
    if not dialect.config.is_reasoning:
        return Thinking.NONE
    opened = dialect.decode(dialect.prompt("?").token_ids).rstrip().endswith(OPENS)
    return Thinking.OPENED if opened else Thinking.OWN


def is_cut_short(trajectory: Trajectory, thinking: Thinking) -> bool:
    """True if a limit ended a model's turn while it still thought: it weighed candidates and has answered nothing."""
    text = trajectory.response_text
    thinks = thinking is Thinking.OPENED or (thinking is Thinking.OWN and text.lstrip().startswith(OPENS))
    return thinks and CLOSES not in text and trajectory.finish is not Finish.ENDED


def unless_cut_short(read: Callable[[Trajectory], str], thinking: Thinking) -> Callable[[Trajectory], str]:
    """What is graded of a trajectory, and nothing at all of one that was cut short in its thoughts."""

    def graded(trajectory: Trajectory) -> str:
        return "" if is_cut_short(trajectory, thinking) else read(trajectory)

    return graded
