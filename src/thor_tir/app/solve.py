"""One question, shown while it is answered."""

import asyncio
from collections.abc import Callable

from thor_tir.app.ask import AskConfig, opened, solved_json, usual_model
from thor_tir.app.live import LiveTranscript, show_end
from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError
from thor_tir.inference.answering import Answer
from thor_tir.rollout.overheard import Event
from thor_tir.storage.journal import JsonObject


def solve(question: str, config: AskConfig, reporter: ConsoleReporter, *, seed: int = 0) -> Answer:
    """Answer one question and show it as it is written; progress goes to standard error.

    Raises UsageError for no question, an unknown selector or a model that does not load.
    """
    live = LiveTranscript(reporter.console)
    answered = asyncio.run(_answered(question, config, seed, live.hear))
    live.end()
    show_end(answered, reporter)
    return answered


def solve_silently(question: str, config: AskConfig, *, seed: int = 0) -> JsonObject:
    """The same as JSON values."""
    answered = asyncio.run(_answered(question, config, seed, None))
    return {"question": question, "model": config.model or usual_model(), **solved_json(answered)}


async def _answered(question: str, config: AskConfig, seed: int, hear: Callable[[Event], None] | None) -> Answer:
    if not question.strip():
        raise UsageError("the question is empty")
    async with opened(config, ConsoleReporter.of_errors()) as asked:
        return await asked.answer([{"role": "user", "content": question}], seed=seed, hear=hear)
