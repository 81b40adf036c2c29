"""A data set in the forms that other trainers read. Each is made from a row of `dataset.jsonl` alone.

| form | for | what the loss covers |
|---|---|---|
| messages | TRL's SFTTrainer, ms-swift, most others | the whole answer, outputs included (as in the paper's Eq. 3) |
| turns | ms-swift, and templates that know a tool's turn | the assistant's turns; outputs are turns of the tool |
| tokens | TRL's SFTTrainer, with the same tokenizer | exactly what `thor sft` trains: labels are -100 elsewhere |
| parquet | `datasets.load_dataset` | as messages; a table with segments besides |

Chats stand there twice: whole as `messages`, and as `prompt` and `completion`, by which TRL leaves the question out.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from thor_tir.dialect.fences import fenced
from thor_tir.dialect.observation import frame
from thor_tir.dialect.prompts import TOOLS, PromptStyle, messages
from thor_tir.dialect.tool_calls import written_call
from thor_tir.extras import need
from thor_tir.storage.journal import JsonObject
from thor_tir.tirgen.dataset import CODE, OUTPUT
from thor_tir.trajectory import PYTHON

if TYPE_CHECKING:
    from thor_tir.learner.sample import TrainingSample

ChatMessage = dict[str, str]


class ChatRow(TypedDict):
    """A chat as trainers read it."""

    messages: list[ChatMessage]
    """All turns."""
    prompt: list[ChatMessage]
    """Turns that are asked, which TRL leaves out of the loss where `prompt` and `completion` are there."""
    completion: list[ChatMessage]
    """Turns that are the answer."""


IGNORED = -100
"""The label that cross-entropy leaves out, by PyTorch's and everybody's convention."""
ROWS_AT_ONCE = 1000
"""Rows of a Parquet file's row group, which are in memory together."""


def spelled(segment: Mapping[str, Any], *, is_fenced: bool = True) -> str:
    """The text of a segment as it stands in the context, fences or tags included."""
    text = str(segment["text"])
    if segment["type"] == CODE:
        tool = segment.get("tool", PYTHON)
        return fenced(text, tool) + "\n" if is_fenced else written_call(tool, text)
    return frame(text) if segment["type"] == OUTPUT else text


def message_row(row: Mapping[str, Any], style: PromptStyle = TOOLS, *, is_fenced: bool = True) -> ChatRow:
    """The question as the model will be asked it, and the answer as one turn, or as turns where calls end them."""
    if not is_fenced:
        return turn_row(row, style, is_fenced=False)
    answer = "".join(spelled(segment) for segment in row["segments"])
    return _chat(_asked(row, style), [_turn("assistant", answer)])


def turn_row(row: Mapping[str, Any], style: PromptStyle = TOOLS, *, is_fenced: bool = True) -> ChatRow:
    """The same with a turn of the tool for each output, without the frame that a template would add."""
    turns: list[ChatMessage] = []
    words = ""
    for segment in row["segments"]:
        if segment["type"] == OUTPUT:
            turns += [_turn("assistant", words), _turn("tool", str(segment["text"]))]
            words = ""
        else:
            words += spelled(segment, is_fenced=is_fenced)
    return _chat(_asked(row, style), [*turns, _turn("assistant", words)] if words else turns)


def token_row(row: "TrainingSample") -> dict[str, list[int]]:
    """Ids and labels as the learner would train them."""
    labels = [id if trained else IGNORED for id, trained in zip(row.token_ids, row.trained, strict=True)]
    return {"input_ids": list(row.token_ids), "labels": labels}


def table_row(row: Mapping[str, Any], style: PromptStyle = TOOLS, *, is_fenced: bool = True) -> JsonObject:
    """A flat row of the Parquet table; what has no fixed shape is JSON text."""
    problem, no_tools = row["problem"], row.get("no_tools") or {}
    flat = {
        "id": row["id"],
        "problem_id": problem["id"],
        "question": problem["question"],
        "answer": problem["answer"],
        "source": problem["source"],
        **message_row(row, style, is_fenced=is_fenced),
        "segments": [_flat(segment) for segment in row["segments"]],
        "num_calls": row["num_calls"],
        "num_tokens": row["num_tokens"],
        "no_tools_samples": no_tools.get("samples"),
        "no_tools_right": no_tools.get("right"),
        "solved_share": row.get("solved_share"),
        "seed": row.get("seed"),
        "provenance": row.get("provenance"),
        "extra": json.dumps(problem.get("extra", {}), ensure_ascii=False),
    }
    # Arrow holds UTF-8 alone: half a surrogate pair becomes a question mark.
    whole: JsonObject = json.loads(json.dumps(flat, ensure_ascii=False).encode("utf-8", "replace"))
    return whole


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A Parquet file with one schema whatever the rows hold, written group by group, whole or not at all."""
    need("pyarrow", "a Parquet file")
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    schema = _schema()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with ParquetWriter(draft, schema, compression="zstd") as writer:
            for chunk in _chunks(rows):
                writer.write_table(Table.from_pylist(chunk, schema=schema))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _schema() -> Any:
    import pyarrow as pa

    text, number, share = pa.string(), pa.int64(), pa.float64()
    segment = pa.struct({"type": text, "text": text, "status": text, "seconds": share, "stdout_sha256": text})
    return pa.schema(
        {
            **dict.fromkeys(("id", "problem_id", "question", "answer", "source"), text),
            **dict.fromkeys(("messages", "prompt", "completion"), pa.list_(pa.struct({"role": text, "content": text}))),
            "segments": pa.list_(segment),
            **dict.fromkeys(("num_calls", "num_tokens", "no_tools_samples", "no_tools_right"), number),
            "solved_share": share,
            "seed": number,
            "provenance": text,
            "extra": text,
        }
    )


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    chunk: list[Mapping[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _flat(segment: Mapping[str, Any]) -> JsonObject:
    ended = segment.get("execution") or {}
    return {
        "type": segment["type"],
        "text": segment["text"],
        **{name: ended.get(name) for name in ("status", "seconds", "stdout_sha256")},
    }


def _chat(prompt: list[ChatMessage], completion: list[ChatMessage]) -> ChatRow:
    """A chat, whole and in the two parts by which TRL leaves the question out of the loss."""
    return {"messages": [*prompt, *completion], "prompt": prompt, "completion": completion}


def _asked(row: Mapping[str, Any], style: PromptStyle) -> list[ChatMessage]:
    problem = row["problem"]
    return messages(style, problem["question"], problem.get("system", ""))


def _turn(role: str, content: str) -> ChatMessage:
    return {"role": role, "content": content}
