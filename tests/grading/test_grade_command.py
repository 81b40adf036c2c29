"""`thor grade`: pairs in, verdicts out."""

import json
from pathlib import Path

import pytest

from thor_tir import cli
from thor_tir.grading.types import grader_version

PAIRS = [
    {"id": "a", "gold": "12", "pred": "12", "kind": "answer"},
    {"id": 2, "gold": "12", "pred": r"So it is \boxed{13}.", "kind": "response"},
    {"id": "c", "gold": "(x+1)^2", "pred": r"Hence \boxed{x^2+2x+1}.", "kind": "response"},
    {"id": "d", "gold": "}{", "pred": "x+\ud8001", "kind": "answer"},
    {"id": "e", "gold": 12, "pred": "I do not know", "kind": "response"},
]


def run(folder: Path, lines: list[str], *options: str) -> int:
    source = folder / "pairs.jsonl"
    source.write_text("\n".join(lines) + "\n")
    argv = ["grade", "--jsonl", str(source), "--output", str(folder / "verdicts.jsonl"), "--workers", "1", *options]
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    return ended.value.code


def verdicts(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def test_verdicts_come_in_the_order_of_the_pairs_and_are_counted(tmp_path, capsys):
    assert run(tmp_path, [json.dumps(pair) for pair in PAIRS], "--strict") == 0
    found = verdicts(tmp_path)
    assert [row["id"] for row in found] == ["a", 2, "c", "d", "e"]
    assert [row["outcome"] for row in found] == ["correct", "wrong", "correct", "unscored", "wrong"]
    assert [row["extracted"] for row in found] == ["12", "13", "x^2+2x+1", "x+\ud8001", None]
    assert all(set(row) == {"id", "outcome", "extracted", "reason", "seconds"} for row in found)
    told = capsys.readouterr().out
    assert "correct 2, wrong 2, unscored 1" in told
    assert grader_version() in told


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "b", "gold": "1"', "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        ('{"id": "b", "gold": "1", "pred": "1", "kind": "essay"}', "`kind` is answer or response, found 'essay'"),
        ('{"id": "b", "gold": "1", "kind": "answer"}', "`pred` must be a string or a number, found None"),
        ('{"gold": "1", "pred": "1", "kind": "answer"}', "`id` must be a string or an integer, found None"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_written(tmp_path, capsys, line, reason):
    assert run(tmp_path, [json.dumps(PAIRS[0]), "", line]) == 2
    told = capsys.readouterr().err
    assert "pairs.jsonl, line 3: " in told
    assert reason in told
    assert not (tmp_path / "verdicts.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--strict", "--lenient"], "choose one of --strict and --lenient"),
        (["--strictness", "lenient", "--strict"], "choose one of --strict and --lenient"),
        (["--judge-model", "m"], "--judge-model needs --lenient"),
        (["--timeout-s", "0"], "must be positive"),
    ],
)
def test_contradictory_options_are_one_sentence(tmp_path, capsys, options, sentence):
    assert run(tmp_path, [json.dumps(PAIRS[0])], *options) == 2
    assert sentence in "".join(capsys.readouterr())


@pytest.mark.parametrize(("option", "name"), [("--lenient", "lenient"), ("--strict", "strict")])
def test_the_strictness_that_was_asked_for_is_the_one_that_is_used(tmp_path, capsys, option, name):
    assert run(tmp_path, [json.dumps(PAIRS[0])], option) == 0
    assert run(tmp_path, [json.dumps(PAIRS[0])], "--strictness", name) == 0
    assert capsys.readouterr().out.count(f"{name}, rules ") == 2


def test_a_missing_file_of_pairs_is_the_users_mistake(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["grade", "--jsonl", str(tmp_path / "none"), "--output", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "no file of pairs at" in capsys.readouterr().err
