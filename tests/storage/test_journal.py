"""What stands on disk after a kill at any byte."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.errors import UsageError
from thor_tir.storage.journal import (
    Journal,
    RowsOfFiles,
    check_place,
    make_folder,
    write_atomically,
    writing_atomically,
)

SPECIAL = "line\u2028separator\u2029next\x85line\x0bfeed\nnewline é😀"
"""Everything that some reader takes for the end of a line."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.jsonl"


@pytest.fixture
def opened() -> Iterator[Callable[..., Journal]]:
    """Opens journals as after a kill, without closing the one before; all are closed when the test has ended."""
    journals: list[Journal] = []

    def open_journal(path: Path, *keys: str, hold: bool = False) -> Journal:
        journals.append(Journal(path, hold=hold))
        return add_all(journals[-1], *keys)

    yield open_journal
    for journal in journals:
        journal.close()


def add_all(journal: Journal, *keys: str) -> Journal:
    for number, key in enumerate(keys):
        journal.add(key, {"number": number, "text": SPECIAL})
    return journal


def test_a_unit_is_on_disk_as_soon_as_it_is_added(path, opened):
    opened(path, "a", "b")  # not closed: what a kill leaves
    again = opened(path)
    assert [row["key"] for row in again] == ["a", "b"]
    assert again["b"] == {"key": "b", "number": 1, "text": SPECIAL}
    assert ("a" in again, "c" in again, len(again)) == (True, False, 2)


def test_every_unit_is_one_line_whatever_its_text(path, opened):
    opened(path, "a", "b").close()
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("left", [1, 10, -2, -1])
def test_a_torn_last_line_is_cut_off_and_its_unit_may_be_done_again(path, left, opened):
    opened(path, "a", "b").close()
    blob = path.read_bytes()
    second = blob.index(b"\n") + 1
    path.write_bytes(blob[:second] + blob[second:][:left])
    again = opened(path)
    assert [row["key"] for row in again] == ["a"]
    again.add("b", {"number": 1, "text": SPECIAL})
    again.close()
    assert path.read_bytes() == blob


@given(st.data())
def test_a_kill_at_any_byte_loses_at_most_the_unit_whose_line_is_torn(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal") / "j"
    add_all(Journal(path), "a", "b", "c").close()
    blob = path.read_bytes()
    cut = data.draw(st.integers(0, len(blob)))
    path.write_bytes(blob[:cut])
    again = Journal(path)
    assert [row["key"] for row in again] == ["a", "b", "c"][: blob[:cut].count(b"\n")]
    again.close()


@pytest.mark.parametrize("damage", [b"{", b"[1]", b'{"no": "key"}', b'{"key": ["a"]}', b"", b"\xff\xfe"])
def test_a_damaged_line_that_no_kill_can_leave_is_named_by_its_number(path, damage, opened):
    opened(path, "a", "b").close()
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + b"\n" + second)
    with pytest.raises(UsageError, match="line 2 is damaged; delete that line or the file"):
        opened(path)


def test_of_a_row_on_disk_only_its_place_is_kept(path, opened):
    journal = opened(path, "a", "é", "c")
    again = opened(path, "d")
    assert [[row["number"] for row in each] for each in (journal, again)] == [[0, 1, 2], [0, 1, 2, 0]]
    path.write_bytes(path.read_bytes().replace(b'"number": 2', b'"number": 7'))
    assert (journal["c"]["number"], again["c"]["number"]) == (7, 7)


def test_damage_behind_a_key_is_named_when_its_row_is_read(path, opened):
    opened(path, "a", "b")
    path.write_bytes(path.read_bytes().replace(b'"number": 0,', b'"number": 0;'))
    again = opened(path)
    assert again["b"]["number"] == 1
    with pytest.raises(UsageError, match="the line of a is damaged; delete that line or the file"):
        again["a"]


def test_rows_of_several_files_are_read_by_key_and_the_first_file_counts(tmp_path, opened):
    paths = [tmp_path / name for name in ("1.jsonl", "2.jsonl")]
    opened(paths[0], "a", "b")
    opened(paths[1], "x", "a", "c")
    rows = RowsOfFiles(paths)
    assert {key: row["number"] for key, row in rows.items()} == {"a": 0, "b": 1, "x": 0, "c": 2}


def test_a_unit_done_twice_is_our_mistake(path, opened):
    journal = opened(path, "a")
    with pytest.raises(AssertionError, match="a is already in"):
        journal.add("a", {})


def test_held_lines_are_known_at_once_and_on_disk_only_after_the_commit(path, opened):
    journal = opened(path, "a", "b", hold=True)
    assert "b" in journal
    assert path.read_bytes() == b""
    journal.commit()
    assert [json.loads(line)["key"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == ["a", "b"]


def test_closing_forgets_what_was_held_as_a_kill_would(path, opened):
    journal = opened(path, "a", hold=True)
    journal.commit()
    journal.add("b", {})
    journal.close()
    assert [row["key"] for row in opened(path)] == ["a"]


def test_a_second_commit_writes_nothing_twice(path, opened):
    journal = opened(path, "a", hold=True)
    journal.commit()
    journal.commit()
    assert path.read_bytes().count(b"\n") == 1


def test_a_whole_file_replaces_the_old_one_and_leaves_nothing_beside_it(path):
    write_atomically(path, "old")
    write_atomically(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_write_that_breaks_leaves_the_old_file_whole(path):
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new" * 100_000 + "\ud800")
    assert path.read_text(encoding="utf-8") == "old"


@given(st.data())
def test_a_kill_at_any_byte_leaves_whole_commits_where_lines_are_held(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal") / "j"
    journal, ends = Journal(path, hold=True), []
    for keys in ("ab", "c", "def"):
        add_all(journal, *keys)
        journal.commit()
        ends.append(path.stat().st_size)
    journal.close()
    cut = data.draw(st.integers(0, ends[-1]))
    path.write_bytes(path.read_bytes()[:cut])
    again = Journal(path, hold=True)
    whole = sum(end <= cut for end in ends)
    assert "".join(row["key"] for row in again) == ["", "ab", "abc", "abcdef"][whole]
    assert all(set(row) == {"key", "number", "text"} for row in again)
    again.close()


def test_a_file_that_is_written_piece_by_piece_is_there_whole_or_not_at_all(tmp_path: Path):
    def fail() -> None:
        with writing_atomically(tmp_path / "file") as out:
            out.write("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_utf_8_cannot_hold_is_kept_all_the_same(path: Path, opened: Callable[..., Journal]) -> None:
    opened(path).add("a", {"text": "half a pair \ud800, and é"})
    assert opened(path)["a"]["text"] == "half a pair \ud800, and é"


@pytest.mark.parametrize("place", ["file/below", "file", "x" * 300])
def test_a_place_where_nothing_can_be_written_is_the_users_mistake(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="nothing can be written at"):
        make_folder(tmp_path / place)


def test_a_folder_where_a_file_is_to_be_written_is_told_before_long_work(tmp_path: Path) -> None:
    for write in (check_place, Journal, partial(write_atomically, text="")):
        with pytest.raises(UsageError, match="is a folder; give the name of a file"):
            write(tmp_path)
