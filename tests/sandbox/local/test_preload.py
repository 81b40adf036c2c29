"""Libraries that templates import for programs: each is run for real, and one that cannot be preloaded is named."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from borrowed_environment import environment_that_borrows
from thor_tir.errors import SandboxUnavailable
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.batch import BlockingSandbox
from thor_tir.sandbox.jail.wire import LastWords, find_last_words
from thor_tir.sandbox.local.preload import HEAVY, LEAN
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits

PATIENT = Limits(timeout_s=30.0)
PROGRAMS = [
    ("import numpy as np\nprint(np.arange(5).sum())", "10"),
    ("import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x**2 - 4, x))", "[-2, 2]"),
    ("from mpmath import mp\nprint(mp.nstr(mp.pi, 5))", "3.1416"),
    ("from scipy.optimize import brentq\nprint(round(brentq(lambda v: v * v - 3, 0, 3), 6))", "1.732051"),
    ("import scipy.stats as st\nprint(round(st.norm.cdf(0), 3))", "0.5"),
    (
        "from scipy import special, linalg\nprint(special.comb(6, 2, exact=True), linalg.det([[2, 0], [0, 3]]))",
        "15 6.0",
    ),
    ("from scipy.integrate import quad\nprint(round(quad(lambda v: v, 0, 2)[0], 6))", "2.0"),
    ("import scipy.sparse as sp\nprint(sp.eye(3).nnz)", "3"),
    ("from scipy.interpolate import interp1d\nprint(float(interp1d([0, 1], [0, 4])(0.5)))", "2.0"),
    ("from scipy.spatial import ConvexHull\nprint(ConvexHull([[0, 0], [1, 0], [0, 1], [0.1, 0.1]]).volume)", "0.5"),
    ("import scipy.signal\nprint(scipy.signal.convolve([1, 2], [1, 1]).tolist())", "[1, 3, 2]"),
    ("import networkx as nx\nprint(nx.shortest_path_length(nx.cycle_graph(7), 0, 4))", "3"),
    ("import networkx as nx\nprint(nx.to_numpy_array(nx.path_graph(3)).sum())", "4.0"),
    ("import pandas as pd\nprint(pd.Series([1, 2]).sum())", "3"),
    (
        "import pandas as pd\nd = pd.DataFrame({'a': list('xyx'), 'b': [1, 2, 3]})\nprint([*d.groupby('a').b.sum()])",
        "[4, 2]",
    ),
    ("import io, pandas as pd\nprint(pd.read_csv(io.StringIO('n,m\\n1,2\\n3,4')).m.mean())", "3.0"),
    ("import pyarrow as pa\nprint(pa.array([1, 2, 3]).sum())", "6"),
    ("def f():\n    import scipy.special as s, numpy\n    return int(s.comb(5, 2))\nprint(f())", "10"),
    ("try:\n    import pandas\nexcept ImportError:\n    pass\nprint(7)", "7"),
    ("import importlib\nprint(importlib.import_module('scipy.special').comb(6, 2, exact=True))", "15"),
    *((f"import {name}\nprint({name.partition('.')[0]}.__name__)", name.partition(".")[0]) for name in (*LEAN, *HEAVY)),
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BlockingSandbox]:
    inner = LocalSandbox(LocalSandboxConfig(workers=1))
    with BlockingSandbox(inner) as sandbox:
        yield sandbox
    assert inner.left_out == ()  # of what is preloaded by default nothing starts a thread here


@pytest.mark.parametrize(("code", "printed"), PROGRAMS, ids=[code.splitlines()[0] for code, _ in PROGRAMS])
def test_programs_that_import_what_is_preloaded_run(sandbox: BlockingSandbox, code: str, printed: str) -> None:
    result = sandbox.run(code, PATIENT)
    if result.error == "ModuleNotFoundError":
        pytest.skip(result.stderr.splitlines()[-1])
    assert (result.status, result.stdout, result.runs) == (Status.OK, f"{printed}\n", 1), result.stderr


THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=({seconds},), daemon=True).start()
NAME = {name!r}
"""
MODULES = {
    "busy": THREAD.format(seconds=600, name="busy"),
    "busier": "import busy\n" + THREAD.format(seconds=600, name="busier"),
    "busiest": THREAD.format(seconds=600, name="busiest") + "\nraise RuntimeError('not today')",
    "brief": THREAD.format(seconds=0.01, name="brief"),
    "broken": "raise RuntimeError('built against another numpy')",
    "quits": "raise SystemExit(4)",
    "crashes": "import os\nif os.getpid() == 1: os.abort()\nNAME = 'crashes'",
    "aborts": "import os\nos.abort()",
    "closes": "import os\nos.closerange(3, 64)\nNAME = 'closes'",
}


def with_modules(
    folder: Path, programs: list[str], *, lean: tuple[str, ...] = ("math",), heavy: tuple[str, ...] = ("lent",)
) -> tuple[list[ExecutionResult], tuple[str, ...]]:
    """Results of programs where these modules are preloaded, and what was left out."""
    python = environment_that_borrows(folder, **MODULES)

    async def runs() -> tuple[list[ExecutionResult], tuple[str, ...]]:
        config = LocalSandboxConfig(workers=1, python=str(python), modules=lean, heavy_modules=heavy, limits=PATIENT)
        async with LocalSandbox(config) as sandbox:
            if sandbox.level != "full":
                pytest.skip(f"this host offers less than the level full: {sandbox.missing}")
            return [await sandbox.run(code) for code in programs], sandbox.left_out

    return asyncio.run(runs())


SAYS = "import {0}\nprint({0}.NAME)"


@pytest.mark.parametrize(
    ("lean", "heavy", "left_out"),
    [
        (("math",), ("lent", "busy"), ("busy",)),
        (("math",), ("busy", "lent"), ("busy",)),
        (("math",), ("busy",), ("busy",)),
        (("math", "busy"), ("lent",), ("busy",)),
        (("busy",), ("busier", "lent"), ("busier", "busy")),
        (("math",), ("busy", "busier", "busiest", "brief"), ("busier", "busiest", "busy")),
        (("math",), ("brief", "lent"), ()),
        (("broken",), ("quits", "lent"), ()),
    ],
)
def test_a_module_that_starts_a_thread_is_left_out_and_named_and_programs_import_it_themselves(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    lean: tuple[str, ...],
    heavy: tuple[str, ...],
    left_out: tuple[str, ...],
) -> None:
    programs = [SAYS.format(name) for name in ("busy", "lent", "brief")]
    with caplog.at_level(logging.WARNING):
        results, named = with_modules(tmp_path, programs, lean=lean, heavy=heavy)
    assert [(result.stdout, result.runs) for result in results] == [("busy\n", 1), ("lent\n", 1), ("brief\n", 1)]
    assert named == left_out
    warned = " ".join(record.getMessage() for record in caplog.records)
    assert all(name in warned for name in left_out)
    assert bool(left_out) == ("started a thread at import" in warned)


@pytest.mark.parametrize("heavy", [("crashes",), ("lent", "crashes"), ("closes",)])
def test_a_heavy_template_that_cannot_start_falls_back_to_the_lean_one_and_is_not_tried_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, heavy: tuple[str, ...]
) -> None:
    with caplog.at_level(logging.WARNING):
        results, _ = with_modules(tmp_path, [f"import {heavy[0]}\nprint({i})" for i in range(4)], heavy=heavy)
    assert [(result.stdout, result.runs) for result in results] == [(f"{i}\n", 1) for i in range(4)]
    warned = [record.getMessage() for record in caplog.records if "cannot be started" in record.getMessage()]
    assert len(warned) == 2
    assert heavy[0] in warned[0]


def test_the_templates_own_words_come_first_when_no_template_can_be_started(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r": the template process ended with signal SIGABRT \("):
        with_modules(tmp_path, [], lean=("aborts",))


def test_last_words_are_found_among_what_libraries_write() -> None:
    written = [
        '{"last_words": 1}',
        "a warning",
        '{"last_words": {"reason": "why", "layer": "", "threads": ["pandas"]}}',
    ]
    assert find_last_words([*written, "Traceback", "[" * 10_000]) == LastWords(reason="why", threads=("pandas",))
    assert find_last_words(["Traceback", "OSError"]) is None
