"""`thor eval` against a server: references as they are published, and programs that cost no attempt."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from endpoint_server import Asked, Behaviour, completion, says, serving
from field_cases import field_cases
from thor_tir import cli

PROBLEMS = [
    {"id": "own/1", "question": "First: what is 20 minus 3?", "answer": "17", "source": "own"},
    {"id": "own/2", "question": "Second: what is 3 less than 20?", "answer": "17", "source": "own"},
]


@pytest.fixture
def light_templates() -> None:
    """The templates are those of people: these tests are about programs of large libraries."""


Model = Callable[[str], str]
"""The model's next words after a prompt."""


def answers(model: Model) -> Behaviour:
    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        prompt = asked.body.get("prompt") or json.dumps(asked.body.get("messages"))
        await says(completion(model(str(prompt)), stop_reason=None))(asked, writer)

    return behave


@contextmanager
def served(model: Model) -> Iterator[str]:
    """The address of a server with this model, in a thread of its own."""
    loop, address, done = asyncio.new_event_loop(), [""], threading.Event()
    ready = threading.Event()

    async def serve() -> None:
        async with serving(usual=answers(model)) as server:
            address[0] = server.address
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield address[0]
    finally:
        done.set()
        thread.join(20)
        loop.close()


def evaluated(model: Model, rows: list[dict[str, str]], folder: Path) -> dict[str, Any]:
    """The results of the command's one set."""
    problems = folder / "rows.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ["--problems", str(problems), "--num-problems", str(len(rows)), "--samples", "1"]
    options += ["--output", str(folder / "out")]
    with served(model) as address, pytest.raises(SystemExit) as ended:
        cli.main(["eval", "--model", address, *options])
    assert ended.value.code == 0
    [results] = json.loads((folder / "out" / "results.json").read_text(encoding="utf-8"))["sets"]
    return cast("dict[str, Any]", results)


def script_of(case: dict[str, Any]) -> tuple[Model, float]:
    """The model of a case, and the accuracy that it must be given."""
    turns = case["input"]
    if case["id"] == "heavy-eval-all":
        return lambda prompt: turns["then"] if turns["model_turn"].strip() in prompt else turns["model_turn"], 1.0
    first, program, then = turns["problem_1_turn"], *turns["problem_2_turn"].split("\n then ")
    return lambda prompt: first if "First:" in prompt else then if program in prompt else program + "\n", 0.5


@pytest.mark.parametrize("case", [case for case in field_cases("data") if not str(case.id).startswith("rows")])
def test_references_as_they_are_published_are_read(case: dict[str, Any], tmp_path: Path) -> None:
    assert case["expected"] == "100 %"
    problem = {key: case["input"][key] for key in ("question", "answer")}
    results = evaluated(lambda _prompt: r"So it is \boxed{17}.", [problem], tmp_path)
    assert (results["avg"]["value"], results["n_scored"]) == (1.0, 1)


@pytest.mark.parametrize("case", field_cases("sandbox+evaluation"))
def test_no_attempt_with_a_heavy_library_is_lost(case: dict[str, Any], tmp_path: Path) -> None:
    model, accuracy = script_of(case)
    results = evaluated(model, PROBLEMS, tmp_path)
    assert (results["avg"]["value"], results["attempts"], results["n_scored"]) == (accuracy, 2, 2)
    assert results["lost"] == {"asked": 2, "machine": {}, "unscored": 0, "no_room": 0}


PROGRAMS = [
    "import scipy.stats as st\nprint(round(st.norm.ppf(0.5)) + 17)",
    "import networkx as nx\nprint(nx.cycle_graph(17).number_of_edges())",
    "import pandas as pd\nprint(pd.Series([8, 9]).sum())",
    "import asyncio\nasync def m():\n    return 17\nprint(asyncio.run(m()))",
    "from multiprocessing.pool import ThreadPool\nprint(sum(ThreadPool(2).map(int, '89')))",
]


def test_programs_of_other_kinds_are_run_and_read_too(tmp_path: Path) -> None:
    rows = [{"question": f"Number {n}: what is 20 minus 3?", "answer": "17"} for n in range(len(PROGRAMS))]

    def model(prompt: str) -> str:
        program = next((program for n, program in enumerate(PROGRAMS) if f"Number {n}:" in prompt), "")
        is_run = program in prompt or json.dumps(program)[1:-1] in prompt  # as text, or within JSON of a conversation
        return "\\boxed{17}" if is_run else f"```python\n{program}\n```\n"

    results = evaluated(model, rows, tmp_path)
    assert (results["avg"]["value"], results["attempts"]) == (1.0, len(PROGRAMS))
    assert results["call_success"]["value"] == 1.0
