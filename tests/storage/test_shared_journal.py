"""One journal that several processes fill, with processes that are threads here: they share a barrier, not a memory."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thor_tir.distributed import Ranks
from thor_tir.storage.journal import Journal
from thor_tir.storage.shared_journal import exchange, open_shared


@dataclass(slots=True)
class Table:
    """Where the threads put down what they say."""

    size: int
    barrier: threading.Barrier = field(init=False)
    said: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.barrier, self.said = threading.Barrier(self.size), [None] * self.size


class Threads(Ranks):
    """Ranks that meet at a table instead of over a network."""

    __slots__ = ("table",)

    def __init__(self, rank: int, table: Table) -> None:
        super().__init__(rank=rank, size=table.size)
        object.__setattr__(self, "table", table)

    def gather(self, message: Any) -> list[Any]:
        self.table.said[self.rank] = message
        self.table.barrier.wait()
        said = list(self.table.said)
        self.table.barrier.wait()
        return said


def together(size: int, act: Callable[[Ranks], Any]) -> list[Any]:
    table, results = Table(size), [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = act(Threads(rank, table))
        except BaseException:
            table.barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


KEYS = [f"unit{number}" for number in range(5)]


def fill(path: Path, hold: bool, *, stops_before_exchange: bool = False) -> Callable[[Ranks], list[str]]:
    """Do all units, each in one process; returns what had to be done and then what this process knows."""

    def act(ranks: Ranks) -> list[str]:
        journal = open_shared(path, ranks, hold=hold)
        mine = ranks.share(KEYS)
        done = [key for key in mine if key not in journal]
        for key in done:
            journal.add(key, {"by": ranks.rank})
        journal.commit()
        if stops_before_exchange:
            return done
        asyncio.run(exchange(journal, mine, ranks))
        assert [key for key in KEYS if key not in journal] == []
        return done

    return act


def keys_in(path: Path) -> list[str]:
    return [row["key"] for row in Journal(path)]


def test_every_unit_is_done_by_one_process_and_known_to_all_and_stands_in_one_file(tmp_path: Path) -> None:
    for hold in (False, True):
        path = tmp_path / f"{hold}.jsonl"
        parts = together(2, fill(path, hold))
        assert parts == [KEYS[:2], KEYS[2:]]
        assert sorted(keys_in(path)) == KEYS
        assert together(2, fill(path, hold)) == [[], []]
        assert (tmp_path / f"{hold}.rank1.jsonl").read_bytes() == b""


def test_what_a_kill_left_with_one_process_is_taken_over_by_however_many(tmp_path: Path) -> None:
    for size in (1, 2, 3):
        path = tmp_path / f"{size}.jsonl"
        together(2, fill(path, False, stops_before_exchange=True))
        assert sorted(keys_in(path)) == KEYS[:2]
        assert together(size, fill(path, False)) == [[]] * size
        assert sorted(keys_in(path)) == KEYS


def test_a_process_that_leads_does_what_is_done_once_and_all_learn_the_result() -> None:
    acts = []

    def act(ranks: Ranks) -> int:
        return ranks.lead(lambda: acts.append(ranks.rank) or 7)

    assert together(3, act) == [7, 7, 7]
    assert acts == [0]


def test_parts_of_the_work_are_neighbours_and_each_unit_is_in_one() -> None:
    for size in (1, 2, 3, 7):
        parts = [list(Ranks(rank=rank, size=size).share(KEYS)) for rank in range(size)]
        assert [key for part in parts for key in part] == KEYS
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
