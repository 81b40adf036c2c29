"""Lines of a file that grows: each is handed out once, whole, whatever the size of what is read at once."""

from pathlib import Path
from random import Random

import pytest

from thor_tir.view import growing_file
from thor_tir.view.growing_file import GrowingFile


def all_earlier(file: GrowingFile) -> list[tuple[int, bytes]]:
    found = []
    while block := file.earlier():
        found += block
    return found


@pytest.mark.parametrize("chunk", [3, 8, 64, 4096])
def test_what_was_there_is_read_backwards_and_what_comes_forwards_each_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(growing_file, "CHUNK_BYTES", chunk)
    rng = Random(chunk)
    lines = [b"x" * rng.randint(0, 40) + b"%d\n" % n for n in range(60)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(lines[:40]))
    file = GrowingFile(path)
    assert file.has_begun_anew()
    assert list(file.appended()) == []
    with path.open("ab") as more:
        more.write(b"".join(lines[40:]) + b"torn")
    forwards = [line for _, line in file.appended()]
    found = all_earlier(file)
    assert [line for _, line in found] == lines[:40][::-1]
    assert forwards == lines[40:]
    assert all(file.read(place, len(line)) == line for place, line in found)
    with path.open("ab") as more:
        more.write(b" no more\n")
    assert [line for _, line in file.appended()] == [b"torn no more\n"]
    assert not file.has_begun_anew()


@pytest.mark.parametrize("text", [b"", b"torn", b"\n", b"one\n", b"carriage\r\nreturn\n"])
def test_the_end_of_any_file_is_found(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text)
    file = GrowingFile(path)
    assert file.has_begun_anew()
    whole = text.split(b"\n")[:-1]
    assert [line for _, line in all_earlier(file)] == [line + b"\n" for line in whole[::-1]]


def test_a_file_that_was_cut_or_replaced_begins_anew_and_one_that_is_gone_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntwo\n")
    file = GrowingFile(path)
    assert file.has_begun_anew()
    path.write_bytes(b"one\n")
    assert file.has_begun_anew()
    new = tmp_path / "b.jsonl"
    new.write_bytes(b"one\ntwo\nthree\n")
    new.rename(path)
    assert file.has_begun_anew()
    assert [line for _, line in all_earlier(file)] == [b"three\n", b"two\n", b"one\n"]
    path.unlink()
    assert not file.has_begun_anew()
    assert list(file.appended()) == []
    assert file.read(0, 9) == b""
