"""What public reports met in evaluations of a model behind an address, through the real command."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from endpoint_server import Asked, Server, completion, says, serving
from field_cases import field_cases

TWO = [
    {"question": "What is 20 minus 3, first of two?", "answer": "17"},
    {"question": "What is 20 minus 3, second of two?", "answer": "17"},
]


async def evaluated(turns: dict[str, tuple[str, str]], problems: list[dict[str, str]], folder: Path) -> dict[str, Any]:
    """The only set of results.json, where a question is answered by its first turn, and by its second after output."""
    path = folder / "two.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        text = json.dumps(asked.body)
        first, then = next((both for words, both in turns.items() if words in text), ("four", "four"))
        await says(completion(then if "```output\\n" in text else first, stop_reason=None))(asked, writer)

    async with serving() as server:
        server: Server
        server.usual = answer
        words = ["eval", "--model", server.address, "--problems", str(path), "--num-problems", "2", "--samples", "1"]
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "thor_tir", *words, "--output", str(folder / "run"), stdout=asyncio.subprocess.DEVNULL
        )
        assert await running.wait() == 0
    (entry,) = json.loads((folder / "run" / "results.json").read_text())["sets"]
    return entry


@pytest.mark.parametrize("row", [param for param in field_cases("data") if not param.id.startswith("rows")])
def test_references_as_they_are_published_are_read_by_an_evaluation(row: dict[str, Any], tmp_path: Path) -> None:
    assert row["expected"] == "100 %"
    problem = {key: row["input"][key] for key in ("question", "answer")}
    entry = asyncio.run(evaluated({problem["question"]: (r"So it is \boxed{17}.", "")}, [problem], tmp_path))
    assert (entry["avg"]["value"], entry["n_scored"]) == (1.0, 1)


@pytest.mark.parametrize(
    "row", [param for param in field_cases("sandbox+evaluation") if not param.id.endswith("mixed")]
)
def test_programs_of_heavy_libraries_do_not_cost_attempts(row: dict[str, Any], tmp_path: Path) -> None:
    assert row["expected"] == "2 attempts, 100 %"
    turns = (row["input"]["model_turn"], row["input"]["then"])
    entry = asyncio.run(evaluated({problem["question"]: turns for problem in TWO}, TWO, tmp_path))
    assert (entry["attempts"], entry["avg"]["value"], entry["call_success"]["value"]) == (2, 1.0, 1.0)
    assert entry["lost"] == {"asked": 2, "machine": {}, "unscored": 0, "no_room": 0}


@pytest.mark.parametrize("row", [param for param in field_cases("sandbox+evaluation") if not param.id.endswith("all")])
def test_one_heavy_program_among_others_is_counted_like_them(row: dict[str, Any], tmp_path: Path) -> None:
    assert row["expected"] == "n 2, accuracy 50 %"
    first, (program, _, then) = row["input"]["problem_1_turn"], row["input"]["problem_2_turn"].partition(" then ")
    turns = {TWO[0]["question"]: (first, first), TWO[1]["question"]: (program, then)}
    entry = asyncio.run(evaluated(turns, TWO, tmp_path))
    assert (entry["n"], entry["n_scored"], entry["avg"]["value"]) == (2, 2, 0.5)
    assert entry["lost"]["machine"] == {}
