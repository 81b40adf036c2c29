"""Log-probabilities at trained positions against the plain forward pass, row by row."""

import pytest
import torch

from thor_tir.learner.batch import collate
from thor_tir.learner.forward import trained_logprobs
from thor_tir.learner.output_head import is_linear
from tiny_models import tiny_model
from tiny_rows import mixed_rows


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2", "gemma2"])
def test_a_padded_batch_has_the_logprobs_of_each_row_read_alone_with_full_logits(kind):
    model, rows = tiny_model(kind).double(), mixed_rows()
    with torch.no_grad():
        batch = collate(rows, dtype=torch.float64)
        logp_N = trained_logprobs(model, batch)
        for number, row in enumerate(rows):
            logprobs_TV = model(torch.tensor([row.token_ids])).logits[0].log_softmax(dim=-1)
            expected = [
                logprobs_TV[t - 1, row.token_ids[t]].item() for t, is_trained in enumerate(row.trained) if is_trained
            ]
            assert logp_N[batch.row_N == number].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("kind", "applied_to"), [("gemma2", "trained tokens"), ("qwen3", "none")])
def test_the_models_own_head_is_applied_to_trained_positions_at_most(kind, applied_to):
    model, batch, sizes = tiny_model(kind), collate(mixed_rows()), []
    is_linear(model)  # tried beforehand, with two tokens
    hook = model.get_output_embeddings().register_forward_hook(lambda _m, _i, logits: sizes.append(logits.shape[:2]))
    with torch.no_grad():
        trained_logprobs(model, batch)
    hook.remove()
    num_trained = sum(row.num_trained for row in mixed_rows())
    assert sizes == [(1, num_trained if applied_to == "trained tokens" else 0)]


def test_the_model_gives_its_full_logits_again_afterwards():
    model = tiny_model()
    trained_logprobs(model, collate(mixed_rows()))
    assert model(torch.tensor([[1, 2, 3]])).logits.shape[:2] == (1, 3)
