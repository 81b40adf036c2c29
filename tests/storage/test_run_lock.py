"""A folder belongs to one run, and to one process at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.storage.run_lock import changes, claim

HOLDER = """
import sys
from pathlib import Path
from thor_tir.storage.run_lock import claim
with claim(Path(sys.argv[1]), {"seed": 1}):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_has_ended_however_it_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    with (
        pytest.raises(UsageError, match=rf"^another process \(number {holder.pid}\) works in .*: wait") as caught,
        claim(tmp_path, {"seed": 1}),
    ):
        raise AssertionError("both may write")
    assert "\n" not in str(caught.value)
    holder.kill()
    holder.communicate()
    with claim(tmp_path, {"seed": 1}):
        assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}


def test_other_options_are_refused_by_their_names_and_the_same_ones_accepted(tmp_path: Path) -> None:
    options = {"rl": {"seed": 1, "families": ("a", "b")}, "output": tmp_path}
    for _ in range(2):
        with claim(tmp_path, options):
            pass
    with (
        pytest.raises(UsageError, match=r"other options \(rl.seed was 1, is 2\): give the same options"),
        claim(tmp_path, {**options, "rl": {"seed": 2, "families": ("a", "b")}}),
    ):
        raise AssertionError("another run may write here")


def test_a_run_may_be_continued_with_its_programs_elsewhere(tmp_path: Path) -> None:
    options = {
        "resources": {"sandbox": {"endpoints": ["http://a"]}, "endpoint": {"patience": {"retries": 5}}, "rows": 2}
    }
    moved = {"resources": {"sandbox": {"endpoints": ["http://b"]}, "endpoint": {"patience": {"retries": 9}}, "rows": 2}}
    with claim(tmp_path, options):
        pass
    with claim(tmp_path, moved):
        pass
    moved["resources"]["rows"] = 3
    with pytest.raises(UsageError, match=r"other options \(resources.rows was 2, is 3\)"), claim(tmp_path, moved):
        raise AssertionError("another run may write here")


def test_a_damaged_list_of_options_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed"')
    with pytest.raises(UsageError, match=r"config.json is damaged, so nobody knows"), claim(tmp_path, {"seed": 1}):
        raise AssertionError("nobody knows what is continued")


def test_a_mistake_before_anything_was_written_gives_the_folder_up_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deep"
    with pytest.raises(UsageError, match="mistaken"), claim(folder, {"seed": 1}):
        raise UsageError("mistaken")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="mistaken"), claim(folder, {"seed": 1}):
        _work_then_fail(folder)
    assert (folder / "config.json").exists()


def _work_then_fail(folder: Path) -> None:
    (folder / "work").touch()
    raise UsageError("mistaken")


def test_options_that_came_or_went_are_changes_too() -> None:
    assert changes({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"d": None, "e": "x"}}) == [
        "b.c was 2, is null",
        'b.e was null, is "x"',
    ]


def test_a_mistake_leaves_the_folder_above_to_a_run_that_has_begun_beside_it(tmp_path: Path) -> None:
    def beside() -> None:
        (tmp_path / "runs" / "other").mkdir()
        raise UsageError("mistaken")

    with pytest.raises(UsageError, match="mistaken"), claim(tmp_path / "runs" / "mine", {"seed": 1}):
        beside()
    assert [place.name for place in (tmp_path / "runs").iterdir()] == ["other"]
