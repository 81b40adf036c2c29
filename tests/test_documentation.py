"""What a reader is promised of the package's words: every field of a record is explained, and pages stay readable."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "thor_tir"
RIDDLE = re.compile(r"^(Of|So (many|much|long|often)|What|Whether|How)\b")
"""Docstrings that begin so have no subject."""
MAX_WORDS = 1200
"""Of a page. Longer ones are split: details behind links."""
WHOLE = {"follow_one_sample.md", "family_nano.md", "family-time_nano.md"}
"""Pages that are no prose: a program, which is read and run from one end to the other, and a table of comparisons."""


def records(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """The dataclasses of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            yield node


def fields(record: ast.ClassDef) -> Iterator[tuple[str, str | None]]:
    """Name and docstring of each public field."""
    for this, following in zip(record.body, [*record.body[1:], None], strict=True):
        if isinstance(this, ast.AnnAssign) and not (name := ast.unparse(this.target)).startswith("_"):
            is_said = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            said = following.value.value if is_said else None
            yield name, said if isinstance(said, str) else None


def complaints(text: str, file: str) -> list[str]:
    """Fields of records without a docstring, or with one that has no subject."""
    found = []
    for record in records(ast.parse(text)):
        for name, said in fields(record):
            if said is None:
                found.append(f"{file}: {record.name}.{name} has no docstring")
            elif RIDDLE.match(said):
                found.append(f"{file}: {record.name}.{name} has no subject: {said.splitlines()[0]}")
    return found


def test_every_field_of_every_record_is_explained_by_a_sentence_with_a_subject() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    found = [c for p in files for c in complaints(p.read_text(encoding="utf-8"), str(p.relative_to(PACKAGE)))]
    assert not found, "\n".join(found)


def test_a_planted_field_without_a_sentence_or_without_a_subject_is_reported() -> None:
    source = (
        '@dataclass(frozen=True)\nclass A:\n    x: int\n    y: int\n    """Of all."""\n    z: int\n    """Often."""\n'
    )
    assert [line.split(": ")[1].split()[0] for line in complaints(source, "a.py")] == ["A.x", "A.y"]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_a_page_is_short_enough_to_be_read(page: Path) -> None:
    read = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"))
    assert page.name in WHOLE or len(read.split()) <= MAX_WORDS


def test_decisions_are_numbered_one_by_one() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name.split("-")[0]) for path in files] == list(range(1, len(files) + 1))
    titles = [path.read_text(encoding="utf-8").partition("\n")[0] for path in files]
    assert [int(title.removeprefix("# ").split(".")[0]) for title in titles] == list(range(1, len(files) + 1))
