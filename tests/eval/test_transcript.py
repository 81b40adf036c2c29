"""What the terminal shows of a trajectory, and what a hostile trajectory cannot make it do."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from fake_trajectory import CORRECTED, decode
from thor_tir.console import visible
from thor_tir.eval.transcript import (
    Segment,
    SegmentKind,
    discarded_repairs,
    exhibit,
    rendered_transcript,
    segments_of,
)
from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome, Verdict


def shown(renderable: RenderableType, *, colour: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=60, force_terminal=colour, color_system="standard" if colour else None).print(renderable)
    return out.getvalue()


def test_the_transcript_reads_as_plain_text_where_there_is_no_terminal() -> None:
    text = shown(rendered_transcript(segments_of(CORRECTED, decode), answer="7", outcome=Outcome.CORRECT))
    positions = [
        text.index(piece)
        for piece in ("discarded attempt 1 of 2", "discarded attempt 2 of 2", "print(3+4)", "output: ok", "So 7.")
    ]
    assert positions == sorted(positions)
    assert text.rstrip().endswith("answer: 7  correct")
    assert "\x1b" not in text
    assert "<|user|>" not in text  # the prompt is shown on request only


def test_a_failed_output_is_red_and_a_successful_one_is_not() -> None:
    red = "\x1b[31m"
    failed = Segment(author=SegmentKind.OBSERVATION, text="boom", status=Status.TIMEOUT)
    good = Segment(author=SegmentKind.OBSERVATION, text="7", status=Status.OK)
    assert f"{red}boom" in shown(rendered_transcript([failed], answer="1"), colour=True)
    assert red not in shown(rendered_transcript([good], answer="1"), colour=True)
    assert "output: timeout" in shown(rendered_transcript([failed]))


def test_a_missing_answer_is_said_aloud() -> None:
    assert "no answer found  unscored" in shown(rendered_transcript([], outcome=Outcome.UNSCORED))


def test_markup_and_emoji_codes_of_the_model_are_shown_as_written() -> None:
    hostile = "[bold red]x[/] :smile: [link=file:///]y"
    for author in SegmentKind:
        segment = Segment(author=author, text=hostile, status=Status.OK)
        assert hostile in shown(rendered_transcript([segment], answer=hostile, show_prompt=True), colour=False)


@pytest.mark.parametrize(
    ("hidden", "escape"),
    [("\x1b]0;pwn\x07", r"\x1b]0;pwn\x07"), ("a\rb", r"a\rb"), ("\x9b2J", r"\x9b2J"), ("\u202egnp", r"\u202egnp")],
)
def test_control_characters_are_shown_as_escapes(hidden: str, escape: str) -> None:
    assert visible(hidden) == escape
    for author in SegmentKind:
        for discarded in ("", "attempt 1 of 1"):
            segment = Segment(author=author, text=hidden, status=Status.RUNTIME, discarded=discarded)
            assert escape in shown(rendered_transcript([segment], show_prompt=True))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_no_text_can_send_a_control_character_or_a_lone_surrogate_to_the_terminal(text: str) -> None:
    segments = [Segment(author=author, text=text, status=Status.OK) for author in SegmentKind]
    out = shown(rendered_transcript(segments, answer=text, show_prompt=True))
    assert all(c == "\n" or ord(c) >= 0x20 for c in out)
    assert not any(0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in out)


def test_the_segments_follow_the_context_and_the_action_keeps_its_fences() -> None:
    standing = [s for s in segments_of(CORRECTED, decode) if not s.discarded]
    assert [(s.author, s.text) for s in standing] == [
        (SegmentKind.PROMPT, "<|user|>3+4?"),
        (SegmentKind.THOUGHT, "Let us compute."),
        (SegmentKind.ACTION, "```python\nprint(3+4)\n```"),
        (SegmentKind.OBSERVATION, "7"),
        (SegmentKind.THOUGHT, "So 7."),
    ]


def test_discarded_attempts_are_numbered_and_stand_before_the_step_that_replaced_them() -> None:
    labels = [s.discarded for s in segments_of(CORRECTED, decode)]
    # prompt; two failed versions of three segments each; the standing step's three; the last thought
    assert labels == [""] + ["attempt 1 of 2"] * 3 + ["attempt 2 of 2"] * 3 + [""] * 4


def test_discarded_attempts_become_unrewarded_repairs_of_the_call_they_preceded() -> None:
    repairs = list(discarded_repairs(CORRECTED, decode))
    assert [(r.call, r.reward, r.status) for r in repairs] == [(0, 0, Status.RUNTIME)] * 2


def test_an_exhibit_keeps_discarded_attempts_out_of_the_context_and_under_their_call() -> None:
    problem = Problem(id="sum", question="3+4?", answer="7", source="toy/sums")
    verdict = Verdict(outcome=Outcome.CORRECT, extracted="7", reason="")
    row = exhibit(problem, CORRECTED, stage="eval/sft", verdict=verdict, decode=decode)
    assert [s["author"] for s in row["segments"]] == ["prompt", "thought", "action", "observation", "thought"]
    assert [(r["call"], r["status"], r["segments"][2]["text"]) for r in row["repairs"]] == [
        (0, "runtime", "NameError: x")
    ] * 2
