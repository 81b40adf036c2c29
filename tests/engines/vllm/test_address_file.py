"""The file of engines that are placed by somebody else: there once all serve, and renewed when one is elsewhere."""

import threading
from pathlib import Path

import pytest

from thor_tir.engines.vllm import address_file
from thor_tir.engines.vllm.address_file import AddressFile


def test_the_file_is_there_once_all_serve_and_names_the_new_place_of_one_that_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, said, is_told = set[str](), list[str](), threading.Event()
    monkeypatch.setattr(address_file, "_serves", serving.__contains__)
    monkeypatch.setattr(address_file, "LOOK_S", 0.001)

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("use them by"):
            is_told.set()

    file = AddressFile(tmp_path / "addresses.txt", 2, say)
    file.place(1, "10.0.0.2", 8101)
    file.place(0, "10.0.0.1", 8100)
    serving.add("http://10.0.0.1:8100")
    file.place(1, "10.0.0.3", 8102)  # lost before it served
    assert not file.path.exists()
    serving.add("http://10.0.0.3:8102")
    assert is_told.wait(20)
    assert file.path.read_text() == "http://10.0.0.1:8100\nhttp://10.0.0.3:8102\n"
    file.place(0, "10.0.0.4", 8103)
    assert file.path.read_text() == "http://10.0.0.4:8103\nhttp://10.0.0.3:8102\n"
    assert said[-1].startswith("engine 0 is placed at http://10.0.0.4:8103")
