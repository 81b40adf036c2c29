"""One trajectory of any number of tool calls, by a policy that answers at once: what the loop itself costs a call."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.loading import load_tokenizer
from thor_tir.engines.protocol import Sampling
from thor_tir.execution import ExecutionResult, Status
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.sandbox.protocol import Limits
from thor_tir.storage.journal import Journal
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Author, Completion, Span, StopReason, flatten

CALL, ANSWER = "I compute it.\n```python\nprint(7 * 11)\n```\n", "The answer is \\boxed{77}."


class Replying:
    """Asks for the same program over and over, then ends."""

    def __init__(self, tokenizer: Any, calls: int) -> None:
        self.tokenizer = tokenizer
        self._left = calls
        self._call, self._answer = (tokenizer.encode(text, add_special_tokens=False) for text in (CALL, ANSWER))

    @contextmanager
    def attend(self) -> Iterator[None]:
        yield

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        self._left -= 1
        ids = tuple(self._call) if self._left >= 0 else (*self._answer, self.tokenizer.eos_token_id)
        span = Span(token_ids=ids, author=Author.MODEL, logprobs=(-0.5,) * len(ids))
        return Completion(span=span, stop=StopReason.STOP if self._left >= 0 else StopReason.END)


class Printing:
    """Every program prints the same."""

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        return ExecutionResult(status=Status.OK, stdout="77\n", exit_code=0)


def grow(calls: int) -> None:
    """Sample it, write it down, read it, and flatten it."""
    tokenizer = load_tokenizer("nano/actor")
    agent = Agent(policy=Replying(tokenizer, calls), sandbox=Printing(), dialect=Dialect(tokenizer))
    config = RolloutConfig(max_completion_length=200 * (calls + 1), max_tool_calling_iterations=calls)
    draft = Draft(id="t", problem_id="p", prompt=agent.dialect.prompt("What is 7 * 11?"), seed=0)
    trajectory = asyncio.run(rollout(draft, agent, config))
    assert len(trajectory.calls) == calls
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.jsonl")
        journal.add("t", {"trajectory": trajectory_to_json(trajectory)})
        again = Journal(Path(folder) / "journal.jsonl")
        assert trajectory_from_json(again["t"]["trajectory"]) == trajectory
    print(json.dumps(len(flatten((span, True) for span in trajectory.spans).token_ids)))
