"""Temporary folders of dead processes go; those of living ones stay."""

import os
import subprocess
import sys
from pathlib import Path

from thor_tir.storage.scratch import Scratch


def test_a_folder_of_a_killed_process_is_removed_by_the_next_and_those_of_the_living_stay(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom thor_tir.storage.scratch import Scratch\n"
        f"scratch = Scratch('thor-test-', Path({str(tmp_path)!r}))\n"
        "print(scratch.path, flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        (left / "model").mkdir()
        (unlocked := tmp_path / "thor-test-unlocked").mkdir()
        first = Scratch("thor-test-", tmp_path)
        second = Scratch("thor-test-", tmp_path)
        assert left.exists()
        assert first.path.exists()
        other.kill()
        other.wait()
        Scratch("thor-test-", tmp_path).cleanup()
        assert sorted(os.listdir(tmp_path)) == sorted(each.name for each in (first.path, second.path, unlocked))
    for each in (first, second):
        each.cleanup()
        each.cleanup()
    assert os.listdir(tmp_path) == [unlocked.name]


def test_a_folder_with_a_name_is_shared_and_goes_with_the_last_who_uses_it(tmp_path: Path) -> None:
    first = Scratch("thor-test-", tmp_path, name="run")
    second = Scratch("thor-test-", tmp_path, name="run")
    assert first.path == second.path == tmp_path / "thor-test-run"
    first.cleanup()
    Scratch("thor-test-", tmp_path).cleanup()  # looks for dead ones
    assert second.path.exists()
    second.cleanup()
    assert os.listdir(tmp_path) == []
    again = Scratch("thor-test-", tmp_path, name="run")
    assert again.path.exists()
    again.cleanup()


def test_a_place_that_is_no_folder_of_ones_own_is_not_shared(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (tmp_path / "thor-test-run").symlink_to(elsewhere)
    scratch = Scratch("thor-test-", tmp_path, name="run")
    assert scratch.path.name != "thor-test-run"
    scratch.cleanup()
    assert os.listdir(elsewhere) == []
