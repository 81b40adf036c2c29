"""Floors under the speed of the sandbox, far below its goals: ratios of things measured in turns, best burst of each.

Not asserted: what two workers do, since other processes may hold the second core; absolute times; percentiles of one
busy run. `benchmarks/sandbox.py` prints all of it.
"""

import asyncio
from contextlib import AsyncExitStack

import pytest

from sandbox_rows import PRINT, SYMPY, Row, _bubblewrap, contenders

BURSTS = 4


def best_rate(row: Row, program: str) -> float:
    return max(row.rates[program])


def best_median_s(row: Row, program: str) -> float:
    return min(sorted(burst)[len(burst) // 2] for burst in row.seconds[program])


timed = pytest.mark.slow
"""Clocks decide nothing in the default tests."""


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    async def main() -> dict[str, Row]:
        async with AsyncExitStack() as stack:
            every = {row.name.partition(",")[0]: row for row in await contenders(stack) if "2 workers" not in row.name}
            if "level full" not in every:
                pytest.skip("this host offers less than the level full, for which the floors are")
            cold, bare = every["cold interpreter (python -I)"], every["bare fork of the template"]
            taken = [cold, bare, every["the template without layers"], every["level full"]]
            for row in taken:
                row.count = 1 if row is cold else 12
                for program in row.programs:
                    await row.burst(program, 2)  # the first runs of all are slower
            for _ in range(BURSTS):
                for row in taken:
                    for program in row.programs:
                        await row.take(program)
            return every

    return asyncio.run(main())


@timed
def test_a_sympy_program_is_fifteen_times_as_fast_as_in_a_cold_interpreter(rows: dict[str, Row]) -> None:
    full, cold = rows["level full"], rows["cold interpreter (python -I)"]
    assert best_rate(full, SYMPY) >= 15 * best_rate(cold, SYMPY)


@timed
def test_even_a_print_is_faster_than_in_a_cold_interpreter(rows: dict[str, Row]) -> None:
    full, cold = rows["level full"], rows["cold interpreter (python -I)"]
    assert best_rate(full, PRINT) >= 1.3 * best_rate(cold, PRINT)


@timed
def test_a_print_takes_at_most_six_bare_forks(rows: dict[str, Row]) -> None:
    full, bare = rows["level full"], rows["bare fork of the template"]
    assert best_median_s(full, PRINT) <= 6 * best_median_s(bare, PRINT)


@timed
def test_all_layers_together_at_most_double_the_time(rows: dict[str, Row]) -> None:
    full, open_ = rows["level full"], rows["the template without layers"]
    assert best_median_s(full, PRINT) <= 2 * best_median_s(open_, PRINT)


def test_a_peer_that_is_missing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox_rows.shutil.which", lambda name: "/no/such/program")
    row = _bubblewrap()
    assert (row.programs, "not installed" in row.absent) == ((), True)
