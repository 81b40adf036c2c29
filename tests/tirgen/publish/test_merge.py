"""Raw folders united: every attempt once, in an order of its own, and no silent choice between two stories."""

import json
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.tirgen.raw_rows import UnitedRaw, unite_raw
from tirgen_samples import WRONG, candidate, no_tools_row, raw_row, read_lines, write_lines


def shard(folder: Path, *questions: str, provenance: str = "p") -> Path:
    write_lines(folder / "raw.jsonl", [raw_row(candidate(question=q), provenance=provenance) for q in questions])
    write_lines(folder / "no_tools.jsonl", [no_tools_row(q, 0, is_right=False) for q in questions])
    (folder / "provenance.json").write_text(json.dumps({provenance: {"actor": provenance}}))
    return folder


def test_shards_are_united_row_for_row_whatever_their_order(tmp_path: Path):
    shards = [shard(tmp_path / "one", "c", "a", provenance="p"), shard(tmp_path / "two", "b", provenance="q")]
    assert unite_raw(shards, tmp_path / "out") == UnitedRaw(attempts=3, lost=0, no_tools=3)
    unite_raw(shards[::-1], tmp_path / "again")
    assert [row["key"] for row in read_lines(tmp_path / "out" / "raw.jsonl")] == ["a/0", "b/0", "c/0"]
    assert json.loads((tmp_path / "out" / "provenance.json").read_text()) == {"p": {"actor": "p"}, "q": {"actor": "q"}}
    for name in ("raw.jsonl", "no_tools.jsonl", "provenance.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_uniting_what_was_united_with_its_parts_changes_nothing(tmp_path: Path):
    shards = [shard(tmp_path / "one", "c", "a"), shard(tmp_path / "two", "b", "a")]
    unite_raw(shards, tmp_path / "out")
    unite_raw([tmp_path / "out", *shards], tmp_path / "again")
    assert (tmp_path / "out" / "raw.jsonl").read_bytes() == (tmp_path / "again" / "raw.jsonl").read_bytes()


def test_one_attempt_told_in_two_ways_is_a_mistake_that_names_both_lines_and_writes_nothing(tmp_path: Path):
    one, two = shard(tmp_path / "one", "a", "b"), shard(tmp_path / "two", "c")
    write_lines(two / "raw.jsonl", [raw_row(candidate(question="b", verdict=WRONG), provenance="p")])
    with pytest.raises(
        UsageError, match=r"'b/0' stands in two ways: \S*one/raw.jsonl, line 2 and \S*two/raw.jsonl, line 1"
    ):
        unite_raw([one, two], tmp_path / "out")
    assert not (tmp_path / "out" / "raw.jsonl").exists()


def test_attempts_that_a_fault_ended_are_counted_unless_another_folder_made_them(tmp_path: Path):
    one, two = shard(tmp_path / "one", "a"), shard(tmp_path / "two", "b")
    lost = [{"key": key, "dropped": "SandboxUnavailable"} for key in ("b/0", "z/0")]
    write_lines(one / "raw.jsonl", [raw_row(candidate(question="a"), provenance="p"), *lost])
    assert unite_raw([one, two], tmp_path / "out") == UnitedRaw(attempts=3, lost=1, no_tools=2)


def test_a_folder_is_not_united_into_itself(tmp_path: Path):
    one = shard(tmp_path / "one", "a")
    before = (one / "raw.jsonl").read_bytes()
    with pytest.raises(UsageError, match="is one of the folders to be united"):
        unite_raw([one], one)
    assert (one / "raw.jsonl").read_bytes() == before
