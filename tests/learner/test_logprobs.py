"""Log-probabilities of rows, each row's own whatever else is scored."""

import math
from dataclasses import replace

import pytest
import torch

from thor_tir.learner.forward import row_logprobs
from tiny_models import tiny_model
from tiny_rows import mixed_rows


@pytest.mark.parametrize("budget", [1, 64, 10_000])
def test_each_trained_token_has_the_logprob_of_its_row_read_alone_and_every_other_none(budget):
    model, rows = tiny_model().double().train(), mixed_rows()
    scores = row_logprobs(model, rows, micro_batch_tokens=budget)
    assert model.training  # left in the mode it was found in
    for row in rows:
        with torch.no_grad():
            logprobs_TV = model(torch.tensor([row.token_ids])).logits[0].log_softmax(dim=-1)
        for t, is_trained in enumerate(row.trained):
            score = scores[row.id][t]
            if is_trained:
                assert score == pytest.approx(logprobs_TV[t - 1, row.token_ids[t]].item(), abs=1e-5)
            else:
                assert math.isnan(score)


def test_a_row_that_trains_nothing_has_no_logprob():
    row = mixed_rows()[0]
    silent = replace(row, trained=(False,) * len(row.token_ids))
    assert all(map(math.isnan, row_logprobs(tiny_model(), [silent], micro_batch_tokens=9)[row.id]))
