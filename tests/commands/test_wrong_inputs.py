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
REPRODUCE = "reproduce table6 --model nano/actor --dry-run --problems"
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
        (f"{OVERLAP} empty", "empty holds no problems; expected rows with question, problem or prompt"),
        (f"{OVERLAP} missing", "no problem file at missing; expected JSONL"),
        (f"{OVERLAP} bench", "no benchmark problems at bench; expected files other than that of --problems"),
        ("eval --problems ,", "--problems names no set, found ','"),
        ("eval --problems ./train --correction.scope suffix", "give --correct as well"),
        ("eval --problems ./train --no-tools --dialect tool-call --tool t.py:T", "so --tool would not be read"),
        ("eval --problems ./train --data dir", "--data holds files of benchmarks, and ./train is none"),
        ("rl --problems ./train --num-rounds 1 --reward", "--reward names at least one reward"),
        ("rl --problems ./train --dry-run --model nano/actor --count 0", "--count is the problems that training"),
        ("rl --problems ./train --dry-run --model nano/acter", "there is no model 'nano/acter': the package has"),
        ("reproduce --model nano --dry-run", "name tables, of table2, table3"),
        (f"{REPRODUCE} ./train --test-problems ./empty", "empty holds no problems"),
        (f"{REPRODUCE} ./train --test-problems ./train", "every problem of ./train stands in ./train too"),
        (f"{REPRODUCE} ./pairs --test-problems ./bench", "none of these options: rename the columns"),
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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rl", "--learning-rate", "-1"), "--learning-rate is -1; it must be larger than 0"),
        (("rl", "--micro-batch-tokens", "0"), "--micro-batch-tokens is 0; it must be at least 1"),
        (("rl", "--save-total-limit", "0"), "--save-total-limit is 0; it must be at least 1"),
        (("rl", "--validate-every", "-1"), "--validate-every is -1; it must be at least 0"),
        (("rl", "--problems-per-round", "0"), "--problems-per-round is 0; it must be at least 1"),
        (("rl", "--concurrency", "0"), "--concurrency is 0; at least one attempt is in flight"),
        (("sft", "--train-batch-size", "0"), "--train-batch-size is 0; it must be at least 1"),
        (("sft", "--max-grad-norm", "0"), "--max-grad-norm is 0; it must be larger than 0"),
        (("eval", "--seed", "-1"), "--seed is -1; a seed is 0 or larger"),
        (("eval", "--concurrency", "0"), "--concurrency is 0; at least one attempt is in flight"),
        (
            ("rl", "--reward", "exac", "--output", "OUT"),
            "unknown reward 'exac'; known: exact, boxed, format, calls, kilotokens",
        ),
    ],
)
def test_a_value_out_of_bounds_is_said_by_its_option_alone(words, sentence, tmp_path, capsys) -> None:
    words = [str(tmp_path / "run") if word == "OUT" else word for word in words]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--model", "nano/actor"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Config(" not in said
