"""The import order of the package, read from its import statements; nothing is executed.

    nouns, storage, tools, address, distributed, web_service
         <- sandbox | grading | dialect | engines | problems | learner
         <- rollout, tracking, console <- tirgen | sft | rl | inference | reward
         <- eval <- app, view, reproduce <- serving <- cli, commands

An arrow may skip ranks and never turns round. Folders of one rank do not import each other: they meet through records
on disk or a callable that a recipe hands in.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "thor_tir"
NAME = PACKAGE.name


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Units (folders or top-level modules) at one height of the import order."""

    units: frozenset[str]
    may_meet: bool = False
    """Whether units of this rank may import each other."""


def rank(units: str, *, may_meet: bool = False) -> Rank:
    return Rank(units=frozenset(units.split()), may_meet=may_meet)


NOUNS = rank("errors execution problem seeds trajectory verdict")
ORDER = (
    rank(
        "errors execution hooks problem progress trajectory verdict address chat_template distributed pretrained "
        "on_ray native products ending "
        "extras garbage provenance seeds storage tools web_service",
        may_meet=True,
    ),
    rank("sandbox grading dialect engines problems learner"),
    rank("rollout tracking console", may_meet=True),
    rank("tirgen sft rl inference reward"),
    rank("eval"),
    rank("app view reproduce"),
    rank("serving"),
    rank("cli commands api __main__ __init__", may_meet=True),
)
"""Lowest first. A new folder or top-level module is placed here, or the tests fail."""

FORMULAS = ("learner/objective.py", "eval/statistics.py")
"""Files of pure formulas: the standard library, torch and numpy, nothing of ours."""

NAMELESS = frozenset({"utils", "util", "common", "helpers", "helper", "core", "misc"})
"""Names that say nothing about what is inside."""

MAX_LINES = 400


@dataclass(frozen=True, kw_only=True)
class Import:
    """One module that a file imports, anywhere in the file."""

    file: str
    """Relative to the package, with forward slashes."""
    line: int
    module: str
    """Absolute dotted name; begins with a dot where the source wrote a relative import."""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def importer(self) -> str:
        """The unit that holds the file."""
        return self.file.split("/")[0].removesuffix(".py")

    @property
    def unit(self) -> str | None:
        """The unit of ours that is imported; None for a foreign module, `__init__` for the package itself."""
        first, _, rest = self.module.partition(".")
        return None if first != NAME else rest.split(".")[0] or "__init__"


def imported_modules(node: ast.AST) -> list[str]:
    """Dotted names that an import statement names; `from thor_tir import x` counts as `thor_tir.x` if x is a unit."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level) if level == 0 and module == NAME:
            return [f"{NAME}.{a.name}" if any(a.name in r.units for r in ORDER) else NAME for a in names]
        case ast.ImportFrom(module=module, level=level):
            return ["." * level + (module or "")]
    return []


def imports(package: Path) -> Iterator[Import]:
    """Every import statement below a package folder, those inside functions included."""
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module in imported_modules(node):
                yield Import(file=file, line=getattr(node, "lineno", 0), module=module)


def height(unit: str) -> int | None:
    """The rank of a unit; None if ORDER does not place it."""
    return next((i for i, rank in enumerate(ORDER) if unit in rank.units), None)


def unplaced(package: Path) -> list[str]:
    """Folders with Python in them, and top-level modules, that ORDER does not mention."""
    units = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")}
    return [f"{u} has no place in the import order: add it to ORDER" for u in sorted(units) if height(u) is None]


def broken_order(package: Path) -> list[str]:
    """Imports that go up a rank, or sideways between folders that should not know each other."""
    found = []
    for i in imports(package):
        here, there = height(i.importer), height(i.unit) if i.unit else None
        if i.module.startswith("."):
            found.append(f"{i.where} imports {i.module} relatively: write the absolute name")
        elif here is None or there is None or i.unit == i.importer or there < here:
            continue
        elif there > here:
            found.append(f"{i.where} imports {i.module}, which stands above {i.importer}")
        elif not ORDER[here].may_meet:
            found.append(f"{i.where} imports {i.module}, but {i.importer} and {i.unit} share a rank")
    return found


def modules(package: Path) -> dict[str, Path]:
    """Every module below a package folder by its dotted name; a folder's `__init__` goes by the folder's name."""
    files = {f"{NAME}.{'.'.join(p.relative_to(package).with_suffix('').parts)}": p for p in package.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in files.items()}


def arrows(package: Path) -> dict[str, set[str]]:
    """For each module the modules of ours that it imports anywhere, for types alone included."""
    known = modules(package)
    found: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found[name].add(inner if inner in known else node.module)
            elif isinstance(node, ast.Import):
                found[name].update(alias.name for alias in node.names)
    return {name: (there & known.keys()) - {name} for name, there in found.items()}


def circles(package: Path) -> list[str]:
    """Modules that import each other, however long the way round."""
    graph = arrows(package)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in graph.get(todo.pop(), ()):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return seen

    ways = {name: reached(name) for name in graph}
    return sorted(f"{name} imports itself by way of others" for name in graph if name in ways[name])


def foreign_imports(package: Path, files: tuple[str, ...], *, allowed: frozenset[str]) -> list[str]:
    """Imports, in the named files, of anything but the standard library and the allowed top-level modules."""
    fine = allowed | sys.stdlib_module_names
    return [
        f"{i.where} imports {i.module}; allowed here: the standard library{''.join(f', {a}' for a in sorted(allowed))}"
        for i in imports(package)
        if i.file in files and i.module.split(".")[0] not in fine
    ]


def nameless(package: Path) -> list[str]:
    """Folders and modules whose name says nothing."""
    paths = sorted(p for p in package.rglob("*") if p.is_dir() or p.suffix == ".py")
    return [f"{p.relative_to(package)} says nothing by its name" for p in paths if p.stem in NAMELESS]


def too_long(root: Path) -> list[str]:
    """Python files above the limit of lines."""
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in sorted(root.rglob("*.py"))}
    return [f"{p.relative_to(root)} has {n} lines, more than {MAX_LINES}" for p, n in lengths.items() if n > MAX_LINES]


def test_every_folder_and_module_has_a_place_in_the_import_order() -> None:
    assert not unplaced(PACKAGE), "\n".join(unplaced(PACKAGE))


def test_imports_never_turn_round_and_never_cross_between_folders_of_one_rank() -> None:
    assert not broken_order(PACKAGE), "\n".join(broken_order(PACKAGE))


def test_no_two_files_import_each_other_in_a_circle() -> None:
    assert not circles(PACKAGE), "\n".join(circles(PACKAGE))


def test_a_planted_circle_is_reported_even_where_an_arrow_is_for_types_alone(tmp_path: Path) -> None:
    plant(tmp_path, "rl/a.py", f"from {NAME}.rl import b")
    plant(tmp_path, "rl/b.py", f"def f():\n    from {NAME}.rl.c import x")
    assert circles(tmp_path) == []
    plant(tmp_path, "rl/c.py", f"if TYPE_CHECKING:\n    from {NAME}.rl.a import y")
    assert [line.split()[0].rpartition(".")[2] for line in circles(tmp_path)] == ["a", "b", "c"]


def test_nouns_need_nothing_but_the_standard_library_and_each_other() -> None:
    found = foreign_imports(PACKAGE, tuple(f"{u}.py" for u in NOUNS.units), allowed=frozenset({NAME}))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("file", FORMULAS)
def test_a_formula_file_needs_nothing_but_torch_numpy_scipy_and_the_standard_library(file: str) -> None:
    assert (PACKAGE / file).is_file(), f"{file} is gone: name the file that holds its formulas in FORMULAS"
    found = foreign_imports(PACKAGE, (file,), allowed=frozenset({"torch", "numpy", "scipy"}))
    assert not found, "\n".join(found)


def test_no_folder_or_module_has_a_name_that_says_nothing() -> None:
    assert not nameless(PACKAGE), "\n".join(nameless(PACKAGE))


@pytest.mark.parametrize("folder", ["src", "tests", "scripts", "benchmarks"])
def test_no_file_is_longer_than_a_reader_can_hold(folder: str) -> None:
    assert not too_long(REPOSITORY / folder), "\n".join(too_long(REPOSITORY / folder))


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        (
            "sandbox/batch.py",
            "import thor_tir.rollout.loop",
            "sandbox/batch.py:1 imports thor_tir.rollout.loop, which stands above",
        ),
        (
            "rl/step.py",
            "def f():\n    from thor_tir.sft import train",
            "rl/step.py:2 imports thor_tir.sft, but rl and sft",
        ),
        ("rl/step.py", "from thor_tir import eval", "rl/step.py:1 imports thor_tir.eval, which stands above rl"),
        ("problem.py", "from thor_tir import Problem", "problem.py:1 imports thor_tir, which stands above problem"),
        ("rl/step.py", "from ..sft import train", "rl/step.py:1 imports ..sft relatively"),
    ],
    ids=["upwards", "sideways inside a function", "upwards by name", "through the front door", "relative"],
)
def test_a_planted_import_against_the_order_is_reported(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    plant(tmp_path, file, source)
    (found,) = broken_order(tmp_path)
    assert found.startswith(complaint)


def test_imports_along_the_order_are_left_alone(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "rl/step.py",
        "import json\nimport torch\nfrom thor_tir.rl.algorithms import a\nimport thor_tir.rollout",
    )
    plant(tmp_path, "storage/claim.py", "from thor_tir.problem import Problem")
    plant(tmp_path, "eval/run.py", "from thor_tir import inference, trajectory")
    assert broken_order(tmp_path) == []


def test_each_other_planted_fault_is_reported(tmp_path: Path) -> None:
    plant(tmp_path, "helpers/text.py", "\n" * MAX_LINES)
    plant(tmp_path, "problem.py", "import os.path\nimport numpy")
    assert unplaced(tmp_path) == ["helpers has no place in the import order: add it to ORDER"]
    assert nameless(tmp_path) == ["helpers says nothing by its name"]
    assert too_long(tmp_path) == []  # as many line ends as lines are allowed
    plant(tmp_path, "helpers/text.py", "\n" * (MAX_LINES + 1))
    assert too_long(tmp_path) == ["helpers/text.py has 401 lines, more than 400"]
    (found,) = foreign_imports(tmp_path, ("problem.py",), allowed=frozenset({NAME}))
    assert found.startswith("problem.py:2 imports numpy")


def plant(package: Path, file: str, source: str) -> None:
    """Write one source file into a throw-away package."""
    path = package / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source, encoding="utf-8")
