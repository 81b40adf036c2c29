"""`thor eval` against a server whose model writes programs with heavy libraries: every attempt counts."""

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


def evaluated(model: Model, folder: Path) -> dict[str, Any]:
    """The results of the command's one set."""
    problems = folder / "two.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS), encoding="utf-8")
    options = ["--problems", str(problems), "--num-problems", "2", "--samples", "1", "--output", str(folder / "out")]
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


@pytest.mark.parametrize("case", field_cases("sandbox+evaluation"))
def test_no_attempt_with_a_heavy_library_is_lost(case: dict[str, Any], tmp_path: Path) -> None:
    model, accuracy = script_of(case)
    results = evaluated(model, tmp_path)
    assert (results["avg"]["value"], results["attempts"], results["lost"]["machine"]) == (accuracy, 2, {})


PROGRAMS = [
    "import scipy.stats as st\nprint(round(st.norm.ppf(0.5)) + 17)",
    "import networkx as nx\nprint(nx.cycle_graph(17).number_of_edges())",
    "import pandas as pd\nprint(pd.Series([8, 9]).sum())",
    "import asyncio\nasync def m():\n    return 17\nprint(asyncio.run(m()))",
    "from multiprocessing.pool import ThreadPool\nprint(sum(ThreadPool(2).map(int, '89')))",
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_of_other_kinds_are_run_and_read_too(program: str, tmp_path: Path) -> None:
    turn = f"```python\n{program}\n```\n"
    written = (program, json.dumps(program)[1:-1])  # as text, and within the JSON of a conversation
    results = evaluated(lambda prompt: "\\boxed{17}" if any(one in prompt for one in written) else turn, tmp_path)
    assert (results["avg"]["value"], results["attempts"]) == (1.0, 2)
    assert results["call_success"]["value"] == 1.0
