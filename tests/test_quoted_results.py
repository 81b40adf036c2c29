"""Numbers that README and docs quote are those of docs/results, and measured tables there are quotations."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if not {"log", "results"} & {*page.parts}
]
"""Pages whose tables of measured numbers are all quotations; log and results are homes of their own."""
QUOTING_PAGES = [page for page in PAGES if page.parent.name != "decisions"]
"""Pages whose prose quotes too; a decision keeps the numbers that it was made on."""
NUMBER = re.compile(r"(?<!\d)(?<!\d\.)(?<!arXiv )\d+\.\d+ \(|\d\.\d %|\d\.\d+ times")
"""A measured number: a value with its interval, a percentage, a ratio of speeds; a paper's number at arXiv is none."""
FENCED = re.compile(r"^(?P<fence> *(?:```+|~~~+))[^`\n]*\n(?:.*\n)*?(?P=fence) *$", re.MULTILINE)
"""A block of code between fences, which shows what a command prints and cannot hold a quotation."""


def quoting() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quote_results", ROOT / "scripts" / "quote_results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


QUOTING = quoting()


def unquoted(text: str) -> list[str]:
    """Lines, outside of quotations and of fenced code, that hold a measured number."""
    rest = QUOTING.FIGURE.sub("", QUOTING.TABLE.sub("", FENCED.sub("", text)))
    return [line for line in rest.splitlines() if NUMBER.search(line)]


def loose(text: str) -> list[str]:
    """Those lines of tables."""
    return [line for line in unquoted(text) if line.startswith("|")]


def test_every_quotation_is_what_its_result_file_holds() -> None:
    assert list(QUOTING.stale(ROOT)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_of_measured_numbers_are_quotations(page: Path) -> None:
    assert loose(page.read_text(encoding="utf-8")) == []


def planted(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "docs" / "results").mkdir(parents=True)
    table = {"head": ["", "a", "b"], "rows": [["x", "1.5", "2.5"], ["y", "3.5", "4.5"]]}
    record = {"schema": 1, "tables": {"main": table}, "figures": {"best": "72.5 %"}}
    (tmp_path / "docs" / "results" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    return list(QUOTING.stale(tmp_path))


def test_rows_and_columns_are_chosen_and_a_figure_stands_in_a_line(tmp_path: Path) -> None:
    table = "| | b |\n|---|---|\n| y | 4.5 |\n"
    text = f"<!-- results run/main rows 1 columns 0,2 -->\n{table}<!-- end results -->\n"
    assert planted(tmp_path, text + "It has <!--=run:best-->72.5 %<!--=-->, y <!--=run:main/y/b-->4.5<!--=-->.") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A vote has <!--=run:best-->72.6 %<!--=-->.", "differ"),
        ("A vote has <!--=run:worst-->1 %<!--=-->.", "holds no 'worst'"),
        ("It has <!--=run:main/y/b-->4.6<!--=-->.", "differ"),
        ("It has <!--=run:main/z/b-->4.5<!--=-->.", "holds no 'z'"),
        ("<!-- results gone/main -->\n| |\n<!-- end results -->", "holds no 'gone'"),
        ("<!-- results run/main rows 7 -->\n| |\n<!-- end results -->", "holds no list index"),
    ],
)
def test_a_number_that_no_result_file_holds_is_reported(tmp_path: Path, text: str, complaint: str) -> None:
    (found,) = planted(tmp_path, text)
    assert found.startswith("README.md")
    assert complaint in found


@pytest.mark.parametrize("page", QUOTING_PAGES, ids=lambda page: page.name)
def test_pages_of_results_quote_their_prose_too(page: Path) -> None:
    assert unquoted(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("fence", ["```", "````", "~~~", "   ```"])
def test_fenced_code_is_skipped_and_a_number_beside_it_is_found(fence: str) -> None:
    block = f"{fence}text\nAvg@1 30.0 (21.0-39.0)\n\n1.5 times\n{fence}\n"
    assert unquoted(f"It took 1.9 times as long:\n\n{block}\nThen 2.0 times.\n\n{block}At most 3.5 %.\n") == [
        "It took 1.9 times as long:",
        "Then 2.0 times.",
        "At most 3.5 %.",
    ]


@pytest.mark.parametrize("text", ["```\n1.9 times\n", "````\n1.9 times\n```\n", "It has ``` 1.9 times\n```\n"])
def test_a_fence_that_nothing_closes_hides_no_number(text: str) -> None:
    (found,) = unquoted(text)
    assert "1.9 times" in found


def test_a_paper_at_arxiv_is_no_measured_number_and_one_beside_it_is() -> None:
    assert unquoted("The paper is arXiv 2509.13761 (v3).\n") == []
    assert unquoted("After arXiv 2509.13761 (v3) it has\n63.5 (58.8 to 68.1), +2.2 (+0.4 to +4.0)\n-1.7 (a)\n") == [
        "63.5 (58.8 to 68.1), +2.2 (+0.4 to +4.0)",
        "-1.7 (a)",
    ]


def test_a_measured_table_outside_of_quotations_is_found() -> None:
    assert loose("| RL | 62.2 % | 91.3 % |\n| a | b |\n") == ["| RL | 62.2 % | 91.3 % |"]


def test_result_files_say_how_they_were_made() -> None:
    for path in (ROOT / "docs" / "results").glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        assert found["schema"] == 1, path.name
        assert found.get("command") or found["made"]["command"], path.name
