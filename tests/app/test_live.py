"""A transcript while it is written."""

import asyncio
import io

import pytest
from rich.console import Console

from scripted_agent import agent_of, draft_of, program
from thor_tir.app.live import LiveTranscript
from thor_tir.dialect.dialect import Thinking
from thor_tir.inference.answering import AttemptLimits, heard_attempt
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.rollout.overheard import Event, Happening, Overheard

ANSWER = "So the answer is \\boxed{77}."
REPLIES = ["We compute both.\n" + program("boom"), "So:\n" + program("print(1)"), ANSWER]


def events_of(replies: list[str], **options: object) -> list[Event]:
    events: list[Event] = []
    agent = agent_of(replies)
    limits = AttemptLimits(rollout=RolloutConfig(), correction=SelfCorrectionConfig(scope="replan", **options))
    asyncio.run(heard_attempt(draft_of(agent), limits, Overheard(agent, events.append), Thinking.NONE))
    return events


def shown(events: list[Event], *, is_terminal: bool) -> str:
    sent = io.StringIO()
    console = Console(file=sent, force_terminal=is_terminal, color_system=None, width=60, highlight=False)
    live = LiveTranscript(console)
    for event in events:
        live.hear(event)
    live.end()
    return sent.getvalue()


def test_a_pipe_gets_the_transcript_as_plain_text():
    assert shown(events_of(REPLIES), is_terminal=False) == (
        "We compute both.\n```python\nboom\n```\n"
        "```output\nNameError: name 'boom' is not defined\n```\n"
        "\n[call 1 failed (NameError); repair 1]\n"
        "So:\n```python\nprint(1)\n```\n```output\n77\n```\n"
        f"{ANSWER}\n"
    )


def test_a_terminal_gets_outputs_in_frames_that_say_how_the_program_ended():
    lines = [line.rstrip() for line in shown(events_of(REPLIES), is_terminal=True).splitlines()]
    assert lines[:4] == ["We compute both.", "```python", "boom", "```"]
    assert lines[4].startswith("╭─ output: runtime ─")
    assert lines[5] == "│ NameError: name 'boom' is not defined                    │"
    assert lines[7:12] == ["[call 1 failed (NameError); repair 1]", "So:", "```python", "print(1)", "```"]
    assert lines[-1] == ANSWER


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_call_that_is_dropped_is_said_to_be(is_terminal: bool):
    replies = [REPLIES[0], "Or:\n" + program("boom(2)"), ANSWER]
    told = shown(events_of(replies, max_attempts=1, after_all="drop"), is_terminal=is_terminal)
    assert "[call 1 is left out]\n" + ANSWER in told


@pytest.mark.parametrize("is_terminal", [True, False])
def test_text_that_comes_in_pieces_cannot_steer_the_terminal(is_terminal: bool):
    hostile = "\x1b]0;owned\x07 a\rb \x9b31m \u202e654 [bold red]x[/]\n```python\nprint('\x1b[2J')\n```\n"
    events = [Event(kind=Happening.TEXT, text=letter) for letter in hostile]
    events.append(Event(kind=Happening.OUTPUT, text="```output\n\x1b[2J\x1b[H\n```\n"))
    told = shown(events, is_terminal=is_terminal)
    assert not set(told) & {"\x1b", "\x9b", "\x07", "\r", "\u202e"}
    assert "\\x1b]0;owned\\x07 a\\rb \\x9b31m \\u202e654 [bold red]x[/]" in told
    assert "print('\\x1b[2J')" in told
    assert "\\x1b[2J\\x1b[H" in told


def test_thoughts_appear_as_they_come_and_lines_of_code_when_they_are_whole():
    sent = io.StringIO()
    live = LiveTranscript(Console(file=sent, force_terminal=True, color_system=None, width=60, highlight=False))
    seen = []
    for text in ("We ", "go.\n```python\n", "pri", "nt(1)\n"):
        live.hear(Event(kind=Happening.TEXT, text=text))
        seen.append(sent.getvalue().replace(" \n", "\n"))
    assert seen == ["We ", *["We go.\n```python\n"] * 2, "We go.\n```python\nprint(1)\n"]
