"""Which rows each update was made of: none may be trained twice or left out, wherever a kill fell.

An update that a kill undid is done again from the weights before it, with the same rows. The ledger holds it once.
"""

from collections.abc import Sequence

from thor_tir.errors import UsageError
from thor_tir.learner.metrics import StepMetrics
from thor_tir.learner.sample import TrainingSample
from thor_tir.storage.journal import Journal


def check(ledger: Journal, update: int, rows: Sequence[TrainingSample]) -> None:
    """Raise UsageError where an update that is done again would be made of other rows than the first time."""
    if str(update) in ledger and ledger[str(update)]["rows"] != [row.id for row in rows]:
        raise UsageError(
            f"update {update} was made of other rows when it was first done ({ledger.path}): rollouts.jsonl beside it "
            "was changed since; put it back, or begin in another folder"
        )


def enter(ledger: Journal, number: int, rows: Sequence[TrainingSample], measured: StepMetrics) -> None:
    """Write down an update that was done, unless it stands there from a time that a kill undid."""
    if str(measured.step) not in ledger:
        entry = {"round": number, "rows": [row.id for row in rows], "is_updated": measured.is_updated}
        ledger.add(str(measured.step), entry | {"loss": measured.loss, "grad_norm": measured.gradient_norm})
