"""Programs that mean harm, at every level: each is contained, and the next program finds a pristine agent."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import thor_tir
from census import Census, after, at_rest
from hostile_doors import DOORS
from hostile_ends import ENDS, Ends
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.batch import run_batch
from thor_tir.sandbox.jail import calls, kernel
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits, Snippet
from thor_tir.sandbox.remote.client import RemoteSandbox, RemoteSandboxConfig
from thor_tir.sandbox.remote.server import ServerConfig, Service, server_of

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
    before: Census
    """What there was when the first program had ended."""

    def run(self, code: str, limits: Limits | None = None) -> ExecutionResult:
        return self.runner.run(asyncio.wait_for(self.sandbox.run(code, limits), OUTER_S))

    def control(self) -> str:
        names = ["HOME", "LANG", "LC_CTYPE", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH"]
        names += ["JE_ARROW_MALLOC_CONF", "PYTHONHASHSEED", "PYTHONUTF8", "TMPDIR"]
        code = "import json, os; print(json.dumps(sorted(os.environ)))"
        seen = json.loads(self.run(code, Limits(timeout_s=OUTER_S / 2)).stdout)
        assert set(seen) <= set(names)
        code = f"NAMES = {seen}\nHAS_FOLDER = {self.sandbox.level == 'full'}\n{CONTROL}"
        result = self.run(code, Limits(timeout_s=OUTER_S / 2))
        assert result.status is Status.OK, result.stderr
        return result.stdout


@pytest.fixture(scope="module", params=["full", "landlock"])
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    limits = Limits(timeout_s=1.0, memory_bytes=512 * 2**20)
    config = LocalSandboxConfig(workers=1, strongest=request.param, least="landlock", limits=limits)
    with asyncio.Runner() as runner:
        sandbox = runner.run(LocalSandbox(config).__aenter__())
        if sandbox.level != request.param:
            runner.run(sandbox.close())
            pytest.skip(f"this host does not offer {request.param}: {sandbox.missing}")
        runner.run(sandbox.run("print(1)"))
        yield Cell(runner=runner, sandbox=sandbox, before=at_rest())
        runner.run(sandbox.close())


def given_cases() -> list[Any]:
    if not CASES.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{CASES} is not here"))]
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    return [pytest.param(row, id=row["id"]) for row in rows]


@pytest.mark.parametrize("case", given_cases())
def test_every_hostile_program_is_contained_and_the_next_one_finds_a_pristine_world(cell: Cell, case: Any) -> None:
    first = cell.control()
    seconds = 0.7 if case["expect"] == "timeout" else 20.0  # of a machine that may be busy
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
    assert cell.before.allows(left := after(cell.before)), (cell.before, left)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are those of x86-64")
@pytest.mark.parametrize("name", DOORS)
def test_a_door_is_closed(cell: Cell, name: str) -> None:
    result = cell.run(DOORS[name])
    assert result.stdout == "held\n", result
    assert cell.control()


@pytest.mark.skipif(os.uname().machine not in kernel.AUDIT_ARCH, reason="system calls of this architecture are unknown")
def test_of_the_kernels_calls_none_works_that_is_not_listed(cell: Cell) -> None:
    listed = {at for table in calls.all_tables() for at in calls.numbers(table, os.uname().machine).values()}
    listed |= {335, 336}  # of x86-64: uretprobe and uprobe, which the kernel lets past filters and answers with SIGILL
    code = (
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlisted = {sorted(listed)}\nanswers = set()\n"
        "for number in range(1024):\n    if number not in listed:\n"
        "        got = libc.syscall(number, 0, 0, 0, 0, 0, 0)\n        answers.add((got, ctypes.get_errno()))\n"
        "print(answers)"
    )
    assert cell.run(code).stdout == f"{{(-1, {errno.EPERM})}}\n"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are those of x86-64")
def test_the_calls_that_pass_every_filter_end_the_program(cell: Cell) -> None:
    for number in (335, 336):
        result = cell.run(f"import ctypes\nprint(ctypes.CDLL(None).syscall({number}, 0, 0, 0, 0, 0, 0))")
        assert (result.error, result.stdout) in {("SIGILL", ""), (None, "-1\n")}  # older kernels do not have them


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in ENDS])
def test_an_attack_ends_as_it_must_and_leaves_nothing(cell: Cell, case: Ends) -> None:
    first = cell.control()
    result = cell.run(case.code, Limits(timeout_s=case.timeout_s))
    assert result.status in case.allowed, (result.status, result.error, result.stderr[-300:])
    assert "ESCAPED" not in result.stdout
    assert len(result.stderr) <= (40_000 if result.status is Status.RUNTIME else 4 * Limits().output_bytes)
    assert result.runs == 1
    assert cell.control() == first
    assert cell.before.allows(left := after(cell.before)), (cell.before, left)


def every_case() -> list[tuple[str, str, tuple[str, ...], float]]:
    """Name, program, allowed endings and time of the shared corpus and of our own cases."""
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    blocked = ("ok", "error")
    given = [
        (
            r["id"],
            r["code"],
            blocked if r["expect"] == "blocked" else (r["expect"],),
            0.7 if r["expect"] == "timeout" else 9.0,
        )
        for r in rows
    ]
    ends = [(c.name, c.code, tuple(FOUND_AS[status] for status in c.allowed), c.timeout_s) for c in ENDS]
    return [*given, *ends, *((name, code, ("ok",), 5.0) for name, code in DOORS.items())]


def assert_contained(results: list[tuple[str, str, int]]) -> None:
    for (name, code, allowed, _), (status, stdout, runs) in zip(every_case(), results, strict=True):
        assert (FOUND_AS[Status(status)] in allowed, "ESCAPED" in stdout, runs) == (True, False, 1), (name, status)
        if DOORS.get(name) == code:
            assert stdout == "held\n", name


@pytest.mark.slow
def test_the_service_and_its_client_contain_them_too() -> None:
    if not CASES.exists():
        pytest.skip(f"{CASES} is not here")

    async def main() -> list[ExecutionResult]:
        snippets = [Snippet(code=code, limits=Limits(timeout_s=seconds)) for _, code, _, seconds in every_case()]
        snippets.append(Snippet(code="print(6 * 7)"))
        async with LocalSandbox(LocalSandboxConfig(workers=2)) as inner:
            address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            server = server_of(Service(inner, ServerConfig(port=0)), address.set_result)
            task = asyncio.create_task(server.serve())
            async with RemoteSandbox(RemoteSandboxConfig(endpoints=(await address,))) as sandbox:
                results = await run_batch(sandbox, snippets, concurrency=4)
            server.handle_exit(signal.SIGTERM, None)
            await task
            return results

    *results, control = asyncio.run(main())
    assert_contained([(result.status, result.stdout, result.runs) for result in results])
    assert control.stdout == "42\n"


@pytest.mark.slow
@pytest.mark.parametrize("level", ["full", "landlock"])
def test_a_plain_user_is_as_safe_as_root(level: str) -> None:
    if os.geteuid() != 0 or not CASES.exists():
        pytest.skip("needs root, to become another user, and the hostile cases")
    script = """
        import asyncio, json, sys
        from census import after, at_rest
        from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
        from thor_tir.sandbox.protocol import Limits

        async def main():
            level, cases = json.load(sys.stdin)
            results, left = [], []
            async with LocalSandbox(LocalSandboxConfig(workers=1, strongest=level)) as sandbox:
                await sandbox.run("print(1)")
                before = at_rest()
                for name, code, _, seconds in cases:
                    result = await sandbox.run(code, Limits(timeout_s=seconds))
                    results.append([result.status, result.stdout[:1000], result.runs])
                    control = await sandbox.run("print(6 * 7)")
                    if control.stdout != "42\\n" or not before.allows(now := after(before)):
                        left.append([name, str(before), str(now), control.stderr])
            print(json.dumps([sandbox.level, left, results]))

        asyncio.run(main())
    """
    drop = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    places = (Path(thor_tir.__file__).parents[1], Path(__file__).parents[1] / "support")
    environment = {"PYTHONPATH": os.pathsep.join(map(str, places)), "PATH": os.environ["PATH"]}
    finished = subprocess.run(
        [*drop, sys.executable, "-B", "-c", textwrap.dedent(script)],
        env=environment,
        input=json.dumps([level, every_case()]),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if "failed to execute" in finished.stderr or f"Permission denied: '{sys.executable}'" in finished.stderr:
        pytest.skip("the interpreter lies where another user cannot read it")
    assert finished.returncode == 0, finished.stderr
    found, left, seen = json.loads(finished.stdout)
    assert (found, left) == (level, [])
    if level == "full":
        assert_contained(seen)
    else:  # without a folder to write in, some end otherwise
        assert not any("ESCAPED" in stdout or runs != 1 for _, stdout, runs in seen)
