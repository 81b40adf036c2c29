"""A rollout that is listened to: the same tokens, and every piece of text once, in order, as it comes."""

import asyncio

import pytest

from scripted_agent import agent_of, draft_of, program
from thor_tir.execution import Status
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.rollout import overheard
from thor_tir.rollout.loop import Agent, RolloutConfig, rollout
from thor_tir.rollout.overheard import Event, Happening, Overheard, TextReader
from thor_tir.trajectory import Trajectory
from tiny_models import tiny_tokenizer

ANSWER = "So \\boxed{77}."


def heard_from(agent: Agent, *, max_attempts: int = 0) -> tuple[Trajectory, list[Event]]:
    """A trajectory and what was heard of it; with repairs where attempts are given."""
    events: list[Event] = []
    listening = Overheard(agent, events.append)
    config = RolloutConfig()
    repair = None
    if max_attempts:
        correction = SelfCorrectionConfig(max_attempts=max_attempts, suffix_tokens=3)
        repair = listening.repair(self_correction(listening.agent, config, correction))
    trajectory = asyncio.run(rollout(draft_of(agent), listening.agent, config, repair))
    listening.finished(trajectory)
    return trajectory, events


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if event.kind is not Happening.STANDS)


def stands(events: list[Event]) -> str:
    return "".join(event.text for event in events if event.kind is Happening.STANDS)


def response_of(trajectory: Trajectory) -> str:
    ids = [i for step in trajectory.steps for span in step.spans for i in span.token_ids]
    return tiny_tokenizer().decode(ids).removesuffix("<|end|>")


@pytest.mark.parametrize(
    "replies",
    [
        [ANSWER],
        ["We compute.\n" + program("print(1)"), ANSWER],
        ["Ünïcödé: 😀 und €.\n" + program("print('😀')"), "😀", ANSWER],
        ["It fails.\n" + program("boom"), "Silent.\n" + program("pass"), ANSWER],
        ["```text\nno program\n```\n", " and on.\n" + program("print(1)"), ANSWER],
    ],
)
def test_what_is_heard_is_the_response_and_listening_changes_no_token(
    replies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overheard, "PAUSE_S", 0.0)
    trajectory, events = heard_from(agent_of(replies))
    assert said(events) == stands(events) == response_of(trajectory)
    agent = agent_of(replies)
    alone = asyncio.run(rollout(draft_of(agent), agent, RolloutConfig()))
    assert alone == trajectory
    assert sum(event.kind is Happening.TEXT for event in events) > len(trajectory.steps)  # piece by piece


def test_a_program_is_heard_when_it_starts_and_when_it_ends_with_its_number() -> None:
    _, events = heard_from(agent_of(["A\n" + program("print(1)"), "B\n" + program("boom"), ANSWER]))
    calls = [(e.kind, e.call, e.code, e.result and e.result.ran) for e in events if e.call]
    assert calls == [
        (Happening.CODE, 1, "print(1)\n", None),
        (Happening.OUTPUT, 1, "print(1)\n", True),
        (Happening.CODE, 2, "boom\n", None),
        (Happening.OUTPUT, 2, "boom\n", False),
    ]


def test_a_repair_says_which_call_it_repairs_and_begins_with_what_is_kept() -> None:
    thought = "Let us compute the product of both.\n"
    again = " both.\n" + program("print(2)")
    trajectory, events = heard_from(
        agent_of([thought + program("boom"), again.replace("print(2)", "boom"), again, ANSWER]), max_attempts=2
    )
    told = [(e.kind, e.call, e.attempt) for e in events if e.kind in (Happening.REPAIR, Happening.REPAIRED)]
    assert told == [(Happening.REPAIR, 1, 1), (Happening.REPAIR, 1, 2), (Happening.REPAIRED, 1, 2)]
    assert stands(events) == response_of(trajectory)
    first = next(e for e in events if e.kind is Happening.REPAIR)
    assert first.text.startswith("\n[call 1 failed (NameError); repair 1]\nLet us compute")
    assert thought.startswith(first.text.split("]\n")[1])


def test_a_call_that_no_repair_mends_is_said_to_stay() -> None:
    failing = " both.\n" + program("boom")
    agent = agent_of(["Let us compute both.\n" + program("boom"), failing, failing, ANSWER])
    trajectory, events = heard_from(agent, max_attempts=2)
    last = [e for e in events if e.kind is Happening.GIVEN_UP]
    assert [(e.call, e.attempt, e.text) for e in last] == [(1, 2, "\n[call 1 stays as it failed]\n")]
    assert trajectory.steps[0].failed
    assert said(events).endswith(last[0].text + ANSWER)
    assert stands(events) == response_of(trajectory)


@pytest.mark.parametrize("text", ["a", "😀", "x😀y", "€" * 9, "日本語 text", "\u200d👩‍👧"])
def test_a_reader_gives_no_half_of_a_character_and_leaves_nothing_out(text: str) -> None:
    ids = tiny_tokenizer().encode(text, add_special_tokens=False)
    reader = TextReader(tiny_tokenizer().decode)
    pieces = [reader.add([token]) for token in ids] + [reader.add([], is_last=True)]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


def test_bytes_that_never_become_a_character_are_held_back_no_longer_than_a_bound() -> None:
    half = tiny_tokenizer().encode("😀", add_special_tokens=False)[0]
    reader = TextReader(tiny_tokenizer().decode)
    assert any(reader.add([half]) for _ in range(overheard.LONGEST_HELD + 2))


def test_the_notice_that_no_call_is_left_is_heard_as_well() -> None:
    events: list[Event] = []
    listening = Overheard(agent_of(["A\n" + program("print(1)"), "B\n" + program("print(2)"), ANSWER]), events.append)
    config = RolloutConfig(max_tool_calling_iterations=1)
    trajectory = asyncio.run(rollout(draft_of(listening.agent), listening.agent, config))
    listening.finished(trajectory)
    assert said(events) == stands(events) == response_of(trajectory)
    assert [e.result.status for e in events if e.result is not None] == [Status.OK, Status.NOT_RUN]


def test_what_is_not_live_is_told_when_the_turn_has_ended_and_is_the_same_text() -> None:
    events: list[Event] = []
    listening = Overheard(agent_of(["A\n" + program("print(1)"), ANSWER]), events.append, is_live=False)
    trajectory = asyncio.run(rollout(draft_of(listening.agent), listening.agent, RolloutConfig()))
    assert said(events) == response_of(trajectory)
    assert sum(event.kind is Happening.TEXT for event in events) == len(trajectory.steps)
