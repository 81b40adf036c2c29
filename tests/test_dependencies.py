"""Every dependency has a reason, and whatever is missing is said in a sentence that names its extra."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.extras import EXTRAS, need, need_of

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def packages(requirements: list[str]) -> set[str]:
    """Names of foreign packages, without versions."""
    names = {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}
    return names - {PROJECT["name"]}


def declared() -> dict[str, set[str]]:
    """Each package of pyproject.toml, with the places that name it."""
    groups = {"core": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    found: dict[str, set[str]] = {}
    for group, requirements in groups.items():
        for package in packages(requirements):
            found.setdefault(package, set()).add(group)
    return found


def test_the_table_of_reasons_names_exactly_what_is_declared_and_where() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert {name: set(place.replace("`", "").split(", ")) for name, place, _ in rows} == declared()


def test_every_extra_that_a_sentence_names_brings_the_package_it_is_named_for() -> None:
    known = declared()
    named = {package.replace("_", "-"): extra for package, extra in EXTRAS.items()}
    assert all(extra in known[package] for package, extra in named.items())
    assert named.keys() == {p for p, places in known.items() if places - {"core", "test", "docs", "reference"}}


def test_a_missing_package_is_a_sentence_and_a_fault_of_ours_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thor_tir.extras.find_spec", lambda name: None)
    sentence = r"an adapter needs peft, which is not installed: pip install '\.\[lora\]'"
    with pytest.raises(UsageError, match=sentence):
        need("peft", "an adapter")
    with pytest.raises(UsageError, match=sentence):
        need_of(ModuleNotFoundError("no", name="peft.tuners"), "an adapter")
    need_of(ModuleNotFoundError("no", name="thor_tir.nowhere"), "an adapter")  # and the import's own fault is raised


def test_without_any_extra_data_evaluation_and_grading_work_and_the_rest_says_what_is_missing(tmp_path: Path) -> None:
    script = ROOT / "tests" / "support" / "core_commands.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    came = json.loads(done.stdout)
    assert {name: status for name, (status, _) in came.items()} == {
        "grade": 0,
        "sandbox run": 0,
        "tirgen": 0,
        "eval": 0,
        "families": 2,
        "rl": 2,
    }, came
    assert "100.0" in came["eval"][1]
    assert len((tmp_path / "tirgen" / "dataset.jsonl").read_text().splitlines()) == 2
    for name, extra in (("families", "gym"), ("rl", "local")):
        assert came[name][1].endswith(f"pip install '.[{extra}]'\n")
