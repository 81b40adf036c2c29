"""`thor serve` in a test's own event loop, on a real port, over a scripted model and a sandbox without processes."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from scripted_agent import FakeSandbox, program
from thor_tir.dialect.dialect import Dialect, DialectConfig, DialectName
from thor_tir.dialect.prompts import NO_TOOLS, TOOLS
from thor_tir.engines.protocol import Policy
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.execution import ExecutionResult
from thor_tir.inference.asking import Chooser
from thor_tir.inference.best_of_n import selector
from thor_tir.inference.gen_select import GenSelect
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.pretrained import Tokenizer
from thor_tir.rollout.loop import Agent, RolloutConfig
from thor_tir.sandbox.protocol import Limits
from thor_tir.serving.answers import Served
from thor_tir.serving.app import answer_server
from thor_tir.serving.audit import AuditLog
from thor_tir.serving.keys import Keys
from thor_tir.serving.requests import ServedDefaults
from thor_tir.serving.service import AnswerService, ServeConfig
from thor_tir.web_service import GracefulServer
from tiny_models import tiny_tokenizer

CHAT, MODEL = "/v1/chat/completions", "scripted"
ANSWER = "So the answer is \\boxed{77}."
CALL = "We compute.\n" + program("print(77)")
SEEN = "```output\n77\n```\n"
DEFAULTS = ServedDefaults(
    rollout=RolloutConfig(temperature=0.6), correction=SelfCorrectionConfig(max_attempts=2, suffix_tokens=3)
)


class LevelledSandbox(FakeSandbox):
    """Says how it confines programs, as a real one does."""

    level = "fake"


class HeldSandbox(LevelledSandbox):
    """Every program runs until it is let go; counts what started and what was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()
        self.started = 0
        self.cancelled = 0

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        self.started += 1
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().run(code, limits, stdin=stdin, seed=seed)


@dataclass
class Running:
    """A server that runs."""

    url: str
    service: AnswerService
    server: GracefulServer
    client: httpx.AsyncClient
    policy: Any
    sandbox: Any

    async def ask(self, question: str = "7 * 11?", headers: Mapping[str, str] | None = None, **fields: Any) -> Any:
        """One question."""
        return await self.client.post(CHAT, json=asks(question, **fields), headers=headers)

    async def stream(self, question: str = "7 * 11?", **fields: Any) -> list[dict[str, Any]]:
        """The chunks of one streamed answer."""
        reply = await self.ask(question, stream=True, **fields)
        assert reply.headers["content-type"] == "text/event-stream"
        return chunks_of(reply.text)


def asks(question: str = "7 * 11?", **fields: Any) -> dict[str, Any]:
    """The body of one question."""
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], **fields}


def chunks_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream that ends as it should."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1]
    return [json.loads(line) for line in lines[:-1]]


def served(
    policy: Policy,
    sandbox: Any,
    tokenizer: Tokenizer | None = None,
    *,
    reasoning: bool = False,
    calls: DialectName = "fences",
) -> Served:
    known = tokenizer or tiny_tokenizer()
    return Served(
        name=MODEL,
        policy=policy,
        sandbox=sandbox,
        with_tools=Dialect(known, DialectConfig(style=TOOLS, is_reasoning=reasoning, calls=calls)),
        in_words=Dialect(known, DialectConfig(style=NO_TOOLS, is_reasoning=reasoning)),
    )


@asynccontextmanager
async def serving(
    replies: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    sandbox: Any = None,
    policy: Any = None,
    tokenizer: Tokenizer | None = None,
    reasoning: bool = False,
    calls: DialectName = "fences",
    keys: Mapping[str, str] | None = None,
    audit: AuditLog | None = None,
    defaults: ServedDefaults = DEFAULTS,
    compares: bool = False,
    **config: Any,
) -> AsyncIterator[Running]:
    """A server on a loopback port, ended as by SIGTERM."""
    sandbox = sandbox or LevelledSandbox()
    policy = policy or ScriptedPolicy(tokenizer or tiny_tokenizer(), replies)
    what = served(policy, sandbox, tokenizer, reasoning=reasoning, calls=calls)
    if compares:
        agent = Agent(policy=policy, sandbox=sandbox, dialect=what.with_tools)
        asking = Chooser(selector("gen-select"), GenSelect(agent, defaults.rollout))
        what = replace(what, choosers={**what.choosers, "gen-select": asking})
        defaults = replace(defaults, selectors=(*defaults.selectors, "gen-select"))
    service = AnswerService(
        what, defaults, replace(ServeConfig(port=0), **config), Keys(keys or {}), audit or AuditLog(None)
    )
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = answer_server(service, address.set_result)
    task = asyncio.create_task(server.until_ended())
    url = await address
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            yield Running(url, service, server, client, policy, sandbox)
    finally:
        server.handle_exit(signal.SIGTERM, None)
        async with asyncio.timeout(20):
            await task


def with_server(
    replies: Sequence[str] | Mapping[str, Sequence[str]], work: Callable[[Running], Awaitable[Any]], **options: Any
) -> Any:
    """Run `work(running)` against a server."""

    async def main() -> Any:
        made = {name: value() if name == "sandbox" else value for name, value in options.items()}
        async with serving(replies, **made) as running:
            return await work(running)

    return asyncio.run(main())
