"""One journal that several processes fill: each writes what it finishes at once, all know everything at the end.

The first process writes the journal itself. Another one writes to a file beside it, until the first has taken its rows
over; what a kill left there is taken over when the run is continued, by however many processes.
"""

from collections.abc import Sequence
from pathlib import Path

from thor_tir.distributed import Ranks
from thor_tir.storage.journal import Brief, Journal


class BesideJournal(Journal):
    """What one process adds to a journal that another one writes."""

    def clear(self) -> None:
        """Empty the file: its rows are in the journal now. They stay known."""
        self.path.write_bytes(b"")


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
    ranks.wait()  # nobody writes while somebody reads
    return journal


def exchange(journal: Journal, mine: Sequence[str], ranks: Ranks) -> None:
    """Make the rows of all processes known to all, and the first write down those of the others."""
    if ranks.is_alone:
        return
    said = ranks.gather([journal[key] for key in mine])
    rows = [row for part in said for row in part if row["key"] not in journal]
    if ranks.leads:
        _add(journal, rows)
    else:
        journal.know(rows)
    ranks.wait()
    if isinstance(journal, BesideJournal):
        journal.clear()


def _take_over(journal: Journal) -> None:
    for path in sorted(journal.path.parent.glob(f"{journal.path.stem}.rank*{journal.path.suffix}")):
        _add(journal, [row for row in Journal(path, hold=journal.hold) if row["key"] not in journal])
        path.unlink()


def _add(journal: Journal, rows: Sequence[dict[str, object]]) -> None:
    for row in rows:
        journal.add(str(row["key"]), {name: value for name, value in row.items() if name not in ("key", "commits")})
    journal.commit()
