"""Publish a data set: the forms of `tirgen/publish/export.py` in one folder that others can load as it is."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from thor_tir.app.runtime import dialect_of
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_tokenizer
from thor_tir.errors import UsageError
from thor_tir.sft.examples import sft_row, spelled_for
from thor_tir.storage.journal import line_of, writing_atomically
from thor_tir.tirgen.dataset import attempts_of, rows_of
from thor_tir.tirgen.publish.export import message_row, table_row, token_row, turn_row, write_parquet

ExportForm = Literal["parquet", "messages", "turns", "tokens"]


def export(
    dataset: Path, folder: Path, forms: Sequence[ExportForm], *, model: str, reasoning: bool = False
) -> list[Path]:
    """Write the data set in some forms and return their files. Raises UsageError for a damaged or empty data set.

    `model` names the tokenizer that tokens are asked of; its prompt takes the place of the one TIRGen used.
    """
    if next(rows_of(dataset), None) is None:
        raise UsageError(f"{dataset} holds no samples; funnel.json beside it tells which stage dropped them")
    written = []
    for form in forms:
        if form == "parquet":
            path = folder / "data" / "train.parquet"
            write_parquet(path, map(table_row, rows_of(dataset)))
        else:
            path = folder / f"{form}.jsonl"
            with writing_atomically(path) as out:
                for row in _lines(form, dataset, model, reasoning):
                    out.write(line_of(row))
        written.append(path)
    return written


def _lines(form: ExportForm, dataset: Path, model: str, reasoning: bool) -> Iterator[dict[str, Any]]:
    if form != "tokens":
        yield from map(message_row if form == "messages" else turn_row, rows_of(dataset))
        return
    dialect = dialect_of(load_tokenizer(model), TOOLS, reasoning=reasoning)
    for attempt in attempts_of(dataset):
        whole = spelled_for(attempt.trajectory, dialect)
        yield token_row(sft_row(whole, prompt=dialect.prompt(attempt.problem.question)))
