"""What a user may mistake in the commands that measure: one sentence, status 2, and no file is touched."""

import json
from pathlib import Path

import pytest

from thor_tir import cli

PAIR = {"id": 1, "gold": "1", "pred": "1", "kind": "answer"}
PROBLEM = {"id": "x", "problem": "What is 1 + 1?", "answer": "2"}
TASK = {"task_id": "HumanEval/0", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "    return 1\n"}
FILES = {
    "pairs": json.dumps(PAIR),
    "train": json.dumps(PROBLEM),
    "bench": json.dumps(PROBLEM),
    "deep": "[" * 100_000,
    "empty": "",
    "tasks": json.dumps({**TASK, "test": "def check(f): assert f() == 1"}),
    "solutions": json.dumps({"task_id": "HumanEval/0", "solution": "def f(): return 1"}),
}
GRADE = "grade --jsonl pairs --output"
CHECK = "code check --benchmark humaneval --data tasks --any-version --solutions solutions --output"
OVERLAP = "data overlap --benchmarks bench --problems"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs where these files are, and one folder."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "dir").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (f"{GRADE} pairs", "pairs is read, so it cannot be written too; give another name"),
        (f"{GRADE} dir", "dir is a folder; give the name of a file to write"),
        (f"{GRADE} empty/below", "nothing can be written at empty (File exists); give another place"),
        (f"{GRADE} new --lenient --judge-model m --judge-url ten", "'ten' is no plain http:// or https:// address"),
        ("grade --jsonl empty --output new", "empty holds no pairs; expected id, gold, pred and kind on each line"),
        (f"{CHECK} solutions", "solutions is read, so it cannot be written too"),
        (f"{CHECK} tasks", "tasks is read, so it cannot be written too"),
        (f"{CHECK} new --first -3", "--first -3, "),
        (f"{CHECK} new --ks 0", "each must be at least 1"),
        (
            "code check --benchmark humaneval --data empty --any-version --output new",
            "empty holds no tasks of humaneval",
        ),
        (f"{OVERLAP} train --output train", "train is read, so it cannot be written too"),
        (f"{OVERLAP} train --output bench", "bench is read, so it cannot be written too"),
        (f"{OVERLAP} deep", "deep, line 1: JSON that Python cannot read"),
        (f"{OVERLAP} empty", "empty holds no problems; expected JSONL with question or problem on each line"),
        (f"{OVERLAP} missing", "no problem file at missing; expected JSONL"),
        (f"{OVERLAP} bench", "no benchmark problems at bench; expected JSONL files other than that of --problems"),
        ("eval --problems ,", "--problems names no set, found ','"),
        ("eval --problems train --data dir --samples 0", "--samples is 0; at least one attempt per problem is needed"),
        ("eval --problems train,train --output new", "two sets have one name: train, train; name each once"),
        ("eval --problems train --output empty", "nothing can be written at empty (File exists); give another place"),
    ],
)
def test_a_mistake_is_one_sentence_that_says_what_to_do_and_costs_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(command.split())
    assert ended.value.code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("thor: ")
    assert sentence in told
    assert {name: (folder / name).read_text() for name in FILES} == FILES
    assert {path.name for path in folder.iterdir()} == {*FILES, "dir"}
