"""A run that was made longer: it goes on from its last checkpoint, and what became of its learning rate is said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thor_tir.learner.checkpoint import load_checkpoint, recorded_options
from thor_tir.learner.config import Schedule
from thor_tir.learner.learner import Learner
from thor_tir.provenance import note_schedule
from thor_tir.storage.journal import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """A run that goes on beyond the length that it was begun with, and what that means for its learning rate.

    The schedule is that of a run begun with the longer length: the same where the rate is constant, and laid out anew
    from where the run stands where it is not.
    """

    unit: str
    """Name of what its length counts, such as rounds."""
    before: int
    """Length that it was begun with."""
    now: int
    """Length that it has now."""
    step: int
    """Optimiser steps that are done."""
    old: Schedule
    """Schedule of the run as it was begun."""
    new: Schedule
    """Schedule of a run of the new length."""
    learning_rate: float
    """The full rate."""

    @property
    def last_rate(self) -> float:
        """Learning rate of the last step that is done."""
        return self.learning_rate * self.old.factor(max(0, self.step - 1))

    @property
    def next_rate(self) -> float:
        """Learning rate of the next step."""
        return self.learning_rate * self.new.factor(self.step)

    @property
    def schedule(self) -> str:
        """Words for what became of the schedule."""
        if self.old == self.new:
            return "the schedule is the same, as if the run had been begun with the larger number"
        return (
            f"the schedule is laid out anew over {self.new.decay_steps or 'all'} steps, as of a run begun with the "
            f"larger number: the learning rate goes from {self.last_rate:.3g} at step {self.step} to "
            f"{self.next_rate:.3g} at step {self.step + 1}"
        )

    def __str__(self) -> str:
        return f"extended from {self.before} to {self.now} {self.unit} after step {self.step}: {self.schedule}"

    @property
    def facts(self) -> Mapping[str, object]:
        """What the record of the run says of it."""
        rates = {"last": self.last_rate, "next": self.next_rate}
        return {"after_step": self.step, "schedule": self.schedule, "learning_rate": rates}


def resume(
    checkpoint: Path,
    learner: Learner,
    options: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    length: str,
    schedule_of: Callable[[int], Schedule],
    say: Callable[[str], None],
) -> JsonObject:
    """Load a checkpoint of a run's folder; returns its `extra`.

    `defaults` are what options had that are younger than it; `length` names the option that may have grown since it
    was saved, `schedule_of` gives the schedule of a run of a length: where it has grown, `say` gets a sentence, and the
    record of the run says the same.
    """
    extra = load_checkpoint(checkpoint, learner, options=options, defaults=defaults, may_grow=length)
    before, now = learner.ranks.lead(lambda: recorded_options(checkpoint)[length]), options[length]
    if before < now:
        extension = Extension(
            unit=length.rpartition("_")[2],
            before=before,
            now=now,
            step=learner.num_steps,
            old=schedule_of(before),
            new=schedule_of(now),
            learning_rate=learner.config.learning_rate,
        )
        say(str(extension))
        learner.ranks.lead(lambda: note_schedule(checkpoint.parents[1], extension.facts))
    return extra
