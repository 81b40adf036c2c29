"""Pauses that a server asks for: the user hears of a long one before the run waits."""

import asyncio

import pytest

from thor_tir.engines.openai_api import retry
from thor_tir.engines.openai_api.retry import RetryConfig, RetryPolicy, Transient


def said_with(*pauses: float, patience_s: float = 1800.0) -> list[str]:
    """Messages of a run whose server asks for these pauses all at once."""
    said: list[str] = []

    async def work() -> None:
        policy = RetryPolicy(name="http://a/v1", config=RetryConfig(patience_s=patience_s), say=said.append)
        for pause_s in pauses:
            policy._failed(Transient("HTTP 429 busy", pause_s=pause_s))

    asyncio.run(work())
    return said


@pytest.mark.parametrize(("pause_s", "shown"), [(6, "6 s"), (60, "60 s"), (900, "900 s"), (10**6, "1800 s")])
def test_a_long_pause_is_said_with_its_length(pause_s, shown):
    (message,) = said_with(pause_s)
    assert message == f"http://a/v1 asks for a pause (HTTP 429 busy); the run waits {shown}, then goes on"


@pytest.mark.parametrize("pause_s", [0, 0.01, 1, retry.TELL_PAUSE_S - 1])
def test_a_short_pause_is_not(pause_s):
    assert said_with(pause_s) == []


def test_many_requests_that_meet_the_same_pause_say_it_once():
    assert len(said_with(*[120] * 50)) == 1
