"""Processes that fill one folder, killed without warning again and again: nothing is lost, doubled or torn."""

import asyncio
import json
import os
import random
import select
import signal
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.storage.journal import WHOLE, Journal, Shard, shard_of
from thor_tir.storage.run_lock import claim
from thor_tir.tirgen.raw_rows import raw_files, rows
from thor_tir.tirgen.schedule import AttemptKey, AttemptSchedule, AttemptScheduleConfig, brief

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

QUESTIONS, ATTEMPTS = 30, 3
KILLS = 12
OPTIONS = {"seed": 0}
PAYLOAD = "x" * 40_000
"""Longer than a page, and than what a pipe takes at once."""


def fill(folder: Path, shard: Shard, allowed: int) -> None:
    """What `thor tirgen generate --shard` does, with attempts that cost no model; each takes a byte from `allowed`."""
    questions = [Problem(id=f"p{i}", question=f"{i}?", answer="1", source="test") for i in range(QUESTIONS)]
    mine = [problem for position, problem in enumerate(questions) if shard.owns(position)]

    async def one(wanted: AttemptKey) -> dict:
        # Not in a thread: a forked process may wait for one for ever.
        while not select.select([allowed], [], [], 0)[0]:  # noqa: ASYNC110 - a pipe is waited for
            await asyncio.sleep(0.001)
        os.read(allowed, 1)
        return {"outcome": "correct", "critic": {}, "spent": {}, "seconds": 0.0, "text": PAYLOAD + wanted.key}

    with claim(folder, OPTIONS, shard), shard.writing(folder):
        schedule = AttemptSchedule(
            mine, Journal(shard.file(folder, "raw"), brief=brief), AttemptScheduleConfig(attempts=ATTEMPTS)
        )
        asyncio.run(schedule.run(one, concurrency=4, made=lambda *_: None, done=lambda: None))


def started(folder: Path, shard: Shard, num_allowed: int) -> int:
    """A process of its own that fills a shard, and makes so many attempts at most before it waits for its end."""
    allowed, more = os.pipe()
    os.write(more, b"." * num_allowed)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fill(folder, shard, allowed)
            status = 0
        finally:
            os._exit(status)
    os.close(allowed)
    os.close(more)
    return child


def written(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("raw*.jsonl"))


def wanted_keys() -> set[str]:
    return {f"p{i}/{k}" for i in range(QUESTIONS) for k in range(ATTEMPTS)}


@pytest.mark.parametrize("shards", [("",), ("1/2", "2/2")], ids=["alone", "two shards in one folder"])
def test_a_run_that_is_killed_again_and_again_ends_with_every_attempt_once(tmp_path, shards):
    rng = random.Random(7)
    left = {shard_of(text) for text in shards}
    kills = 0
    while left:
        allowed = 6 // len(shards) if kills < KILLS else QUESTIONS * ATTEMPTS
        before = written(tmp_path)
        children = {started(tmp_path, shard, allowed): shard for shard in left}
        if kills < KILLS:
            # One row less than allowed, since what a kill tore is cut off first.
            enough = before + rng.randrange(len(PAYLOAD) * (allowed - 1) * len(children))
            while written(tmp_path) < enough:
                if not all(os.waitpid(child, os.WNOHANG) == (0, 0) for child in children):
                    break
            for child in children:
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            kills += 1
        for child, shard in children.items():
            try:
                _, status = os.waitpid(child, 0)
            except ChildProcessError:
                continue  # ended before the kill, and was waited for above
            if status == 0:
                left.discard(shard)
    assert kills == KILLS
    found = [row for _, row in rows(raw_files([tmp_path]))]
    assert sorted(row["key"] for row in found) == sorted(wanted_keys())
    assert all(row["text"] == PAYLOAD + row["key"] for row in found)
    lines = [line for file in raw_files([tmp_path]) for line in file.read_bytes().splitlines()]
    assert len(lines) == len(found)  # no attempt was made twice
    assert all(json.loads(line) for line in lines)


def test_two_processes_cannot_fill_the_same_shard_nor_one_of_them_everything(tmp_path):
    first = Shard(index=1, count=2)
    with claim(tmp_path, OPTIONS, first), first.writing(tmp_path):
        for other in (first, WHOLE):
            child = started(tmp_path, other, QUESTIONS * ATTEMPTS)
            assert os.waitpid(child, 0)[1] != 0
        child = started(tmp_path, Shard(index=2, count=2), QUESTIONS * ATTEMPTS)
        assert os.waitpid(child, 0)[1] == 0


def test_a_shard_is_one_of_several(tmp_path):
    with pytest.raises(UsageError, match="i from 1 to n"):
        shard_of("3/2")
    assert shard_of("2/3").file(tmp_path, "raw").name == "raw.2-of-3.jsonl"
    assert WHOLE.file(tmp_path, "raw").name == "raw.jsonl"
