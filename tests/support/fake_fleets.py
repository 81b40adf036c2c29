"""vLLM's engine over servers that are fakes: opened, asked, killed and started again in one event loop."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fake_vllm import GROUPS, FakeVLLM
from thor_tir.engines.protocol import Sampling
from thor_tir.engines.vllm.engine import VLLMEngine
from tiny_models import tiny_model, tiny_tokenizer

PROMPT = tiny_tokenizer().encode("What is the sum of all primes below 20?")
SAMPLING = Sampling(max_tokens=8, seed=5)


@asynccontextmanager
async def fleet(count: int = 2, *, servers: Sequence[FakeVLLM] = (), model: Any = None, **options: Any) -> Any:
    """An engine, the model that it samples from, and its servers, which start with other weights than that."""
    model = model or tiny_model(seed=1)
    async with AsyncExitStack() as stack:
        made = list(servers) or [FakeVLLM(tiny_model(seed=2), tiny_tokenizer()) for _ in range(count)]
        for server in made:
            await stack.enter_async_context(server)
        addresses = [server.address for server in made]
        engine = VLLMEngine(model, tiny_tokenizer(), addresses=addresses, pauses_s=(0.0, 0.01), **options)
        yield await stack.enter_async_context(engine), model, made


def moved(model: Any, by: float = 0.05) -> list[tuple[str, Any]]:
    """Other weights of a model, as a learner would hand them over."""
    return [(name, weight.detach() * (1 + by)) for name, weight in model.named_parameters()]


async def until(condition: Any) -> None:
    """Let the loop run until something is so; a test that waits for ever is ended by the clock."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what is waited for is a state of fakes, which tell nobody)
            await asyncio.sleep(0.002)


class FakeNCCL:
    """The trainer's end of a connection that a fake server has the other end of."""

    def __init__(self, world_size: int) -> None:
        assert world_size == 2
        self.id = f"{id(self):0128d}".encode()
        self.joined = threading.Event()
        self.wire: queue.Queue[Any] = queue.Queue()
        GROUPS[self.id] = self

    def join(self) -> None:
        assert self.joined.wait(10)

    def send(self, tensors: list[Any]) -> None:
        for tensor in tensors:
            self.wire.put(tensor.clone())
