"""Questions about units: chats in which the tool is called, now and then wrongly first, and problems."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

FACTORS = {
    ("km", "m"): 1000,
    ("m", "cm"): 100,
    ("cm", "mm"): 10,
    ("m", "mm"): 1000,
    ("t", "kg"): 1000,
    ("kg", "g"): 1000,
}
SLIPS = {"km": "kilometre", "m": "metre", "cm": "centimetre", "t": "tonne", "kg": "kilo"}
SLIP_SHARE = 0.25
NUM_CHATS, NUM_TRAIN, NUM_TEST = 300, 300, 100

Row = tuple[str, int, str, str]


def write_files(folder: Path) -> None:
    """Write chats.jsonl, train.jsonl and test.jsonl, which share no question."""
    rng = Random(0)
    rows = list(_rows(rng, NUM_CHATS + NUM_TRAIN + NUM_TEST))
    chats, rest = rows[:NUM_CHATS], rows[NUM_CHATS:]
    _write(folder / "chats.jsonl", ({"messages": list(_chat(row, is_slip=rng.random() < SLIP_SHARE))} for row in chats))
    for name, part in (("train", rest[:NUM_TRAIN]), ("test", rest[NUM_TRAIN:])):
        _write(folder / f"{name}.jsonl", ({"question": row[0], "answer": _answer(row)} for row in part))


def _rows(rng: Random, count: int) -> Iterator[Row]:
    seen: set[str] = set()
    while len(seen) < count:
        (of, to), value = rng.choice(list(FACTORS)), rng.randint(2, 999)
        question = rng.choice((f"Convert {value} {of} to {to}.", f"What is {value} {of} in {to}?"))
        if question not in seen:
            seen.add(question)
            yield question, value, of, to


def _chat(row: Row, *, is_slip: bool) -> Iterator[dict[str, object]]:
    question, value, of, to = row
    yield {"role": "user", "content": question}
    words = f"We convert {value} {of}.\n"
    if is_slip:
        fault = f'BadArguments: units: \'of\' must be one of "mm", "cm", "m", found "{SLIPS[of]}"'
        yield _call(words, value, SLIPS[of], to)
        yield {"role": "tool", "content": fault}
        words = "Again.\n"
    yield _call(words, value, of, to)
    yield {"role": "tool", "content": _answer(row)}
    yield {"role": "assistant", "content": f"The answer is \\boxed{{{_answer(row)}}}."}


def _call(words: str, value: int, of: str, to: str) -> dict[str, object]:
    function = {"name": "units", "arguments": {"value": value, "of": of, "to": to}}
    return {"role": "assistant", "content": words, "tool_calls": [{"type": "function", "function": function}]}


def _answer(row: Row) -> str:
    _, value, of, to = row
    return str(value * FACTORS[of, to])


def _write(path: Path, rows: Iterator[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
