"""Policies on a scripted server, and what they sampled."""

import asyncio

from endpoint_server import Server, completion, says, serving
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.openai_api.policy import EndpointConfig, EndpointPolicy, ServedAs
from thor_tir.engines.openai_api.retry import RetryConfig
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.engines.protocol import Sampling
from thor_tir.trajectory import Completion

FENCE = "\n```\n"
QUICK = RetryConfig(retries=2, tolerance=6, backoff_s=0.001, patience_s=0.3)
CONFIG = EndpointConfig(retry=QUICK, timeout_s=5.0, max_reply_bytes=200_000)
ENOUGH = Sampling(max_tokens=50, stop=(FENCE,))


def policy_on(server: Server, *, said: list[str] | None = None, config=CONFIG, **served) -> EndpointPolicy:
    say = [].append if said is None else said.append
    return EndpointPolicy(server.address, ServedAs(**served), config, say)


def ask(
    *script, num: int = 1, said: list[str] | None = None, config=CONFIG, sampling=ENOUGH, **served
) -> list[Completion]:
    """Samples of one policy after it has found out how to speak, each over the next behaviours of the script."""

    async def work() -> list[Completion]:
        async with serving() as server, policy_on(server, said=said, config=config, **served) as policy:
            server.script = list(script)
            ids = Dialect(policy.tokenizer).prompt("What is 2 + 2?").token_ids
            tasks = [policy.sample(ids, sampling) for _ in range(num)]
            found = await asyncio.gather(*tasks, return_exceptions=True)  # all end before a fault is raised
            for each in found:
                if isinstance(each, BaseException):
                    raise each
            return [each for each in found if isinstance(each, Completion)]

    return asyncio.run(work())


def text_of(completion: Completion) -> str:
    return Dialect(TextTokenizer()).decode(completion.span.token_ids)


GOOD = says(completion("four", stop_reason=None))
