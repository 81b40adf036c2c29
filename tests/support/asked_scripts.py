"""A model that is loaded already and says what a script tells it, in place of the one that a command would load."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from scripted_agent import agent_of
from thor_tir.app import chat, solve
from thor_tir.app.ask import AskConfig, Asked, ready
from thor_tir.rollout.loop import Agent


def loads(monkeypatch: pytest.MonkeyPatch, replies: Sequence[str] | Mapping[str, Sequence[str]]) -> Agent:
    """Commands that ask a model get this one."""
    agent = agent_of(replies)

    @asynccontextmanager
    async def opened(config: AskConfig, reporter: object) -> AsyncIterator[Asked]:
        config.check()
        async with ready(agent, config, print) as asked:
            yield asked

    for module in (chat, solve):
        monkeypatch.setattr(module, "opened", opened)
    return agent
