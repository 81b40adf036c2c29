"""A transcript while it is written: in colours on a terminal, as plain text anywhere else.

All of it is foreign text, which is made visible before it is printed, so that no byte of it steers the terminal.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from thor_tir.console import ConsoleReporter, text_table, visible
from thor_tir.dialect.fences import CLOSE, OPEN
from thor_tir.dialect.observation import OUTPUT
from thor_tir.dialect.tool_calls import RESULT_CLOSE, RESULT_OPEN
from thor_tir.eval.transcript import answer_line, cost_sentence, highlighted, output_panel
from thor_tir.inference.answering import Answer
from thor_tir.rollout.overheard import Event, Happening

NOTICES = frozenset({Happening.REPAIR, Happening.GIVEN_UP, Happening.DROPPED})
"""Events whose text begins with a line that says what happens; what is kept of a thought may follow it."""

FRAMES = ((OUTPUT, CLOSE), (RESULT_OPEN, RESULT_CLOSE))
"""Lines around a result, by dialect."""


class LiveTranscript:
    """Prints events in their order. Thoughts appear as they come, the lines of a program when they are whole."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line = ""
        """Text since the last newline."""
        self._is_code = False

    def hear(self, event: Event) -> None:
        """Print what an event adds to the transcript."""
        if not event.text or event.kind is Happening.STANDS:
            return
        if not self._console.is_terminal:
            self._plain(event.text)
        elif event.kind is Happening.OUTPUT:
            self._output(event)
        elif event.kind in NOTICES:
            line, _, kept = event.text.removeprefix("\n").partition("\n")
            self.end()
            self._write(f"{line}\n", "magenta")
            self._thought(kept)
        else:
            self._thought(event.text)

    def end(self) -> None:
        """End the line that was begun."""
        if self._console.is_terminal and self._is_code and self._line:
            self._write(self._line, "")
        if self._line:
            self._plain("\n")
        self._line, self._is_code = "", False

    def _plain(self, text: str) -> None:
        self._write(text, "")
        self._line = (self._line + text).rpartition("\n")[2]

    def _thought(self, text: str) -> None:
        for piece in _lines(text):
            self._line += piece
            if not self._is_code:
                self._write(piece, "")
            if piece.endswith("\n"):
                self._end_line()

    def _end_line(self) -> None:
        line, self._line = self._line.rstrip("\n"), ""
        if not self._is_code:
            self._is_code = line.rstrip() == OPEN
            return
        if line.rstrip() == CLOSE:
            self._is_code = False
            self._write(f"{line}\n", "")
        else:
            self._console.print(highlighted(visible(line), "python"), soft_wrap=True)

    def _output(self, event: Event) -> None:
        self.end()
        lines = event.text.strip("\n").split("\n")
        if (lines[0], lines[-1]) in FRAMES:
            lines = lines[1:-1]
        status = None if event.result is None else event.result.status
        self._console.print(output_panel(visible("\n".join(lines)), status))

    def _write(self, text: str, style: str) -> None:
        self._console.print(Text(visible(text), style), end="", soft_wrap=True)


def _lines(text: str) -> Sequence[str]:
    """Lines with their newlines; no other character ends one."""
    *whole, rest = text.split("\n")
    return [*(f"{line}\n" for line in whole), *([rest] if rest else [])]


def show_end(answered: Answer, reporter: ConsoleReporter) -> None:
    """Candidates and the reason of the choice where there are several; the answer; a line about its cost."""
    if len(answered.candidates) > 1:
        reporter.show(text_table("Candidates", *_candidates(answered)))
        reporter.say(f"chosen: {answered.choice.reason}")
    if (opinion := answered.opinion) is not None:
        unusable = f", of which {opinion.fallbacks} gave nothing usable" if opinion.fallbacks else ""
        cost = f"{opinion.read_tokens} tokens read, {opinion.tokens} written; {opinion.seconds:.1f} s"
        reporter.say(f"asked for the choice: {opinion.calls} requests{unusable}; {cost}")
    reporter.show(answer_line(answered.text or None))
    cost = cost_sentence([candidate.trajectory for candidate in answered.candidates])
    reporter.say(f"{cost}; {answered.seconds:.1f} s")


def _candidates(answered: Answer) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    choice = answered.choice
    parts = choice.parts or tuple(f"score {number + 1}" for number in range(len(choice.scores[0])))
    rows = [
        (
            f"{number + 1}{' *' if number == choice.place else ''}",
            candidate.verdict.extracted or "-",
            f"{sum(step.succeeded for step in candidate.trajectory.calls)} of {len(candidate.trajectory.calls)}",
            str(candidate.trajectory.num_model_tokens),
            candidate.trajectory.finish.value,
            *(f"{value:.4g}" for value in score),
        )
        for number, (candidate, score) in enumerate(zip(answered.candidates, choice.scores, strict=True))
    ]
    return ("candidate", "answer", "calls ok", "tokens", "finish", *parts), rows
