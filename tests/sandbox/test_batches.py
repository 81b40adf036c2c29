"""Many programs at once: every one answered exactly once and in order, whatever happens to the workers meanwhile."""

import asyncio
import contextlib
import os
import random
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.errors import SandboxUnavailable
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.batch import BlockingSandbox, run_batch, stream
from thor_tir.sandbox.local.preload import is_heavy
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.local.template_process import Mailbox, TemplateLost
from thor_tir.sandbox.protocol import Limits, Snippet
from told_sandbox import ToldSandbox, printed

HOSTILE = (
    ("while True: pass", Status.TIMEOUT),
    ("import os; os.kill(0, 9)", Status.RUNTIME),
    ("x = bytearray(10**11)", Status.MEMORY),
    ("while True: print('a' * 10**5)", Status.OUTPUT_LIMIT),
    ("import os; os.fork()", Status.DENIED),
)


def launchers() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


@pytest.mark.parametrize("is_killing", [False, True])
def test_a_mixed_batch_of_400_is_answered_once_and_in_order_even_if_workers_are_killed(is_killing: bool) -> None:
    chance = random.Random(0)
    expected: list[tuple[Status, str]] = []
    snippets = []
    for index in range(400):
        if index % 12 == 7:  # about 8 % hostile
            code, status = HOSTILE[index % len(HOSTILE)]
            expected.append((status, ""))
        else:
            code, status = f"print({index} ** 3)", Status.OK
            expected.append((status, f"{index**3}\n"))
        seconds = 0.2 if status is Status.TIMEOUT else 20.0  # so that a busy machine stops none of the others
        snippets.append(Snippet(code=code, limits=Limits(timeout_s=seconds, output_bytes=10**6)))

    async def main() -> list[ExecutionResult]:
        config = LocalSandboxConfig(workers=2, modules=("math",), heavy_modules=())
        async with LocalSandbox(config) as sandbox:
            answers = asyncio.ensure_future(run_batch(sandbox, snippets))
            for _ in range(is_killing):
                await asyncio.sleep(0.3)
                if pids := launchers():
                    os.kill(chance.choice(pids), signal.SIGKILL)
            return await asyncio.wait_for(answers, 120)

    results = asyncio.run(main())
    seen = [(result.status, result.stdout if result.status is Status.OK else "") for result in results]
    assert seen == expected
    assert max(result.runs for result in results) <= 2
    assert sum(result.runs == 2 for result in results) <= is_killing


def test_the_same_program_prints_the_same_bytes_in_every_worker_and_at_every_position() -> None:
    code = """
import random, numpy, os
kept = [bytes(size) for size in range(0, 480, 16)]  # one of each size that the allocator knows
kept += [object(), [], [1], {}, (1, 2, 3), 1.5e3, 2**70, set(), lambda: 0, memoryview(b"x"), numpy.zeros(100)]
print(random.random(), numpy.random.rand(), hash("x"), os.getpid(), *map(id, kept))
"""

    async def main() -> set[str]:
        async with LocalSandbox(LocalSandboxConfig(workers=2, modules=("numpy", "numpy.random"))) as sandbox:
            noise = [
                Snippet(code="x = list(range(10**5)); print(len(x))"),
                Snippet(code="1 / 0"),
                Snippet(code="print('a' * 10**5)"),
            ]
            mixed = [Snippet(code=code), Snippet(code=code), *noise] * 8
            results = await run_batch(sandbox, mixed)
            other = await sandbox.run(code, seed=1)
            assert other.stdout.split()[:2] != results[0].stdout.split()[:2]
            return {result.stdout for at, result in enumerate(results) if at % (len(noise) + 2) < 2}

    assert len(asyncio.run(main())) == 1


def test_a_fault_of_the_machine_stands_in_its_programs_place_and_the_others_are_answered() -> None:
    class Broken(ToldSandbox):
        async def run(
            self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0
        ) -> ExecutionResult:
            if code == "2":
                raise SandboxUnavailable("gone")
            return printed(code)

    async def collect() -> dict[int, ExecutionResult | SandboxUnavailable]:
        return {index: result async for index, result in stream(Broken(), [Snippet(code=str(i)) for i in range(5)])}

    found = asyncio.run(collect())
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert [i for i, result in found.items() if isinstance(result, SandboxUnavailable)] == [2]
    with pytest.raises(SandboxUnavailable, match="gone"):
        asyncio.run(run_batch(Broken(), [Snippet(code="2"), Snippet(code="3")]))


def test_a_stream_draws_no_more_programs_than_it_may_run_at_once() -> None:
    drawn: list[int] = []

    def endless() -> AsyncIterator[Snippet]:
        for index in range(10**9):
            drawn.append(index)
            yield Snippet(code=str(index))  # type: ignore[misc]

    async def main() -> None:
        sandbox = ToldSandbox(otherwise=lambda code: printed(code))
        answers = stream(sandbox, endless(), concurrency=4)  # type: ignore[arg-type]
        for _ in range(10):
            await anext(answers)
        await answers.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert len(drawn) <= 10 + 2 * 4


def test_code_without_an_event_loop_has_the_same_batches() -> None:
    with BlockingSandbox(LocalSandbox(LocalSandboxConfig(workers=1, modules=(), heavy_modules=()))) as sandbox:
        results = sandbox.run_batch([Snippet(code="print(input())", stdin=str(i)) for i in range(5)])
        assert [result.stdout for result in results] == [f"{i}\n" for i in range(5)]
        assert sandbox.run("print(1)").level == sandbox.level


def test_standard_input_may_be_longer_than_a_pipe_holds() -> None:
    with BlockingSandbox(LocalSandbox(LocalSandboxConfig(workers=1, modules=(), heavy_modules=()))) as sandbox:
        if sandbox.level != "full":
            pytest.skip("only level full has a folder to keep it in")
        assert sandbox.run("import sys; print(len(sys.stdin.read()))", stdin="a" * 10**6).stdout == "1000000\n"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import scipy", True),
        ("from scipy import stats", True),
        ("import numpy as np, scipy.optimize as so", True),
        ("x = 1\nif x:\n    import networkx as nx", True),
        ("import sympy", False),
        ("print('import scipy')", False),
        ("# from scipy import stats\nx = 1", False),
        ("import scipython", False),
    ],
)
def test_import_statements_choose_the_template(code: str, heavy: bool) -> None:
    assert is_heavy(code) is heavy


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_of_a_template_break_its_reader(noise: bytes, is_framed: bool) -> None:
    """A template is trusted, but its memory may be damaged: nonsense makes it lost, and nothing else."""

    async def main() -> None:
        mailbox = Mailbox()
        mailbox.stream_bytes = 1000
        answer = mailbox.next_message(60.0)
        mailbox.data_received(struct.pack("!I", len(noise)) + noise if is_framed else noise)
        mailbox.connection_lost(None)
        with contextlib.suppress(TemplateLost):
            assert isinstance(await answer, dict)

    asyncio.run(main())


@pytest.mark.slow
def test_5000_programs_leave_nothing_behind() -> None:
    def held() -> tuple[int, int, int]:
        pids = [os.getpid(), *launchers()]
        resident = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
        return descriptors, Path("/proc/self/mounts").read_text().count("\n"), resident * 4096 // 2**20

    async def main() -> None:
        async with LocalSandbox(LocalSandboxConfig(workers=2, modules=("json",), heavy_modules=())) as sandbox:
            await run_batch(sandbox, [Snippet(code=f"print({i})") for i in range(100)])
            await asyncio.sleep(1)  # both watchers have their next child ready
            before = held()
            for round_ in range(10):
                codes = [f"open('f', 'w').write('{i}'); print({i})" for i in range(500)]
                results = await run_batch(sandbox, [Snippet(code=code) for code in codes])
                assert [result.stdout for result in results] == [f"{i}\n" for i in range(500)], round_
            await asyncio.sleep(1)
            after = held()
        assert after[:2] == before[:2]
        assert after[2] - before[2] < 10  # MiB

    asyncio.run(main())
