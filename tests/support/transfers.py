"""Trainers that do nothing but give servers new weights, under requests, until they are killed; see `forks.py`."""

import asyncio
from pathlib import Path
from typing import Any

from forks import serve


def weights_of(version: int, model: Any) -> list[tuple[str, Any]]:
    """The weights of a version, whoever asks: those of the embedded actor, moved by a draw of the version's own."""
    import torch

    draw = torch.Generator().manual_seed(version)
    by = 0.02 if version else 0.0
    return [(name, w.detach() + by * torch.randn(w.shape, generator=draw)) for name, w in model.named_parameters()]


def transfer(_: int, addresses: list[str], ready: str) -> None:
    """Open an engine over servers, say so by a file, and move one version of the weights after another."""
    import torch

    torch.set_num_threads(1)
    asyncio.run(_transfer(addresses, Path(ready)))


async def _transfer(addresses: list[str], ready: Path) -> None:
    from thor_tir.engines.loading import load_model
    from thor_tir.engines.protocol import Sampling
    from thor_tir.engines.vllm.engine import VLLMEngine

    (model, tokenizer), (base, _) = load_model("nano/actor"), load_model("nano/actor")
    async with VLLMEngine(model, tokenizer, addresses=addresses) as engine:

        async def ask(number: int) -> None:
            while True:
                await engine.sample([7 + number, 8, 9], Sampling(max_tokens=60, seed=number))

        asking = [asyncio.create_task(ask(number)) for number in range(4)]
        await asyncio.to_thread(ready.touch)
        version = 0
        while True:
            version += 1
            await engine.update_weights(weights_of(version, base), version)
            assert not any(task.done() for task in asking)


if __name__ == "__main__":
    import thor_tir.engines.loading
    import thor_tir.engines.vllm.engine  # noqa: F401 - so that children need not

    serve(transfer)
