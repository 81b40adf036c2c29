"""Questions one after another, with a model that stays loaded. Ctrl-C ends an answer, not the program."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from thor_tir.app.ask import AskConfig, Asked, opened
from thor_tir.app.live import LiveTranscript, show_end
from thor_tir.console import ConsoleReporter
from thor_tir.engines.protocol import ContextFull
from thor_tir.pretrained import ChatTurn
from thor_tir.seeds import seed_of

HELP = """/again   answer the last question once more, with another seed
/new     forget what was said (it is kept with --remember alone)
/help    show these lines
/quit    end, as Ctrl-D does
Anything else is a question. Ctrl-C ends an answer."""


def chat(
    config: AskConfig,
    reporter: ConsoleReporter,
    read: Callable[[], str | None],
    *,
    seed: int = 0,
    remembers: bool = False,
) -> int:
    """Answer what `read` returns until it returns None or /quit; returns the number of questions without an answer.

    Each question is answered by itself, as models are trained here. A chat that `remembers` puts the earlier questions
    and answers before it. Raises UsageError for a model that does not load, and faults of the machine.
    """
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        try:
            beside = ConsoleReporter.of_errors()
            asked = runner.run(stack.enter_async_context(opened(config, beside)))
            talk = _Talk(asked, reporter, runner, seed=seed, remembers=remembers)
            while (line := read()) is not None and line.strip() != "/quit":
                talk.take(line.strip())
        finally:
            runner.run(stack.aclose())
    return talk.num_unanswered


class _Talk:
    """The conversation so far."""

    def __init__(
        self, asked: Asked, reporter: ConsoleReporter, runner: asyncio.Runner, *, seed: int, remembers: bool
    ) -> None:
        self.num_unanswered = 0
        """Questions that got no answer, interrupted ones among them."""
        self._asked = asked
        self._reporter = reporter
        self._runner = runner
        self._seed = seed
        self._remembers = remembers
        self._turns: list[ChatTurn] = []
        self._question = ""
        self._before: list[ChatTurn] = []
        """Turns before the last question."""
        self._number = 0

    def take(self, line: str) -> None:
        """Answer a question, or obey a command."""
        if line == "/new":
            self._turns = self._before = []
        elif line == "/again" and self._question:
            self._answer()
        elif line.startswith("/"):
            self._reporter.say(HELP)
        elif line:
            self._question, self._before = line, self._turns
            self._answer()

    def _answer(self) -> None:
        """Answer the last question behind the turns before it. An interrupted answer leaves these as they were."""
        turns: list[ChatTurn] = [*self._before, {"role": "user", "content": self._question}]
        seed, live = seed_of(self._seed, self._number), LiveTranscript(self._reporter.console)
        self._number += 1
        self.num_unanswered += 1
        try:
            answered = self._runner.run(self._asked.answer(turns, seed=seed, hear=live.hear))
        except KeyboardInterrupt as stop:
            if type(stop) is not KeyboardInterrupt:  # SIGTERM ends the program
                raise
            live.end()
            self._reporter.say("[the answer was interrupted]")
            return
        except ContextFull as full:
            self._reporter.say(f"{full}; /new forgets what was said")
            return
        live.end()
        show_end(answered, self._reporter)
        self.num_unanswered -= bool(answered.text)
        if self._remembers:
            self._turns = [*turns, {"role": "assistant", "content": answered.context}]
