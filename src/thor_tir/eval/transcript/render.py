"""A trajectory as terminal text: thoughts plain, code highlighted, outputs in a dim panel, failures in red.

Everything a model or a program wrote is untrusted: it is never read as rich markup, and control characters are shown as
escapes, so that no byte of it can steer the terminal. Colour disappears by itself where the console is not a terminal.
"""

import unicodedata
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from thor_tir.eval.transcript.segments import Segment, SegmentKind
from thor_tir.execution import Status
from thor_tir.verdict import Outcome

DISCARDED_INDENT = 4
"""Columns by which a discarded version stands aside of the text that counts."""

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that can move the cursor, hide text or turn its direction: control, format, surrogate, breaks."""

_OUTCOME_STYLE = {Outcome.CORRECT: "bold green", Outcome.WRONG: "bold red", Outcome.UNSCORED: "bold yellow"}


def render(
    segments: Sequence[Segment], *, answer: str | None = None, outcome: Outcome | None = None, show_prompt: bool = False
) -> RenderableType:
    """Segments in their order, then the answer that was found in them.

    `answer` is None where none was found, `outcome` None where there is no reference to compare it with. The prompt is
    mostly instructions, so it is shown on request only.
    """
    parts: list[RenderableType] = []
    previous = ""
    for segment in segments:
        if segment.discarded and segment.discarded != previous:
            parts.append(Padding.indent(Text(f"discarded {segment.discarded}", "magenta"), DISCARDED_INDENT))
        previous = segment.discarded
        if segment.author is not SegmentKind.PROMPT or show_prompt:
            parts.append(_segment(segment))
    parts.append(_answer(answer, outcome))
    return Group(*parts)


def visible(text: str) -> str:
    r"""The text with every unsafe character but newline and tab written as its escape, e.g. ESC as `\x1b`."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _UNSAFE else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _segment(segment: Segment) -> RenderableType:
    text = visible(segment.text).strip("\n")
    if segment.discarded:
        return Padding.indent(_discarded(segment, text), DISCARDED_INDENT)
    if segment.author is SegmentKind.THOUGHT:
        return Text(text)
    if segment.author is SegmentKind.PROMPT:
        return Text(text, "dim")
    if segment.author is SegmentKind.ACTION:
        return _highlighted(text)
    return _output(text, segment.status)


def _highlighted(text: str) -> Text:
    """Code within its fences; the Markdown lexer takes the language from the opening fence."""
    code = Syntax("", "markdown", theme="ansi_dark", background_color="default").highlight(text)
    code.rstrip()
    return code


def _output(text: str, status: Status | None) -> RenderableType:
    failed = has_failed(status)
    return Panel(
        Text(text, "red" if failed else "dim"),
        title=Text(f"output: {_words(status)}" if status else "output", "bold red" if failed else "dim"),
        title_align="left",
        border_style="red" if failed else "dim",
    )


def _discarded(segment: Segment, text: str) -> Text:
    if segment.author is SegmentKind.OBSERVATION:
        return Text.assemble((f"[{_words(segment.status)}] ", "red"), (text, "dim"))
    return Text(text, "dim strike")


def _answer(answer: str | None, outcome: Outcome | None) -> Text:
    if answer is None:
        line = Text("no answer found", "bold yellow")
    else:
        line = Text.assemble(("answer: ", "bold"), (visible(answer), "bold reverse"))
    if outcome is not None:
        line.append(f"  {outcome}", _OUTCOME_STYLE[outcome])
    return line


def has_failed(status: Status | None) -> bool:
    """True if a call was made and did not run to its end."""
    return status is not None and status not in (Status.OK, Status.OK_NO_OUTPUT)


def _words(status: Status | None) -> str:
    return "no call" if status is None else status.value.replace("_", " ")
