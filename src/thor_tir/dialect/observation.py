"""The text that a model reads after a program: short, truthful, and unable to break out of its frame.

Execution does not depend on this module: any result can be shown in any of these styles, and a run's
`ObservationConfig` chooses one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from thor_tir.execution import ExecutionResult, Status, can_be_read

_SAID: dict[Status, str] = {
    Status.OK_NO_OUTPUT: "(no output)",
    Status.TIMEOUT: "TimeoutError: the program took too long and was stopped",
    Status.MEMORY: "MemoryError: the program asked for too much memory",
    Status.DENIED: "PermissionError: the program tried something that is not allowed",
    Status.NOT_RUN: "(not run: no call is left; give the answer without one)",
}
OUTPUT = "```output"
"""Line that begins an observation between fences."""


@dataclass(frozen=True, kw_only=True)
class ObservationConfig:
    """Style and length of the text that shows a result. Runs with different styles are different runs."""

    style: Literal["brief", "located", "paper"] = "brief"
    """Form of a result: `brief` shows the last line of a failure's traceback, `located` also the program's own lines
    that led there; `paper` is what the paper's released code shows, whose length is 256."""
    max_chars: int = 512
    """A longer text keeps both ends; brief and located say between them how much is left out."""

    def __post_init__(self) -> None:
        if self.max_chars < 16:
            raise ValueError(f"an observation of {self.max_chars} characters has no room for both ends; at least 16")


_FRAMES = 2
"""Lines of the program that a failure is traced to, the last ones."""
_FRAME = re.compile(r'  File "main\.py", line (\d+)(?:, in .*)?\n((?:    (?!\s*[~^]+\s*$).*\n)?)', re.MULTILINE)
_BEGIN = "Traceback (most recent call last):\n"


def located_text(result: ExecutionResult, *, max_chars: int) -> str:
    """stdout of a success, otherwise what went wrong and on which of the program's own lines."""
    return _cut_and_fenced(_text(result, _last_lines), max_chars)


def brief_text(result: ExecutionResult, *, max_chars: int) -> str:
    """stdout of a success, otherwise the last line that says what went wrong."""
    return _cut_and_fenced(_text(result, _last_line), max_chars)


def paper_text(result: ExecutionResult, *, max_chars: int) -> str:
    """Text of the paper's released code (vllm_rollout_spmd.py), with `max_chars` 256 there.

    Success is exit code 0 with something printed; everything else shows stderr. Where the text says `Error` anywhere,
    even in the output of a success, its last line alone is kept. No text at all reads as a time-out, also that of a
    program which printed nothing. A text as long as the limit or longer keeps both ends around three dots. Fences in
    what was printed stay as they are, so that it can break out of its frame.
    """
    text = result.stdout if result.exit_code == 0 and result.stdout else result.stderr
    if "Error" in text:
        text = text.strip().split("\n")[-1]
    text = (text or "timeout_decorator.TimeoutError: 'Timed Out'").strip()
    if len(text) >= max_chars:
        half = max_chars // 2
        text = f"{text[:half]}...{text[-half:]}"
    return text


ObservationText = Callable[..., str]
"""One of the functions above: (result, *, max_chars) -> text."""

STYLES: Mapping[str, ObservationText] = {"brief": brief_text, "located": located_text, "paper": paper_text}


def observed_text(result: ExecutionResult, config: ObservationConfig) -> str:
    """The text that the model reads of a result in a run of this configuration; a refusal reads alike in all."""
    if result.status is Status.NOT_RUN:
        return _SAID[Status.NOT_RUN]
    return STYLES[config.style](result, max_chars=config.max_chars)


def frame(text: str) -> str:
    """The observation as it stands in the context, between fences of its own."""
    return f"{OUTPUT}\n{text}\n```\n"


def middle_out(text: str, max_chars: int) -> str:
    """Both ends of a long text, with a marker that says how much is missing between them."""
    if len(text) <= max_chars:
        return text
    head = max_chars // 2
    tail = max_chars - head
    return f"{text[:head]}\n[{len(text) - max_chars} characters left out]\n{text[-tail:]}"


def _text(result: ExecutionResult, reason: Callable[[str], str]) -> str:
    if result.status in _SAID:
        return _SAID[result.status]
    if result.status in (Status.SYNTAX, Status.RUNTIME):
        return reason(result.stderr) or result.error or "the program failed"
    # Blank output shows nothing either, and an empty frame would not say so.
    text = result.stdout.strip("\n") if can_be_read(result.stdout) else _SAID[Status.OK_NO_OUTPUT]
    if result.status is Status.OUTPUT_LIMIT:
        text += "\nOutputLimitError: the program printed too much and was stopped"
    return text


def _cut_and_fenced(text: str, max_chars: int) -> str:
    return middle_out(text, max_chars).replace("```", "'''")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _last_lines(text: str) -> str:
    """The last exception, after those of the program's own lines that led to it."""
    last = text[text.rfind(_BEGIN) :] if _BEGIN in text else text
    places = [f"line {number}: {source.strip()}".rstrip(": ") for number, source in _FRAME.findall(last)]
    return "\n".join([*places[-_FRAMES:], _last_line(last)]).strip()
