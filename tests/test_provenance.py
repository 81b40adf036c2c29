"""Every run folder says where its results come from, and notices inputs that changed."""

import json
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.provenance import END_BYTES, file_digest, input_digests, machine, versions
from thor_tir.storage.run_lock import claim


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": "2"}\n')
    return path


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_a_run_folder_holds_command_options_versions_commit_machine_and_inputs(tmp_path, problems, monkeypatch):
    monkeypatch.setattr("sys.argv", ["thor", "rl", "--problems", "a b.jsonl"])
    with claim(tmp_path / "run", {"seed": 1}, inputs=(problems,)):
        pass
    record = record_of(tmp_path / "run")
    assert set(record) == {"command", "options", "versions", "commit", "machine", "inputs"}
    assert record["command"] == "thor rl --problems 'a b.jsonl'"
    assert record["options"] == {"seed": 1}
    assert record["inputs"] == {str(problems): file_digest(problems)}
    assert record["versions"] == versions()
    assert record["machine"] == machine()


def test_a_continued_run_keeps_its_record(tmp_path, problems, monkeypatch):
    with claim(tmp_path / "run", {}, inputs=(problems,)):
        first = record_of(tmp_path / "run")
    monkeypatch.setattr("sys.argv", ["thor", "other"])
    with claim(tmp_path / "run", {}, inputs=(problems,)):
        assert record_of(tmp_path / "run") == first


def test_a_file_of_functions_may_be_corrected_and_the_record_says_so(tmp_path, problems, caplog):
    mine = tmp_path / "mine.py"
    mine.write_text("def f(problem, trajectory, verdict):\n    raise OSError\n")
    with claim(tmp_path / "run", {}, inputs=(problems,), functions=[str(mine)]):
        before = file_digest(mine)
    mine.write_text("def f(problem, trajectory, verdict):\n    return 1\n")
    with claim(tmp_path / "run", {}, inputs=(problems,), functions=[str(mine)]):
        record = record_of(tmp_path / "run")
    assert record["mended"] == [{"file": str(mine), "before": before, "now": file_digest(mine)}]
    assert record["inputs"][str(mine)] == file_digest(mine)
    assert "what it gave before is kept" in caplog.text
    mine.write_text("def f(problem, trajectory, verdict):\n    return 2\n")
    with (
        pytest.raises(UsageError, match=r"mine\.py changed since the run"),
        claim(tmp_path / "run", {}, inputs=(problems, mine), functions=[str(mine)]),
    ):
        pass


@pytest.mark.parametrize("change", ["edit", "remove", "add to the folder"])
def test_an_input_that_changed_since_the_run_began_is_named(tmp_path, problems, change):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with claim(tmp_path / "run", {}, inputs=(problems, model)):
        pass
    if change == "edit":
        problems.write_text('{"question": "1 + 1?", "answer": "999"}\n')
    elif change == "remove":
        problems.unlink()
    else:
        (model / "weights").write_text("")
    with (
        pytest.raises(UsageError, match=r"(problems.jsonl|weights) changed since the run in .* began: put back"),
        claim(tmp_path / "run", {}, inputs=(problems, model)),
    ):
        pass


def test_a_damaged_record_is_one_sentence(tmp_path, problems):
    with claim(tmp_path / "run", {}):
        pass
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run.json is damaged"), claim(tmp_path / "run", {}):
        pass


def test_hub_names_and_addresses_have_no_digest(problems):
    assert input_digests(["Qwen/Qwen3-8B", "http://localhost:8000/v1", "reasoning_gym", "", problems]).keys() == {
        str(problems)
    }


def test_a_large_file_is_known_by_its_size_and_both_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("thor_tir.provenance.WHOLE_BYTES", 3 * END_BYTES)
    path = tmp_path / "weights"
    path.write_bytes(bytes(4 * END_BYTES))
    before = file_digest(path)
    assert before.startswith(f"{4 * END_BYTES}:")
    with path.open("r+b") as file:
        file.seek(4 * END_BYTES - 1)
        file.write(b"x")
    assert file_digest(path) != before
