"""One request that cannot be drawn ends alone."""

import asyncio

import pytest
import torch

from engine_cases import encoded, engine_of, tokens
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import EngineFault
from tiny_models import tiny_model


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-37, 1e-12, 1e-6])
def test_a_temperature_next_to_zero_draws_the_most_likely_tokens(temperature):
    prompt = encoded("What is the sum?")

    async def both():
        async with engine_of() as engine:
            cold = Sampling(max_tokens=8, temperature=temperature, seed=3)
            return await asyncio.gather(
                engine.sample(prompt, cold), engine.sample(prompt, Sampling(max_tokens=8, temperature=0))
            )

    nearly, greedy = asyncio.run(both())
    assert tokens(nearly) == tokens(greedy)


def test_a_row_whose_logits_are_not_numbers_ends_alone_and_the_engine_goes_on(monkeypatch):
    model = tiny_model()
    poison, sound = encoded("So"), encoded("First we import the module.")
    forward = type(model).forward

    def poisoned(self, input_ids=None, **options):
        found = forward(self, input_ids=input_ids, **options)
        if input_ids is not None:
            found.logits[(input_ids == poison[-1]).any(dim=-1)] = torch.nan
        return found

    async def run():
        async with engine_of(model) as engine:
            alone = await engine.sample(sound, Sampling(max_tokens=6, temperature=0))
            found = await asyncio.gather(
                engine.sample(poison, Sampling(max_tokens=6)),
                engine.sample(sound, Sampling(max_tokens=6, temperature=0)),
                return_exceptions=True,
            )
            return alone, found, await engine.sample(sound, Sampling(max_tokens=6, temperature=0))

    monkeypatch.setattr(type(model), "forward", poisoned)
    monkeypatch.setattr("thor_tir.engines.local.model.decoder_of", lambda *_, **__: None)
    alone, (broken, other), after = asyncio.run(run())
    assert tokens(other) == tokens(alone) == tokens(after)
    assert poison[-1] not in {*sound, *tokens(alone)}
    assert isinstance(broken, EngineFault)


def test_keys_that_are_not_numbers_leave_nothing_to_who_comes_into_their_place():
    model = tiny_model()
    sound = encoded("So")
    poison = next(token for token in range(len(model.model.embed_tokens.weight)) if token not in sound)
    with torch.no_grad():
        model.model.embed_tokens.weight[poison] = torch.nan
        model.lm_head.weight[poison] = 0  # tied or not, it is not what makes the sound one's logits

    async def run():
        async with engine_of(model, compiled=False) as engine:
            with pytest.raises(EngineFault, match="are not numbers"):
                await engine.sample([poison] * 40, Sampling(max_tokens=2))
            return await engine.sample(sound, Sampling(max_tokens=6, temperature=0))

    assert len(asyncio.run(run()).span) > 0
