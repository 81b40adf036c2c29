"""Several processes that one command starts: the work is shared, and they end together."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from thor_tir import commands, distributed
from thor_tir.errors import UsageError

ASKED = """
import os, sys, time
from thor_tir.distributed import end_with_starter, is_one_of_several, is_started_together
end_with_starter()
assert is_started_together() and is_one_of_several() == ("--shard" not in sys.argv)
said = [*(os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")), str(os.getpid()), *sys.argv[1:]]
os.write(1, (" ".join(said) + "\\n").encode())  # whole, also where output is not buffered
if sys.argv[1] == "fails" and os.environ["RANK"] == "1":
    sys.exit(7)
if sys.argv[1] != "ends":
    time.sleep(60)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the package's command line, a program that says what it was started with."""
    package = tmp_path / "thor_tir_program.py"
    package.write_text(ASKED)
    started = subprocess.Popen

    def start(command: list[str], **how: Any) -> "subprocess.Popen[bytes]":
        return started([command[0], str(package), *command[3:]], **how)

    monkeypatch.setattr(distributed.subprocess, "Popen", start)
    monkeypatch.setattr(distributed, "LAST_WORDS_S", 0.1)
    return package


def test_each_is_numbered_and_a_good_end_of_all_is_one(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert distributed.start_several(3, ["ends"]) == 0
    said = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert sorted(words[:3] for words in said) == [[str(rank), "3", "127.0.0.1"] for rank in range(3)]


def test_parts_know_nothing_of_each_other(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert distributed.start_several(2, ["ends"], in_parts=True) == 0
    said = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert sorted((words[1], *words[4:]) for words in said) == [("1", "ends", "--shard", f"{n}/2") for n in (1, 2)]


def test_each_part_has_a_gpu_for_itself(program: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    program.write_text(
        "import os, sys\nos.write(1, f\"{os.environ['CUDA_VISIBLE_DEVICES']} {sys.argv[-1]}\\n\".encode())"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert distributed.start_several(3, ["ends"], in_parts=True) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["4 1/3", "4 3/3", "GPU-7 2/3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert distributed.start_several(2, ["ends"], in_parts=True) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["0,1 1/2", "2,3 2/2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,-1,1")
    assert distributed.gpus() == ("0",)


@pytest.mark.parametrize(("command", "count"), [("rl", "0"), ("eval", "-4"), ("quickstart", "-1")])
def test_fewer_processes_than_one_are_refused(command: str, count: str) -> None:
    with pytest.raises(UsageError, match=f"--processes is {count}: "):
        commands.run(command, ["--processes", count])


def test_where_one_fails_the_others_are_ended_and_its_status_is_the_commands(program: Path) -> None:
    assert distributed.start_several(3, ["fails"]) == 7


def test_they_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    package = tmp_path / "program.py"
    package.write_text(ASKED)
    starter = (
        "import subprocess, sys\n"
        "from thor_tir import distributed\n"
        "started = subprocess.Popen\n"
        f"distributed.subprocess.Popen = lambda c, **how: started([c[0], {str(package)!r}, *c[3:]], **how)\n"
        "distributed.start_several(2, ['stays'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        children = [psutil.Process(int(running.stdout.readline().split()[3])) for _ in range(2)]
        running.send_signal(signal.SIGKILL)
        assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.slow
def test_a_quickstart_of_two_processes_is_killed_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "thor_tir", "quickstart", "--output", str(folder), "--processes", "2"]
    with subprocess.Popen(command) as running:
        until = time.monotonic() + 300
        while not (folder / "rl" / "updates.jsonl").exists():
            assert time.monotonic() < until
            time.sleep(0.2)
        running.kill()
    assert subprocess.run(command, check=False).returncode == 0
    runs = json.loads((folder / "results.json").read_text())["runs"]
    assert [row["sets"][0]["lost"]["machine"] for row in runs] == [{}] * len(runs)
