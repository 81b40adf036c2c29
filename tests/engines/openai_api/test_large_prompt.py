"""A prompt larger than any buffer, sent to a server."""

import asyncio

from endpoint_server import completion, says, serving
from thor_tir.engines.openai_api.policy import EndpointConfig, EndpointPolicy
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.engines.protocol import Sampling


def test_a_prompt_that_no_buffer_holds_arrives_whole():
    long = "word " * 1_000_000

    async def work() -> str:
        async with (
            serving(usual=says(completion("four", stop_reason=None))) as server,
            EndpointPolicy(server.address, config=EndpointConfig()) as policy,
        ):
            ids = TextTokenizer()(long)["input_ids"]
            await policy.sample(ids, Sampling(max_tokens=5))
            return str(server.asked[-1].body)

    assert long.strip() in asyncio.run(work())
