"""The front door of the package: few names, and cheap to open."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
import yaml

import thor_tir

EXPORTS = {
    "Action",
    "ExecutionResult",
    "Grader",
    "Observation",
    "Problem",
    "RolloutConfig",
    "Step",
    "Thor",
    "Thought",
    "Trajectory",
    "TransformersEngine",
    "Verdict",
    "load_model",
    "read_problems",
}
"""What a user may import from `thor_tir` itself; changing it is changing a promise."""

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "sympy", "reasoning_gym")
"""Each costs about a second or more to import."""


def loaded_after(statements: str) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded once it ran the statements."""
    program = f"{statements}\nimport sys\nprint(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.split())


def test_the_front_door_offers_exactly_the_promised_names() -> None:
    assert set(thor_tir.__all__) == EXPORTS
    assert len(thor_tir.__all__) == len(EXPORTS)  # no name twice
    assert set(dir(thor_tir)) >= EXPORTS  # completion in a notebook shows them


def test_no_promised_name_is_also_a_module_which_would_take_its_place_once_imported() -> None:
    assert EXPORTS.isdisjoint(module.name for module in iter_modules(thor_tir.__path__))


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_a_name_at_the_front_door_is_the_object_of_its_own_module(name: str) -> None:
    exported = getattr(thor_tir, name)
    assert exported.__module__.startswith("thor_tir.")
    assert getattr(import_module(exported.__module__), name) is exported


def test_an_unknown_name_is_an_attribute_error_that_repeats_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = thor_tir.no_such_name


def test_importing_the_package_and_its_nouns_loads_nothing_heavy() -> None:
    assert loaded_after("import thor_tir") == set()
    assert loaded_after("from thor_tir import Problem, RolloutConfig, Trajectory, Verdict, read_problems") == set()


def test_the_check_for_heavy_modules_would_notice_one() -> None:
    assert loaded_after("import sympy") == {"sympy"}


@pytest.mark.parametrize(
    "module",
    ["app.config", "distributed", "engines.protocol", "inference.best_of_n", "rollout.loop", "rollout.sample_many"],
)
def test_what_samples_or_only_configures_loads_no_deep_learning_library(module: str) -> None:
    ask = f"import sys, thor_tir.{module}; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.strip() == "[]"


def test_whoever_cites_or_builds_the_package_gets_the_version_and_the_licence_of_its_record() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["preferred-citation"]["url"] == project["urls"]["Paper"]
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert all((ROOT / name).exists() for line in copied for name in line.split())
