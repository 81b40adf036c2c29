"""An engine over a tiny model, prompts for it, and a way to ask for many completions at once."""

import asyncio

from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.protocol import Sampling
from thor_tir.trajectory import Completion
from tiny_models import tiny_model, tiny_tokenizer

TEXTS = [
    "What is the sum of all primes below 20?",
    "So",
    "First we import the module, then we define a function and print the result. Let us check the answer.",
    "print(sum(p for p in range(2, 20)))",
]
GREEDY = Sampling(max_tokens=24, temperature=0)


def encoded(text: str) -> list[int]:
    return tiny_tokenizer().encode(text)


def engine_of(model=None, **config) -> TransformersEngine:
    return TransformersEngine(model or tiny_model(), tiny_tokenizer(), EngineConfig(**config))


def sample_all(engine: TransformersEngine, asks: list[tuple[list[int], Sampling]]) -> list[Completion]:
    async def run() -> list[Completion]:
        async with engine:
            return await asyncio.gather(*(engine.sample(ids, sampling) for ids, sampling in asks))

    return asyncio.run(run())


def tokens(completion: Completion) -> list[int]:
    return list(completion.span.token_ids)
