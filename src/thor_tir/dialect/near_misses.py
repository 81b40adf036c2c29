"""Calls that a model wrote in a form that its run does not read."""

from thor_tir.dialect.fences import FenceReading, blocks
from thor_tir.dialect.tool_calls import calls
from thor_tir.trajectory import Trajectory

_COMPARED: tuple[FenceReading, ...] = ("lenient", "exact")


def near_misses(trajectory: Trajectory) -> int:
    """Number of programs that were not run, since a model wrote them in other fences than the exact ones, or as calls
    between tags.

    A call that was run is part of no thought, whatever its form.
    """
    texts = [step.thought.text for step in trajectory.steps]
    lenient, exact = (sum(1 for text in texts for _ in blocks(text, reading, has_ended=True)) for reading in _COMPARED)
    return max(0, lenient - exact) + sum(1 for text in texts for _ in calls(text))
