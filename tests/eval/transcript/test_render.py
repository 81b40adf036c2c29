"""What the terminal shows of a trajectory, and what a hostile trajectory cannot make it do."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from fake_trajectory import CORRECTED, decode
from thor_tir.eval.transcript.render import render, visible
from thor_tir.eval.transcript.segments import Segment, SegmentKind, segments_of
from thor_tir.execution import Status
from thor_tir.verdict import Outcome


def shown(renderable: RenderableType, *, colour: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=60, force_terminal=colour, color_system="standard" if colour else None).print(renderable)
    return out.getvalue()


def test_the_transcript_reads_as_plain_text_where_there_is_no_terminal() -> None:
    text = shown(render(segments_of(CORRECTED, decode), answer="7", outcome=Outcome.CORRECT))
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
    good = Segment(author=SegmentKind.OBSERVATION, text="7", status=Status.OK_NO_OUTPUT)
    assert f"{red}boom" in shown(render([failed], answer="1"), colour=True)
    assert red not in shown(render([good], answer="1"), colour=True)
    assert "output: timeout" in shown(render([failed]))


def test_a_missing_answer_is_said_aloud() -> None:
    assert "no answer found  unscored" in shown(render([], outcome=Outcome.UNSCORED))


def test_markup_and_emoji_codes_of_the_model_are_shown_as_written() -> None:
    hostile = "[bold red]x[/] :smile: [link=file:///]y"
    for author in SegmentKind:
        segment = Segment(author=author, text=hostile, status=Status.OK)
        assert hostile in shown(render([segment], answer=hostile, show_prompt=True), colour=False)


@pytest.mark.parametrize(
    ("hidden", "escape"),
    [("\x1b]0;pwn\x07", r"\x1b]0;pwn\x07"), ("a\rb", r"a\rb"), ("\x9b2J", r"\x9b2J"), ("\u202egnp", r"\u202egnp")],
)
def test_control_characters_are_shown_as_escapes(hidden: str, escape: str) -> None:
    assert visible(hidden) == escape
    for author in SegmentKind:
        for discarded in ("", "attempt 1 of 1"):
            segment = Segment(author=author, text=hidden, status=Status.RUNTIME, discarded=discarded)
            assert escape in shown(render([segment], show_prompt=True))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_no_text_can_send_a_control_character_or_a_lone_surrogate_to_the_terminal(text: str) -> None:
    segments = [Segment(author=author, text=text, status=Status.OK) for author in SegmentKind]
    out = shown(render(segments, answer=text, show_prompt=True))
    assert all(c == "\n" or ord(c) >= 0x20 for c in out)
    assert not any(0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in out)
