"""Log-probabilities of rows under a model as it is now, without a gradient."""

from collections.abc import Sequence
from typing import Any

import torch

from thor_tir.learner.batch import collate, plan
from thor_tir.learner.forward import trained_logprobs
from thor_tir.learner.sample import TrainingSample


@torch.no_grad()
def row_logprobs(
    model: Any, rows: Sequence[TrainingSample], *, micro_batch_tokens: int
) -> dict[str, tuple[float, ...]]:
    """log pi of each trained token in nats by the row's id, NaN at the others; a row that trains nothing has NaN alone.

    The model computes as it does in training, without dropout.
    """
    was_training = model.training
    model.eval()
    scores = {row.id: (float("nan"),) * len(row.token_ids) for row in rows}
    for group in plan([row for row in rows if row.num_trained], micro_batch_tokens=micro_batch_tokens):
        batch = collate(group).to(model.device)
        logprobs = iter(trained_logprobs(model, batch).tolist())
        for row in group:
            scores[row.id] = tuple(next(logprobs) if m else float("nan") for m in row.trained)
    model.train(was_training)
    return scores
