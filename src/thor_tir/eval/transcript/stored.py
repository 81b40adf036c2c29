"""Attempts of an evaluation as people look at them, without the model or its tokenizer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.transcript.segments import Segment, step_segments
from thor_tir.rollout.records import Attempt
from thor_tir.trajectory import Step, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One attempt and the set it was made at."""

    title: str
    """Title of the set."""
    attempt: Attempt
    """The attempt with its verdict."""


def stored_attempts(folder: EvalFolder, id: str) -> Iterator[Stored]:
    """Finished attempts whose trajectory's id begins with `id`, in the order of sets, problems and samples."""
    for asked in folder.sets:
        for attempt in folder.evaluation(asked).attempts:
            if attempt.trajectory.id.startswith(id):
                yield Stored(title=asked.title, attempt=attempt)


def readable_segments(trajectory: Trajectory) -> tuple[Segment, ...]:
    """Every step from the texts that are kept beside the token ids; the prompt is left out, and fences are set anew."""
    shown: list[Segment] = []
    for step in trajectory.steps:
        for number, old in enumerate(step.discarded, 1):
            label = f"attempt {number} of {len(step.discarded)}"
            shown += [replace(segment, discarded=label) for segment in _of_step(old)]
        shown += _of_step(step)
    return tuple(shown)


def _of_step(step: Step) -> tuple[Segment, ...]:
    code = "" if step.action is None else step.action.code.strip("\n")
    return step_segments(step, lambda ids: f"```python\n{code}\n```")
