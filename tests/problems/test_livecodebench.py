"""LiveCodeBench in the form its authors publish: what is unpacked, what is refused, and what a release consists of."""

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from thor_tir.errors import UsageError
from thor_tir.problems import livecodebench
from thor_tir.problems.code_sources import code_set
from thor_tir.problems.livecodebench import FILES, hidden_pairs, release_files, release_tasks, unpacked

HIDDEN = [{"input": "5\n7\n", "output": "12\n", "testtype": "stdin"}]


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def row(number: int, *, private: str, name: str = "", date: str = "2024-09-01T00:00:00") -> dict[str, Any]:
    kind = "functional" if name else "stdin"
    return {
        "question_title": "Sum",
        "question_content": f"Add two numbers ({number}).",
        "platform": "leetcode" if name else "atcoder",
        "question_id": f"q{number}",
        "contest_id": "c1",
        "contest_date": date,
        "starter_code": f"class Solution:\n    def {name}(self, a: int, b: int) -> int:\n        " if name else "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([{"input": "1\n2", "output": "3", "testtype": kind}]),
        "private_test_cases": private,
        "metadata": json.dumps({"func_name": name} if name else {}),
    }


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_gives_its_public_tests_at_once_and_its_hidden_ones_when_they_are_asked_for(tmp_path: Path) -> None:
    path = write(
        tmp_path / "test.jsonl", row(1, private=packed(json.dumps(HIDDEN))), row(2, private=json.dumps(HIDDEN))
    )
    for task in release_tasks("livecodebench_v1", [path], timeout_s=6.0):
        assert (task.tests.pairs, task.tests.is_stdin) == ((("1\n2", "3"),), True)
        assert task.tests.every_pair() == [("1\n2", "3"), ("5\n7\n", "12\n")]
        assert (task.subject, task.level, task.date, task.entry_point) == ("atcoder", "easy", "2024-09-01", "")


def test_a_row_with_a_function_name_is_a_method_with_its_starter_code(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", row(1, private="[]", name="add"))
    (task,) = release_tasks("livecodebench_v1", [path], timeout_s=6.0)
    assert (task.entry_point, task.tests.is_stdin) == ("Solution.add", False)
    assert task.shown.startswith("class Solution:\n    def add(")


class Runs:
    """Unpickles by running code of its own."""

    def __reduce__(self) -> Any:
        return print, ("this must not be printed",)


def test_hidden_tests_that_would_run_code_are_refused_unrun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "test.jsonl", row(1, private=packed(Runs())))
    with pytest.raises(UsageError, match=r"byte 0: its hidden tests cannot be read \(it asks for builtins\.print"):
        hidden_pairs(path, 0)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="holds a list where a text should be"):
        unpacked(packed([1]))
    with pytest.raises(ValueError, match="ends too early"):
        unpacked(base64.b64encode(zlib.compress(pickle.dumps("text"))[:-6]).decode())
    monkeypatch.setattr(livecodebench, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="is over"):
        unpacked(packed("[" + "0," * 5000 + "0]"))


def test_a_release_is_the_files_before_it_as_well_and_a_missing_one_is_named(tmp_path: Path) -> None:
    for number, name in enumerate(FILES[:2]):
        write(tmp_path / name, row(number, private="[]"))
    assert [path.name for path in release_files(2, tmp_path)] == ["test.jsonl", "test2.jsonl"]
    with pytest.raises(UsageError, match=r"lacks test3\.jsonl, test4\.jsonl of LiveCodeBench's release 4"):
        release_files(4, tmp_path)
    found = code_set("livecodebench-v2", tmp_path)
    assert found.notes == ("livecodebench_v2 has 511 tasks, found 2",)
    assert [task.id for task in found.tasks] == ["livecodebench/q0", "livecodebench/q1"]


def test_a_release_that_is_not_at_hand_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(repository: str, name: str, *, repo_type: str) -> str:
        assert (repository, repo_type) == ("livecodebench/code_generation_lite", "dataset")
        if name == "test2.jsonl":
            raise LocalEntryNotFoundError("no network\nsecond line")
        return str(write(tmp_path / name, row(1, private="[]")))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert len(code_set("livecodebench_v1", None).tasks) == 1
    with pytest.raises(UsageError, match=r"cannot be loaded \(no network\); give --data a folder with test\.jsonl"):
        code_set("livecodebench_v2", None)


def test_a_damaged_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    broken = row(1, private="[]")
    del broken["question_content"]
    path = write(tmp_path / "test.jsonl", row(0, private="[]"), broken)
    with pytest.raises(UsageError, match=r"test\.jsonl, line 2: not a task of LiveCodeBench \(KeyError"):
        list(release_tasks("livecodebench_v1", [path], timeout_s=6.0))
