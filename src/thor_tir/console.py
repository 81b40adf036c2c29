"""All that the command line prints: sentences, tables, transcripts, progress bars with rates and time left.

Questions, answers, names of files and of stages, and what models and programs wrote are foreign text. It is printed
through this file alone, which shows control characters as escapes, so that no byte of it can steer the terminal, and
never reads it as rich markup.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from rich.box import SIMPLE
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

MOST_COLUMNS = 1_000
"""Columns of the widest table."""
NOTE_EVERY_S = 30.0
"""Time between two lines of progress of a long stage where there is no terminal, in seconds."""


_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that can move the cursor, hide text or turn its direction: control, format, surrogate, breaks."""


def visible(text: str) -> str:
    r"""The text with every unsafe character but newline and tab written as its escape, e.g. ESC as `\x1b`."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _UNSAFE else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class _Bar:
    """One running stage."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(visible(title), total=total, note="")
        self._noted = perf_counter()
        self.done = 0

    def advance(self, units: int = 1) -> None:
        """Count `units` more as done."""
        self.done += units
        self._progress.advance(self._task, units)

    def note(self, line: str) -> None:
        """Under the bar; where there is none, as a line now and then."""
        if not self._progress.disable:
            self._progress.update(self._task, note=f"\n{visible(line)}")
        elif perf_counter() - self._noted >= NOTE_EVERY_S:
            self._noted = perf_counter()
            self._progress.console.print(visible(line), markup=False, emoji=False, soft_wrap=True)


class ConsoleReporter:
    """Bars on a terminal; on anything else one line when a stage ends. A silent one says nothing."""

    def __init__(self, console: Console | None = None, *, is_silent: bool = False) -> None:
        self.console = console or Console(highlight=False, quiet=is_silent)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[_Bar]:
        """Work of `total` units."""
        columns = (
            *(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
            ),
            TextColumn("{task.fields[note]}", markup=False),
        )
        began = perf_counter()
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            bar = _Bar(progress, title, total)
            yield bar
        seconds = perf_counter() - began
        self.say(f"{title}: {bar.done} in {seconds:.1f} s ({bar.done / max(seconds, 1e-9):,.1f}/s)")

    def say(self, text: str) -> None:
        """One line, read as plain text."""
        self.console.print(visible(text), markup=False, emoji=False, soft_wrap=True)

    def show(self, shown: RenderableType) -> None:
        """A table or a transcript, whose makers have made foreign text visible.

        A table keeps its own width where the place is narrower: a long line can be scrolled to, a figure that was cut
        cannot be read.
        """
        wide = self.console.options.update(width=MOST_COLUMNS)
        needed = self.console.measure(shown, options=wide).maximum if isinstance(shown, Table) else 0
        if needed <= self.console.width:
            self.console.print(shown)
        else:
            wider = Console(file=self.console.file, width=needed, quiet=self.console.quiet, highlight=False)
            wider.print(shown, crop=False, soft_wrap=False)


def text_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows of plain text under a head; the first column is left, the others right."""
    table = Table(
        title=Text(visible(title), "table.title"),
        title_justify="left",
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for place, name in enumerate(head):
        table.add_column(Text(visible(name)), justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
