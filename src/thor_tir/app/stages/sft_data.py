"""The rows of a cold start, from TIRGen's data set or from conversations in other shapes, and an account of them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thor_tir.dialect.dialect import Dialect
from thor_tir.errors import UsageError
from thor_tir.learner.sample import TrainingSample
from thor_tir.problems.rows import read_rows
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

    path: Path
    """Place of it."""
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

    def lines(self, source: Path, model: str) -> Iterator[str]:
        """Sentences for a person."""
        if self.encoded_anew:
            yield (
                f"{self.encoded_anew} of {self.num_samples} samples are not in {model}'s own tokens: their text is "
                "encoded anew"
            )
        if set(self.readings) != {TIRGEN}:
            yield f"{source}: {self.num_samples:,} samples, read from {_counted(self.readings)}"
        for note, count in self.notes.items():
            yield f"{count:,} of {self.num_samples:,} samples {note}"
        if self.unusable:
            yield (
                f"{sum(self.unusable.values()):,} of {self.num_samples:,} samples are left out: "
                f"{_counted(self.unusable)}"
            )


def read_sft_rows(source: SftSource, dialect: Dialect, *, trains_observations: bool) -> SftRows:
    """The rows of a data set. Raises UsageError where none can be trained on, and for a damaged file."""
    if not source.path.exists():
        raise UsageError(f"no data set at {source.path}; `thor tirgen` writes one")
    if is_tirgen_file(source.path):
        found = _tirgen_rows(source.path, dialect, trains_observations)
    else:
        found = _chat_rows(source, dialect, trains_observations)
    if not found.rows:
        reasons = f" ({_counted(found.unusable)})" if found.unusable else ""
        raise UsageError(f"{source.path} holds nothing to train on in its {found.num_samples:,} samples{reasons}")
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


def _chat_rows(source: SftSource, dialect: Dialect, trains_observations: bool) -> SftRows:
    rows: list[TrainingSample] = []
    readings: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    number = 0
    for number, row in enumerate(_rows(source.path), 1):
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


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    return (row for _, row in read_rows(path))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())
