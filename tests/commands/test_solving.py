"""`thor solve` from its question to its exit status."""

import io
import json
import os
from pathlib import Path

import pytest

from asked_scripts import loads
from scripted_agent import program
from thor_tir import cli

ANSWER = r"It is \boxed{4}."


def status_of(*argv: str) -> object:
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    return end.value.code


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard input as a pipe that holds a question."""
    pipe = io.StringIO("2 + 2?\n")
    monkeypatch.setattr("sys.stdin", pipe)
    return pipe


@pytest.mark.parametrize("argv", [["2 + 2?"], ["-"], [], ["--file", "question.txt"]])
def test_a_question_comes_as_an_argument_through_a_pipe_or_from_a_file(
    argv: list[str], piped: io.StringIO, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "question.txt").write_text("2 + 2?\n")
    agent = loads(monkeypatch, [ANSWER] * 2)
    assert status_of("solve", *argv) == status_of("solve", " 2 + 2?") == 0
    one, other = agent.policy.asked
    assert "2 + 2?" in one.text
    assert one.text == other.text


def test_without_an_answer_the_status_is_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loads(monkeypatch, ["I do not know."] * 2)
    assert status_of("solve", "2 + 2?") == 3
    assert "no answer found" in capsys.readouterr().out
    assert status_of("solve", "2 + 2?", "--json") == 3
    assert json.loads(capsys.readouterr().out)["answer"] is None


def test_a_reader_that_leaves_ends_the_command_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads(monkeypatch, [program("print(1)"), ANSWER])
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patched, os.fdopen(writing, "w") as pipe:
        patched.setattr("sys.stdout", pipe)
        assert status_of("solve", "2 + 2?") == 1
    assert capsys.readouterr().err == ""


def test_json_is_one_object_with_steps_repairs_and_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads(monkeypatch, ["Both.\n" + program("boom"), "So.\n" + program("print(1)"), ANSWER])
    assert status_of("solve", "2 + 2?", "--json", "--seed", "5", "--correction.scope", "replan") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["question"], found["answer"], found["seed"], found["finish"]) == ("2 + 2?", "4", 5, "ended")
    assert [step["code"] for step in found["steps"]] == ["print(1)\n", None]
    assert found["steps"][0]["discarded"][0]["error"] == "NameError"
    assert (found["repairs"]["repaired"], found["repairs"]["retries"]) == (1, 1)


def test_candidates_are_shown_with_the_reason_of_the_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads(monkeypatch, [program("boom"), r"It is \boxed{3}.", program("print(1)"), ANSWER])
    assert status_of("solve", "2 + 2?", "--attempts", "2") == 0
    told = capsys.readouterr().out
    assert told.index("print(1)") < told.index("Candidates")
    assert "boom" not in told
    assert "chosen: candidate 2: pass rate 1, an answer 1; the best of 2" in told
    assert "answer: 4" in told


def test_a_selector_that_asks_the_model_shows_its_choice_and_its_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads(monkeypatch, {"7 * 11?": [r"\boxed{1}", r"\boxed{1}"], "Here are 2 solutions": ["hm"]})
    assert status_of("solve", "7 * 11?", "--attempts", "2", "--select", "gen-select") == 0
    out = capsys.readouterr().out
    assert "picked 0, share of the votes 1; 2 of 2 are as good, and the seed drew it" in " ".join(out.split())
    assert "asked for the choice: 1 requests, of which 1 gave nothing usable" in out


def test_a_selector_that_knows_the_answer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("solve", "2 + 2?", "--attempts", "2", "--select", "oracle") == 2
    assert "knows which attempts are right" in capsys.readouterr().err


def test_two_questions_and_a_file_that_is_none_are_refused(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("solve", "2 + 2?", "--file", "question.txt") == 2
    assert "two questions" in capsys.readouterr().err
    assert status_of("solve", "--file", "question.txt") == 2
    assert "question.txt" in capsys.readouterr().err
    (empty_folder / "question.txt").write_text("2 + 2?")
    assert status_of("solve", "question.txt") == 2
    assert "--file question.txt" in capsys.readouterr().err


def test_a_chat_reads_a_pipe_line_by_line(
    piped: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads(monkeypatch, [ANSWER])
    assert status_of("chat") == 0
    assert "answer: 4" in capsys.readouterr().out
