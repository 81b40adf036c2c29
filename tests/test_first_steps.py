"""The notebook of first steps: it is kept without outputs, and runs from its first cell to its last."""

import ast
import asyncio
import inspect
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_steps.ipynb"


def code() -> Iterator[str]:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            yield "".join(cell["source"])


def test_it_is_kept_without_outputs_and_every_cell_is_python_of_ours() -> None:
    cells = list(code())
    assert len(cells) >= 10
    for cell in cells:
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("thor_tir"):
                module = __import__(str(node.module), fromlist=["x"])
                assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.slow  # 11 s of processor time: two trainings, four times a model, an interpreter of its own
def test_it_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answers = by_jupyter(tmp_path) if find_spec("nbclient") and find_spec("ipykernel") else by_hand()
    assert answers.count("84") >= 1, answers
    assert (tmp_path / "runs" / "first_steps" / "rl" / "model" / "model.safetensors").is_file()


def by_jupyter(folder: Path) -> list[str]:
    """The answers of the last cell, from the kernel that people have."""
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, 4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("find their greatest" in output.get("data", {}).get("text/html", "") for output in outputs)
    last = next(o for o in reversed(outputs) if o.output_type == "execute_result")
    answers: list[str] = ast.literal_eval(last["data"]["text/plain"])
    return answers


def by_hand() -> list[str]:
    """The same without a kernel: each cell within a running event loop, where it may await."""
    import matplotlib as mpl

    mpl.use("agg")
    names: dict[str, Any] = {}

    async def run() -> None:
        for cell in code():
            done = eval(compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if inspect.isawaitable(done):
                await done

    asyncio.run(run())
    answers: list[str] = names["again"].answers
    return answers
