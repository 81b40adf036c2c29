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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

from thor_tir.errors import OutputClosed
from thor_tir.progress import duration, rate

MOST_COLUMNS = 1_000
"""Columns of the widest table."""
NOTE_EVERY_S = 30.0
"""Time between two lines of progress of a long stage where there is no terminal, in seconds."""
BESIDE_THE_BAR = 70
"""Columns for the title, the counts and the rate of a stage; the bar itself takes what is left, up to 40."""


_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that can move the cursor, hide text or turn its direction: control, format, surrogate, breaks."""


def visible(text: str) -> str:
    r"""The text with every unsafe character but newline and tab written as its escape, e.g. ESC as `\x1b`."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _UNSAFE else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class _Console(Console):
    """A console whose reader may leave before the end, as `head` does."""

    def on_broken_pipe(self) -> None:
        """Raise OutputClosed in place of rich's SystemExit, which event loops report as a crash."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise OutputClosed("nobody reads the output any more") from None


class _Speed(ProgressColumn):
    """Units a second of this process, and the time that the rest takes at that rate."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["bar"].speed, style="progress.data.speed")


class _Bars(Progress):
    """A bar with lines of its own below it, as wide as the place is, so that nothing is cut."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, and what is to be said of each."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield from (Text(line, overflow="fold") for line in task.fields["bar"].below)


class _Bar:
    """One running stage."""

    def __init__(self, progress: _Bars, title: str, total: int) -> None:
        self._progress = progress
        self._title, self._total = visible(title), total
        self._began = self._said = perf_counter()
        self._note = self._brief = ""
        self._before = 0
        self.done = 0
        self._task = progress.add_task(self._title, total=total, bar=self)

    def resume(self, units: int) -> None:
        """Count `units` as done before this process began, and say so where no bar shows it."""
        self._before += units
        self.done += units
        self._progress.update(self._task, completed=self.done)
        if units and self._progress.disable:
            self._print(f"{self._title}: goes on behind {self.done} of {self._total}")

    def advance(self, units: int = 1) -> None:
        """Count `units` more as done; where there is no bar, a line says so now and then."""
        self.done += units
        self._progress.update(self._task, completed=self.done)
        if self.done < self._total:
            self._now_and_then(self._note or f"{self._title}: {self.done} of {self._total}, {self.speed}")

    def note(self, line: str) -> None:
        """Under the bar; where there is none, as a line now and then."""
        self._note = visible(line)
        self._now_and_then(self._note)

    def log(self, line: str, brief: str = "") -> None:
        """Print a line that stays, with the time that is left; `brief` stands under the bar until the next one."""
        self._brief = visible(brief)
        left = self._left
        self._print(visible(line) + (f", {duration(left)} left" if left else ""))

    @property
    def speed(self) -> str:
        """Units a second, and time left."""
        done = rate(self.done - self._before, perf_counter() - self._began)
        return f"{done}, {duration(self._left)} left" if done and self._left else done

    @property
    def below(self) -> list[str]:
        """Lines under the bar."""
        return [line for line in (self._brief, self._note) if line]

    @property
    def summary(self) -> str:
        """The whole stage in a line: what this process did, how fast, and what had been done before."""
        fresh, seconds = self.done - self._before, perf_counter() - self._began
        before = f"; with {self._before} from before {self.done} of {self._total}" if self._before else ""
        speed = f" ({rate(fresh, seconds)})" if fresh else ""
        return f"{self._title}: {fresh} in {seconds:.1f} s{speed}{before}"

    @property
    def _left(self) -> float:
        """Seconds that the rest takes at the rate so far; 0 where that is not known."""
        fresh = self.done - self._before
        return (self._total - self.done) * (perf_counter() - self._began) / fresh if fresh > 0 else 0.0

    def _now_and_then(self, line: str) -> None:
        if self._progress.disable and perf_counter() - self._said >= NOTE_EVERY_S:
            self._print(line)

    def _print(self, line: str) -> None:
        self._said = perf_counter()
        self._progress.console.print(line, markup=False, emoji=False, soft_wrap=True)


class ConsoleReporter:
    """Bars on a terminal; on anything else lines now and then and one when a stage ends. A silent one says nothing."""

    def __init__(self, console: Console | None = None, *, is_silent: bool = False) -> None:
        self.console = console or _Console(highlight=False, quiet=is_silent)

    @classmethod
    def of_errors(cls) -> "ConsoleReporter":
        """A reporter on standard error, beside an answer that others may read."""
        return cls(_Console(stderr=True, highlight=False))

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[_Bar]:
        """Work of `total` units."""
        has_bar = self.console.is_terminal and not self.console.is_dumb_terminal
        columns = (
            TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
            BarColumn(bar_width=max(10, min(40, self.console.width - BESIDE_THE_BAR))),
            MofNCompleteColumn(),
            _Speed(table_column=Column(overflow="fold")),
        )
        with _Bars(*columns, console=self.console, transient=True, disable=not has_bar) as progress:
            bar = _Bar(progress, title, total)
            yield bar
        self.say(bar.summary)

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
            wider = _Console(file=self.console.file, width=needed, quiet=self.console.quiet, highlight=False)
            wider.print(shown, crop=False, soft_wrap=False)


def text_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, left: bool = False) -> Table:
    """Rows of plain text under a head; the first column is left, the others right, or `left` as well."""
    table = Table(
        title=Text(visible(title), "table.title"),
        title_justify="left",
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_header=any(head),
    )
    for place, name in enumerate(head):
        table.add_column(Text(visible(name)), justify="right" if place and not left else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
