"""The rows of a cold start, from TIRGen's data set or from conversations in other shapes, and an account of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from thor_tir.dialect.dialect import Dialect
from thor_tir.errors import UsageError
from thor_tir.learner.sample import TrainingSample
from thor_tir.problems.data_set import DataPlace, place_of, rows_at
from thor_tir.sft.chat_rows import chat_rows
from thor_tir.sft.chats import read_chat
from thor_tir.sft.config import ChatConfig, ChatFields
from thor_tir.sft.examples import sft_row, spelled_for
from thor_tir.sft.tool_text import Unusable
from thor_tir.tirgen.dataset import attempts_of, is_tirgen_file

TIRGEN = "TIRGen"
"""Name of the reading of its own data set."""


@dataclass(frozen=True, kw_only=True)
class SftSource:
    """A data set and how it is read."""

    data: str
    """File, folder, or set of the hub; the name of the records where those are given."""
    records: Sequence[Mapping[str, Any]] = ()
    """Conversations that are in memory already."""
    fields: ChatFields = field(default_factory=ChatFields)
    """Columns, where it is not TIRGen's."""
    chats: ChatConfig = field(default_factory=ChatConfig)
    """Spelling of its conversations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftRows:
    """Rows of a data set, and what became of each of its samples."""

    rows: tuple[TrainingSample, ...]
    """Rows to be trained, before any is left out for its length."""
    num_samples: int
    """Samples of the data set."""
    encoded_anew: int
    """Samples of TIRGen's whose tokens are another model's."""
    readings: Mapping[str, int]
    """Samples that were read, by their reading."""
    unusable: Mapping[str, int]
    """Samples that were left out, by the reason."""
    notes: Mapping[str, int]
    """Samples with something unusual, by what it is."""
    origin: str = ""
    """Clause about the files or the split that they come from; empty for one whole file."""

    def lines(self, source: str, model: str) -> Iterator[str]:
        """Sentences for a person."""
        if self.encoded_anew:
            yield (
                f"{self.encoded_anew} of {self.num_samples} samples are not in {model}'s own tokens: their text is "
                "encoded anew"
            )
        if set(self.readings) != {TIRGEN}:
            origin = f"{self.origin}, " if self.origin else ""
            yield f"{source}: {origin}{self.num_samples:,} samples, read from {_counted(self.readings)}"
        for note, count in self.notes.items():
            yield f"{count:,} of {self.num_samples:,} samples {note}"
        if self.unusable:
            yield (
                f"{sum(self.unusable.values()):,} of {self.num_samples:,} samples are left out: "
                f"{_counted(self.unusable)}"
            )


def data_place(spec: str) -> DataPlace:
    """The place of a data set for the cold start. Raises UsageError where there is none."""
    try:
        place = place_of(spec)
    except UsageError:
        raise UsageError(
            f"no data set at {spec!r}: `thor tirgen` writes one, and conversations come as a file or folder of JSONL, "
            "JSON, CSV or Parquet, or as a set of the hub such as AI-MO/NuminaMath-TIR"
        ) from None
    if place.is_source:
        raise UsageError(f"{spec!r} gives problems, which hold no answers to be learnt")
    return place


def sft_inputs(spec: str) -> list[str]:
    """The file or folder of a data set, for the record of a run."""
    place = data_place(spec)
    return [place.name] if place.is_local else []


def read_sft_rows(source: SftSource, dialect: Dialect, *, trains_observations: bool) -> SftRows:
    """The rows of a data set. Raises UsageError where none can be trained on, and for a damaged file."""
    place = None if source.records else data_place(source.data)
    if place is not None and place.is_local and is_tirgen_file(Path(place.name)):
        found = _tirgen_rows(Path(place.name), dialect, trains_observations)
    else:
        origin, rows = rows_at(place) if place is not None else ("", enumerate(source.records))
        found = replace(_chat_rows(source, rows, dialect, trains_observations), origin=origin)
    if not found.rows:
        reasons = f" ({_counted(found.unusable)})" if found.unusable else ""
        raise UsageError(f"{source.data} holds nothing to train on in its {found.num_samples:,} samples{reasons}")
    return found


def _tirgen_rows(path: Path, dialect: Dialect, trains_observations: bool) -> SftRows:
    rows: list[TrainingSample] = []
    anew = 0
    for attempt in attempts_of(path):
        ours = spelled_for(attempt.trajectory, dialect)
        anew += ours is not attempt.trajectory
        prompt = dialect.prompt(attempt.problem.question, attempt.problem.system)
        rows.append(sft_row(ours, prompt=prompt, trains_observations=trains_observations))
    return SftRows(
        rows=tuple(rows),
        num_samples=len(rows),
        encoded_anew=anew,
        readings={TIRGEN: len(rows)},
        unusable={},
        notes={},
    )


def _chat_rows(
    source: SftSource, numbered: Iterable[tuple[object, Mapping[str, Any]]], dialect: Dialect, trains_observations: bool
) -> SftRows:
    rows: list[TrainingSample] = []
    readings: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    number = 0
    for number, (_, row) in enumerate(numbered, 1):
        try:
            chat = read_chat(row, source.fields)
            found = chat_rows(chat, dialect, source.chats, id=str(number), trains_observations=trains_observations)
        except Unusable as reason:
            unusable[str(reason)] += 1
            continue
        rows += found.rows
        readings[found.reading] += 1
        notes.update(found.notes)
    by_count = [dict(counts.most_common()) for counts in (readings, unusable, notes)]
    return SftRows(
        rows=tuple(rows),
        num_samples=number,
        encoded_anew=0,
        readings=by_count[0],
        unusable=by_count[1],
        notes=by_count[2],
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())
