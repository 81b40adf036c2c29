"""Questions one after another, with a model that stays loaded."""

import asyncio
import io
import os
import signal

import pytest
from rich.console import Console

from asked_scripts import loads
from scripted_agent import program
from thor_tir.app.ask import AskConfig
from thor_tir.app.chat import HELP, chat
from thor_tir.console import ConsoleReporter


def talked(*lines: str, **options: object) -> tuple[str, int]:
    """What was printed, and the number of questions that got no answer."""
    sent, script = io.StringIO(), iter(lines)
    reporter = ConsoleReporter(Console(file=sent, width=80, highlight=False))
    unanswered = chat(AskConfig(), reporter, lambda: next(script, None), **options)
    return sent.getvalue(), unanswered


def test_each_question_is_answered_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = loads(monkeypatch, [r"It is \boxed{4}.", r"It is \boxed{9}."])
    told, unanswered = talked("2 + 2?", "", "3 * 3?")
    assert [line for line in told.splitlines() if line.startswith("answer: ")] == ["answer: 4", "answer: 9"]
    assert "2 + 2?" not in agent.policy.asked[1].text
    assert unanswered == 0


def test_a_chat_that_remembers_puts_what_was_said_before_the_question_until_it_forgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = loads(monkeypatch, [r"It is \boxed{4}.", r"It is \boxed{9}.", r"It is \boxed{1}."])
    talked("2 + 2?", "3 * 3?", "/new", "1 * 1?", remembers=True)
    first, second, third = (asked.text for asked in agent.policy.asked)
    assert "2 + 2?" in second
    assert second.index(r"It is \boxed{4}.") < second.index("3 * 3?")
    assert "3 * 3?" not in third
    assert first.index("2 + 2?") < len(third)


def test_a_question_may_be_asked_again_with_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = loads(monkeypatch, [r"It is \boxed{4}.", r"It is \boxed{5}."])
    talked("2 + 2?", "/again", remembers=True)
    first, second = agent.policy.asked
    assert first.text == second.text
    assert first.sampling.seed != second.sampling.seed


def test_commands_are_no_questions_and_quit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = loads(monkeypatch, [])
    assert talked("/again", "/help", "/nonsense", "/quit", "2 + 2?") == (f"{HELP}\n" * 3, 0)
    assert agent.policy.asked == []


def test_an_interruption_ends_the_answer_and_the_next_question_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = loads(monkeypatch, ["We compute.\n" + program("print(1)"), r"It is \boxed{9}."])
    run = agent.sandbox.run
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

    async def interrupted(*given: object, **options: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
        return await run(*given, **options)

    monkeypatch.setattr(agent.sandbox, "run", interrupted)
    try:
        told, unanswered = talked("2 + 2?", "3 * 3?")
    finally:
        signal.signal(signal.SIGINT, before)
    assert "[the answer was interrupted]" in told
    assert told.splitlines()[-2] == "answer: 9"
    assert unanswered == 1
