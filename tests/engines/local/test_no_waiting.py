"""A step asks the device for nothing: on tensors without content, whatever would wait for a number fails."""

import pytest
import torch

from thor_tir.engines.local import model as model_module
from thor_tir.engines.local.fast_decoder import Decoder
from thor_tir.engines.local.model import CachedModel
from thor_tir.engines.local.sampling import Draws, draw, sent
from thor_tir.engines.protocol import Sampling
from tiny_models import tiny_model
from traced_steps import TracedRecorder

META = torch.device("meta")
SAMPLINGS = [
    Sampling(max_tokens=4, seed=0),
    Sampling(max_tokens=4, seed=1, temperature=0.0),
    Sampling(max_tokens=4, seed=2, top_k=5, top_p=0.9, temperature=0.7),
]


@torch.inference_mode()
@pytest.mark.parametrize("is_quick", [True, False])
def test_neither_reading_prompts_nor_decoding_nor_drawing_waits_for_a_number(monkeypatch, is_quick):
    def decoder(model, cache, *, max_model_len, compiles):  # its trial compares numbers, once
        return Decoder(model, cache, max_model_len=max_model_len) if is_quick else None

    monkeypatch.setattr(model_module, "decoder_of", decoder)
    cached = CachedModel(tiny_model().to(META), max_num_seqs=3, max_model_len=128)
    cached.prefill(0, [[1, 2, 3], [4], [5, 6]], [0, 0, 0])
    draws = Draws.of(SAMPLINGS, vocabulary=cached.vocabulary, device=META)
    for step in range(3):
        logits_BV = cached.decode([7, 8, 9], [3 + step, 1 + step, 2 + step])
        token_B, logp_B = draw(logits_BV, draws, sent([0.1, 0.5, 0.9], META, dtype=torch.float64))
        assert token_B.shape == logp_B.shape == (3,)
    with pytest.raises((RuntimeError, NotImplementedError)):
        token_B.tolist()  # the mark that waiting would have left


@torch.inference_mode()
def test_neither_recording_nor_replaying_steps_waits_for_a_number(monkeypatch):
    def decoder(model, cache, *, max_model_len, compiles):
        return Decoder(model, cache, max_model_len=max_model_len)

    monkeypatch.setattr(model_module, "decoder_of", decoder)
    monkeypatch.setattr(CachedModel, "_error", lambda self, length: 0.0)  # the trial compares numbers, once
    recorder = TracedRecorder()
    cached = CachedModel(tiny_model().to(META), max_num_seqs=4, max_model_len=128, recorder=lambda: recorder)
    for row, ids in enumerate(([1, 2, 3, 7], [4, 8], [5, 6, 9])):
        assert cached.cache.admits(100)
        cached.cache.enter(row, ids, longest=100)
    cached.prefill(0, [[1, 2, 3], [4], [5, 6]], [0, 0, 0])
    states = cached.cache.copy_out(0, 3)
    draws = Draws.of(SAMPLINGS, vocabulary=cached.vocabulary, device=META)
    for step in range(64):  # into the second page of each row
        logits_BV = cached.decode([7, 8, 9], [3 + step, 1 + step, 2 + step])
        token_B, logp_B = draw(logits_BV, draws, sent([0.1, 0.5, 0.9], META, dtype=torch.float64))
        assert token_B.shape == logp_B.shape == (3,)
    cached.cache.leave(1, last=2, tokens=66)
    assert cached.cache.admits(100)
    cached.cache.enter(2, [1, 2, 3, 8], longest=100, states=states, reused=3)
    cached.decode([1, 2, 3], [67, 66, 3])
    assert recorder.num_recorded == 2
    with pytest.raises((RuntimeError, NotImplementedError)):
        token_B.tolist()
