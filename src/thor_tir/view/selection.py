"""Selection of trajectories: filters, order and page, and what there is to filter by."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from thor_tir.errors import UsageError
from thor_tir.storage.journal import JsonObject
from thor_tir.storage.trajectory_json import without_tokens
from thor_tir.view.entries import Entry, RowKind, json_object, texts_of
from thor_tir.view.run import ViewedFile, ViewedRun

PAGE_ROWS = 50
"""Trajectories of one page."""
SEARCH_S = 4.0
"""Longest time that is spent on the search for a text; the newest rows come first."""
MOST_DIGITS = 12
"""Most digits of a number in an address."""
LAST = "last"
"""Spelling of the last round of training."""

Found = tuple[ViewedFile, Entry]


def whole_number(name: str, text: str) -> int:
    """The number that an address spells. Raises UsageError for what is none, and for more digits than any has here."""
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise UsageError(f"{name} is a number of at most {MOST_DIGITS} digits, found {text[:40]!r}")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """One question to the list."""

    file: str = ""
    """Name of the journal; empty for all that hold no copies."""
    level: str = "trajectories"
    """`trajectories`, or `repairs` of step-level training."""
    outcome: str = ""
    """Outcome of the verdict, or of the repair."""
    call: str = ""
    """`failed`: some call failed; `ran`: calls, and all ran; `none`: no call."""
    repaired: str = ""
    """`yes`: written again by self-correction or step-level training; `no`: not."""
    failure: str = ""
    """Class of a failed call."""
    family: str = ""
    """Family of the problem."""
    problem: str = ""
    """Id of the problem."""
    finish: str = ""
    """Way in which it ended."""
    round: str = ""
    """Round of training, counted from 1, or `last`."""
    min_tokens: int = 0
    """Fewest tokens that the model wrote."""
    max_tokens: int = 0
    """Most tokens that the model wrote; 0 for any number."""
    text: str = ""
    """Text that stands somewhere in it, in either case."""
    sort: str = "newest"
    """Name of an order."""
    page: int = 0
    """Page, counted from 0."""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Selection":
        """The selection of an address. Raises UsageError for what is none."""
        numbers = ("min_tokens", "max_tokens", "page")
        known: JsonObject = {name: query[name] for name in cls.__dataclass_fields__ if query.get(name)}
        for name in numbers:
            if name in known:
                known[name] = whole_number(name, known[name])
        if known.get("round", LAST) != LAST:
            whole_number("round", known["round"])
        if known.get("sort", "newest") not in ORDERS:
            raise UsageError(f"unknown order {known['sort']!r}; known: {', '.join(ORDERS)}")
        return cls(**known)


ORDERS: Mapping[str, Callable[[Entry], float]] = {
    "newest": lambda entry: 0,  # as the journals hold them
    "longest": lambda entry: -entry.tokens,
    "shortest": lambda entry: entry.tokens,
    "most calls": lambda entry: -entry.calls,
    "most failures": lambda entry: -len(entry.failures),
    "slowest": lambda entry: -(entry.seconds or 0),
}
"""Orders by name; what is equal stays newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The answer to a selection."""

    rows: list[Found]
    """Rows of the page."""
    total: int
    """Rows that were found."""
    round: int | None
    """Round that `last` stands for."""
    unsearched: int
    """Rows that the search for a text did not reach in its time."""


def choose(run: ViewedRun, selection: Selection) -> Chosen:
    """The page of a selection."""
    found, number = _fitting(run, selection)
    found.sort(key=lambda pair: ORDERS[selection.sort](pair[1]))
    unsearched = 0
    if selection.text:
        found, unsearched = _search(found, selection.text)
    begin = selection.page * PAGE_ROWS
    return Chosen(rows=found[begin : begin + PAGE_ROWS], total=len(found), round=number, unsearched=unsearched)


def fitting(run: ViewedRun, selection: Selection) -> list[Found]:
    """All rows that the filters of a selection leave, newest first in each file."""
    return _fitting(run, selection)[0]


def _fitting(run: ViewedRun, selection: Selection) -> tuple[list[Found], int | None]:
    """The rows that the filters leave, and the round that was asked for."""
    with run.lock:
        rows = list(run.rows(selection.file))
        mended = repaired_keys(rows)
        last = max((entry.round for _, entry in rows if entry.round is not None), default=None)
        number = last if selection.round == LAST else int(selection.round) if selection.round.isdecimal() else None
        fits = _filter(selection, number, mended)
        return [pair for pair in rows if fits(pair)], number


def repaired_keys(rows: Iterable[Found]) -> Counter[tuple[str, str]]:
    """Repairs of step-level training by journal and trajectory."""
    return Counter((file.name, entry.parent) for file, entry in rows if entry.kind is RowKind.REPAIR)


def _filter(asked: Selection, number: int | None, mended: Counter[tuple[str, str]]) -> Callable[[Found], bool]:
    wants_repairs = asked.level == "repairs"

    def fits(pair: Found) -> bool:
        file, entry = pair
        return (
            (entry.kind is RowKind.REPAIR) == wants_repairs
            and asked.outcome in ("", entry.outcome)
            and asked.call in ("", _call_of(entry))
            and (not asked.failure or asked.failure in entry.failures)
            and asked.family in ("", entry.family)
            and asked.problem in ("", entry.problem_id)
            and asked.finish in ("", entry.finish)
            and (number is None or entry.round == number)
            and asked.min_tokens <= entry.tokens
            and (not asked.max_tokens or entry.tokens <= asked.max_tokens)
            and (
                not asked.repaired or (asked.repaired == "yes") == bool(entry.discarded or mended[file.name, entry.key])
            )
        )

    return fits


def _call_of(entry: Entry) -> str:
    return "failed" if entry.failures else "ran" if entry.calls else "none"


def _search(rows: list[Found], text: str) -> tuple[list[Found], int]:
    """The rows that hold a text, and how many were not looked at in time."""
    wanted, until = text.casefold(), monotonic() + SEARCH_S
    found: list[Found] = []
    for number, (file, entry) in enumerate(rows):
        if monotonic() > until:
            return found, len(rows) - number
        row = json_object(without_tokens(file.growing.read(entry.place, entry.length)))
        if row is not None and any(wanted in part.casefold() for part in _texts(row, entry)):
            found.append((file, entry))
    return found, 0


def _texts(row: JsonObject, entry: Entry) -> Iterator[str]:
    yield entry.key
    yield entry.problem_id
    yield from texts_of(row)


def facets(run: ViewedRun, name: str) -> JsonObject:
    """Values by which the trajectories of one journal or of all can be filtered, each with its number of rows."""
    with run.lock:
        rows = list(run.rows(name))
        trajectories = [entry for _, entry in rows if entry.kind is not RowKind.REPAIR]
        files: Counter[str] = Counter()
        for file in run.files:
            if file.entries:
                files[file.name] += len(file.entries)
        copies = sorted({file.name for file in run.files if file.is_copy})
    return {
        "files": files,
        "copies": copies,
        "families": Counter(entry.family for entry in trajectories),
        "outcomes": Counter(entry.outcome for entry in trajectories),
        "failures": Counter(name for entry in trajectories for name in entry.failures),
        "finishes": Counter(entry.finish for entry in trajectories),
        "rounds": sorted({entry.round for entry in trajectories if entry.round is not None}),
        "repairs": len(rows) - len(trajectories),
        "longest": max((entry.tokens for entry in trajectories), default=0),
        "orders": list(ORDERS),
    }


def listed(run: ViewedRun, chosen: Chosen) -> list[JsonObject]:
    """The rows of a page as JSON values."""
    with run.lock:
        names = {file.name for file, _ in chosen.rows}
        mended = repaired_keys(pair for name in names for pair in run.rows(name))
    shown = []
    for file, entry in chosen.rows:
        asked = run.problems.get(entry.problem_id)
        shown.append(
            {
                "file": file.name,
                "key": entry.key,
                "kind": entry.kind.value,
                "problem": entry.problem_id,
                "family": entry.family,
                "question": clipped(asked.question, 200) if asked else "",
                "start": entry.start,
                "outcome": entry.outcome,
                "answer": None if entry.answer is None else clipped(str(entry.answer), 80),
                "calls": entry.calls,
                "failures": list(entry.failures),
                "tokens": entry.tokens,
                "finish": entry.finish,
                "round": entry.round,
                "seconds": entry.seconds,
                "discarded": entry.discarded,
                "repairs": mended[file.name, entry.key],
            }
        )
    return shown


def clipped(text: str, most: int) -> str:
    """A text, or its beginning with three dots."""
    return text if len(text) <= most else text[: most - 1] + "…"
