"""A agent without a model and without processes: scripted replies, and a sandbox that goes by what a program says."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.protocol import Sampling
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.errors import SandboxUnavailable
from thor_tir.execution import ExecutionResult, Status
from thor_tir.rollout.loop import Agent, Draft
from thor_tir.sandbox.protocol import Limits
from thor_tir.trajectory import Completion
from tiny_models import tiny_tokenizer

OFFLINE, SLOW, FAILING, SILENT = "offline", "slow", "boom", "pass"
"""Words in a program and what they do: lose the sandbox, take a while, raise NameError, print nothing."""


class FakeSandbox:
    """Programs print `77` unless they hold one of the words above."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        """Every program so far."""

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        self.ran.append(code)
        if OFFLINE in code:
            raise SandboxUnavailable("the sandbox is gone")
        if SLOW in code:
            await asyncio.sleep(0.02)
        return result_of(code)


def result_of(code: str) -> ExecutionResult:
    if FAILING in code:
        stderr = "Traceback (most recent call last):\nNameError: name 'boom' is not defined\n"
        return ExecutionResult(status=Status.RUNTIME, stdout="", stderr=stderr, error="NameError")
    if SILENT in code:
        return ExecutionResult(status=Status.OK_NO_OUTPUT, stdout="")
    return ExecutionResult(status=Status.OK, stdout="77\n")


def program(code: str) -> str:
    """A call as a model writes it."""
    return f"```python\n{code}\n```\n"


def agent_of(replies: Sequence[str] | Mapping[str, Sequence[str]], dialect: Dialect | None = None) -> Agent:
    return Agent(
        policy=ScriptedPolicy(tiny_tokenizer(), replies),
        sandbox=FakeSandbox(),
        dialect=dialect or Dialect(tiny_tokenizer()),
    )


def draft_of(agent: Agent, question: str = "What is 7 * 11?", *, seed: int = 0) -> Draft:
    return Draft(id="t", problem_id="p", prompt=agent.dialect.prompt(question), seed=seed)


class Spelled:
    """A tokenizer that writes letter by letter: ids that no encoding of the text would give back."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tiny_tokenizer(), name)

    def __len__(self) -> int:
        return len(tiny_tokenizer())

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [i for character in text for i in tiny_tokenizer().encode(character, add_special_tokens=False)]


class Recorded:
    """Notes where in the context each returned token came to stand."""

    def __init__(self, policy: ScriptedPolicy) -> None:
        self.returned: dict[int, int] = {}
        """Position in the context -> token the engine returned for it."""
        self.attend = policy.attend
        self._policy = policy

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        completion = await self._policy.sample(token_ids, sampling)
        self.returned |= dict(enumerate(completion.span.token_ids, len(token_ids)))
        return completion
