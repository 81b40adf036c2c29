"""One journal that several processes fill: the first writes it, another a file beside it until its rows are taken over.

What a kill left there is taken over when the run is continued, by however many processes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thor_tir.distributed import Ranks, in_a_thread
from thor_tir.storage.journal import Brief, Journal, JsonObject, line_of, whole


class BesideJournal(Journal):
    """Rows that one process adds to a journal that another one writes."""

    def __init__(self, path: Path, *, hold: bool = False, brief: Brief | None = None) -> None:
        super().__init__(path, hold=hold, brief=brief or whole)  # the file is written anew with each hand-over
        self._here: dict[str, JsonObject] = dict(self._rows)  # type: ignore[arg-type]  # no places

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Record a finished unit until the journal has it."""
        super().add(key, row)
        self._here[key] = {"key": key, **row}

    def hand_over(self, keys: Iterable[str]) -> None:
        """These rows are in the journal now: the file keeps the others alone. They all stay known."""
        for key in keys:
            self._here.pop(key, None)
        self.path.write_text("".join(map(line_of, self._here.values())), encoding="utf-8")


def open_shared(path: Path, ranks: Ranks, *, hold: bool, brief: Brief | None = None) -> Journal:
    """The journal at `path` as this process adds to it; all processes must open it."""
    if ranks.leads:
        journal = Journal(path, hold=hold, brief=brief)
        _take_over(journal)
        ranks.wait()
    else:
        ranks.wait()
        journal = BesideJournal(path.with_name(f"{path.stem}.rank{ranks.rank}{path.suffix}"), hold=hold, brief=brief)
        journal.know(Journal(path, hold=hold, is_ours=False))
    ranks.wait()  # no process writes while another reads
    if not ranks.see_one(path.parent):
        _tell(journal, ranks)
    return journal


def _tell(journal: Journal, ranks: Ranks) -> None:
    """Where the hosts share no folder: send the first what a kill left with the others, and them what it has."""
    left = list(journal) if isinstance(journal, BesideJournal) else []
    rows = [row for part in ranks.gather(left) for row in part if row["key"] not in journal]
    if ranks.leads:
        _add(journal, rows)
    journal.know(ranks.lead(lambda: list(journal)))
    if isinstance(journal, BesideJournal):
        journal.hand_over([str(row["key"]) for row in left])


async def exchange(journal: Journal, mine: Sequence[str], ranks: Ranks) -> None:
    """Make the rows of all processes known to all, and the first write down those of the others."""
    if ranks.is_alone:
        return
    own = [journal[key] for key in mine]
    said = await in_a_thread(lambda: ranks.gather(own))
    rows = [row for part in said for row in part if row["key"] not in journal]
    if ranks.leads:
        _add(journal, rows)
    else:
        journal.know(rows)
    await in_a_thread(ranks.wait)
    if isinstance(journal, BesideJournal):
        journal.hand_over(mine)


def _take_over(journal: Journal) -> None:
    for path in sorted(journal.path.parent.glob(f"{journal.path.stem}.rank*{journal.path.suffix}")):
        _add(journal, [row for row in Journal(path, hold=journal.hold) if row["key"] not in journal])
        path.unlink()


def _add(journal: Journal, rows: Sequence[dict[str, object]]) -> None:
    for row in rows:
        journal.add(str(row["key"]), {name: value for name, value in row.items() if name not in ("key", "commits")})
    journal.commit()
