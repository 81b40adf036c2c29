"""`thor sandbox run`: one file or many programs, results in order, and one sentence for what the user got wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from thor_tir import cli


def status_of(*argv: str) -> int:
    """The exit status of the command, which is run in this process; without an exit it is 0."""
    try:
        cli.main(["sandbox", "run", *argv])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def programs(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_the_output_of_a_file_goes_where_ones_own_goes_and_its_end_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.py"
    file.write_text("print(6 * 7)\n1 / 0\n")
    assert status_of(str(file)) == 0  # whatever the program did
    out, err = capfd.readouterr()
    assert out == "42\n"
    assert 'File "main.py", line 2' in err
    assert err.splitlines()[-1].startswith("[runtime (ZeroDivisionError), ")


def test_results_come_one_a_line_in_the_order_of_the_programs(tmp_path: Path) -> None:
    rows = [
        {"id": "slow", "code": "import time; time.sleep(0.3); print('slow')"},
        {"id": 7, "code": "import sys; sys.exit(3)"},
        {"id": None, "code": "print(input())", "stdin": "read"},
        {"id": "endless", "code": "while True: pass"},
    ]
    source, target = programs(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    arguments = ("--jsonl", str(source), "--output", str(target), "--timeout-s", "2", "--workers", "2")
    assert status_of(*arguments) == 0
    seen = [(r["id"], r["status"], r["exit_code"], r["stdout"]) for r in lines(target)]
    assert seen == [
        ("slow", "ok", 0, "slow\n"),
        (7, "runtime", 3, ""),
        (None, "ok", 0, "read\n"),
        ("endless", "timeout", None, ""),
    ]
    assert {"stderr", "truncated", "wall_s", "level"} <= lines(target)[0].keys()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"id": 1, "code": "x"}\n{bad\n', "line 2 is not JSON"),
        ('{"id": 1}\n', 'line 1 needs an "id" and a "code"'),
        ('{"id": 1, "code": 2}\n', 'line 1 needs an "id" and a "code"'),
        ('["id", "code"]\n', 'line 1 needs an "id" and a "code"'),
        ('\n{"id": 1, "code": "x", "seed": "0"}\n', 'line 2: "stdin" is text and "seed" an integer'),
    ],
)
def test_a_line_that_is_no_program_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(content)
    assert status_of("--jsonl", str(source), "--output", str(target)) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name one Python file"),
        (("no_such.py",), "cannot be read: No such file"),
        (("--jsonl", "in.jsonl"), "belong together"),
        (("--jsonl", "no_such.jsonl", "--output", "out.jsonl"), "cannot be read: No such file"),
        (("--jsonl", "in.jsonl", "--output", "./in.jsonl"), "holds the programs"),
        (("p.py", "--timeout-s", "0"), "time must be above 0"),
        (("p.py", "--jsonl", "in.jsonl", "--output", "out.jsonl"), "name one Python file, or"),
    ],
)
def test_what_the_user_got_wrong_is_said_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    programs(tmp_path / "in.jsonl", {"id": 1, "code": "print(1)"})
    (tmp_path / "p.py").write_text("print(1)")
    assert status_of(*arguments) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert lines(tmp_path / "in.jsonl") == [{"id": 1, "code": "print(1)"}]
