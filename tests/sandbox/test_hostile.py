"""Programs that mean harm, at every level: each is contained, and the next program finds a pristine world."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import thor_tir
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.local import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits

CASES = Path(__file__).parents[3] / "shared" / "data" / "sandbox" / "hostile.jsonl"
OUTER_S = 60.0
FOUND_AS = {
    Status.OK: "ok",
    Status.OK_NO_OUTPUT: "ok",
    Status.SYNTAX: "error",
    Status.RUNTIME: "error",
    Status.DENIED: "error",
    Status.TIMEOUT: "timeout",
    Status.MEMORY: "memory",
    Status.OUTPUT_LIMIT: "output_truncated",
}
BY_DESIGN_AT_LANDLOCK = {"fs-deep"}
"""Want a working folder, which only level `full` has."""
CONTROL = """
import builtins, math, os, random, sys, numpy, sympy
assert print is builtins.print and math.sqrt(16) == 4 and sum([1, 2]) == 3 and len("ab") == 2
assert sympy.sqrt(16) == 4 and numpy.add(1, 2) == 3 and sorted(os.environ) == NAMES
assert "main" not in sys.modules and sys.argv == ["main.py"]
print(random.random(), sorted(os.listdir(".")) if HAS_FOLDER else "", sympy.factorint(1234567890))
"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A sandbox of one worker, on an event loop of its own."""

    runner: asyncio.Runner
    sandbox: LocalSandbox

    def run(self, code: str, limits: Limits | None = None) -> ExecutionResult:
        return self.runner.run(asyncio.wait_for(self.sandbox.run(code, limits), OUTER_S))

    def control(self) -> str:
        names = ["HOME", "LANG", "LC_CTYPE", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH"]
        names += ["PYTHONHASHSEED", "PYTHONUTF8", "TMPDIR"]
        seen = json.loads(self.run("import json, os; print(json.dumps(sorted(os.environ)))").stdout)
        assert set(seen) <= set(names)
        result = self.run(f"NAMES = {seen}\nHAS_FOLDER = {self.sandbox.level == 'full'}\n{CONTROL}")
        assert result.status is Status.OK, result.stderr
        return result.stdout

    def world(self) -> tuple[int, int]:
        """Descriptors and mounts of this process."""
        return len(os.listdir("/proc/self/fd")), Path("/proc/self/mounts").read_text().count("\n")


def descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return children + [each for child in children for each in descendants(child)]


@pytest.fixture(scope="module", params=["full", "landlock"])
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    limits = Limits(timeout_s=1.0, memory_bytes=512 * 2**20)
    config = LocalSandboxConfig(workers=1, strongest=request.param, least="landlock", limits=limits)
    with asyncio.Runner() as runner:
        sandbox = runner.run(LocalSandbox(config).__aenter__())
        if sandbox.level != request.param:
            runner.run(sandbox.close())
            pytest.skip(f"this host does not offer {request.param}: {sandbox.missing}")
        yield Cell(runner=runner, sandbox=sandbox)
        runner.run(sandbox.close())


def given_cases() -> list[Any]:
    if not CASES.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{CASES} is not here"))]
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    return [pytest.param(row, id=row["id"]) for row in rows]


@pytest.mark.parametrize("case", given_cases())
def test_every_hostile_program_is_contained_and_the_next_one_finds_a_pristine_world(cell: Cell, case: Any) -> None:
    before, first = cell.world(), cell.control()
    seconds = 0.7 if case["expect"] == "timeout" else 5.0
    result = cell.run(case["code"], Limits(timeout_s=seconds))
    found = FOUND_AS[result.status]
    assert "ESCAPED" not in result.stdout
    if case["id"] in BY_DESIGN_AT_LANDLOCK and cell.sandbox.level == "landlock":
        assert found == "error"
    elif case["expect"] == "blocked":
        assert found in ("ok", "error"), (result.status, result.error)
    else:
        assert found == case["expect"], (result.status, result.error, result.stderr[-300:])
    assert result.runs == 1  # no program can bring its worker down
    assert cell.control() == first
    assert cell.world() == before
    assert len(descendants(os.getpid())) <= 3  # the launcher, its template, and the child that waits


OWN_CASES = {
    "every descriptor is closed but three": (
        "import os\nopen_ones = []\nfor d in range(4096):\n    try: os.fstat(d); open_ones.append(d)\n"
        "    except OSError: pass\nprint('held' if open_ones == [0, 1, 2] else open_ones)"
    ),
    "the worker survives os._exit replaced": "import os\nos._exit = lambda code: None\nprint('held')",
    "the next request cannot be read": (
        "import gc, socket\nprint('held' if not [o for o in gc.get_objects() if isinstance(o, socket.socket) "
        "and o.fileno() >= 0] else '')"
    ),
    "io_uring is not there": "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(425, 1, 0) == -1 else '')",
    "userfaultfd is not there": "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(323, 0) == -1 else '')",
    "memfd_create is not there": ("import os\ntry: os.memfd_create('x')\nexcept OSError: print('held')"),
    "a raw vfork is refused": "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(58) == -1 else '')",
    "clone into a new namespace is refused": (
        "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(56, 0x10000000, 0, 0, 0, 0) == -1 else '')"
    ),
    "clone with a thread's flag and a namespace is refused by the kernel": (
        "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(56, 0x10010000, 0, 0, 0, 0) == -1 else '')"
    ),
    "execve is refused": "import os\ntry: os.execv('/usr/bin/true', ['true'])\nexcept OSError: print('held')",
    "setsid and setpgid change nobody": "import os\ntry: os.setsid()\nexcept OSError: print('held')",
    "the affinity and priority of others stay": (
        "import os\ntry: os.sched_setaffinity(os.getppid(), {0})\nexcept OSError: print('held')"
    ),
    "limits of others stay": (
        "import resource, os\ntry: resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4))\nexcept OSError: print('held')"
    ),
    "unix sockets are refused": ("import socket\ntry: socket.socketpair()\nexcept OSError: print('held')"),
    "a device cannot be made": (
        "import os\ntry: os.mknod('d', 0o020666, os.makedev(1, 1))\nexcept OSError: print('held')"
    ),
    "the interpreter's own files cannot be changed": (
        "import os, random\ntry: open(random.__file__, 'a')\nexcept OSError:\n"
        "    try: os.unlink(random.__file__)\n    except OSError: print('held')"
    ),
    "the kernel's log, keys and clock are not there": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "got = {libc.syscall(103, 2, 0, 0), libc.syscall(250, 0, 0), libc.syscall(227, 0, 0)}\n"
        "print('held' if got == {-1} else '')"
    ),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are those of x86-64")
@pytest.mark.parametrize("name", OWN_CASES)
def test_a_door_is_closed(cell: Cell, name: str) -> None:
    result = cell.run(OWN_CASES[name])
    assert result.stdout == "held\n", result
    assert cell.control()


@pytest.mark.slow
def test_a_plain_user_is_as_safe_as_root() -> None:
    if os.geteuid() != 0 or not CASES.exists():
        pytest.skip("needs root, to become another user, and the hostile cases")
    script = f"""
        import asyncio, json
        from thor_tir.sandbox.batch import run_batch
        from thor_tir.sandbox.local import LocalSandbox, LocalSandboxConfig
        from thor_tir.sandbox.protocol import Limits, Snippet

        async def main():
            rows = [json.loads(line) for line in open({str(CASES)!r}, encoding="utf-8")]
            async with LocalSandbox(LocalSandboxConfig(workers=2, limits=Limits(timeout_s=2.0))) as sandbox:
                results = await run_batch(sandbox, [Snippet(code=row["code"]) for row in rows], concurrency=2)
            print(json.dumps([sandbox.level, [[r.status, "ESCAPED" in r.stdout, r.runs] for r in results]]))

        asyncio.run(main())
    """
    drop = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    environment = {"PYTHONPATH": str(Path(thor_tir.__file__).parents[1]), "PATH": os.environ["PATH"]}
    finished = subprocess.run(
        [*drop, sys.executable, "-B", "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if "failed to execute" in finished.stderr:
        pytest.skip("the interpreter lies where another user cannot read it")
    assert finished.returncode == 0, finished.stderr
    level, seen = json.loads(finished.stdout)
    assert level == "full"
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    for row, (status, escaped, runs) in zip(rows, seen, strict=True):
        allowed = ("ok", "error") if row["expect"] == "blocked" else (row["expect"],)
        assert (FOUND_AS[Status(status)] in allowed, escaped, runs) == (True, False, 1), row["id"]
