"""The ledger of trained rows."""

import pytest

from thor_tir.errors import UsageError
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.rl.train import check_rows, enter_update
from thor_tir.storage.journal import Journal
from tiny_models import tiny_model
from tiny_rows import episode_terms, random_row

ROWS = [random_row(seed, episode_terms(1.0 - seed)) for seed in range(3)]


def test_an_update_done_again_stands_once_and_must_be_made_of_the_same_rows(tmp_path):
    updates = Journal(tmp_path / "updates.jsonl")
    check_rows(updates, 1, ROWS)
    step = Learner(tiny_model(), LearnerConfig()).step(ROWS)
    for _ in range(2):  # as if a kill had undone it
        check_rows(updates, 1, ROWS)
        enter_update(updates, 0, ROWS, step)
    (entry,) = Journal(tmp_path / "updates.jsonl")
    assert entry["rows"] == [row.id for row in ROWS]
    assert (entry["loss"], entry["grad_norm"]) == (step.loss, step.gradient_norm)
    with pytest.raises(UsageError, match=r"update 1 was made of other rows .* rollouts.jsonl beside it was changed"):
        check_rows(updates, 1, ROWS[:2])
