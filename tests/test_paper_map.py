"""Everything that the map of the paper and its departures name exists: files, functions, fields, tests, values."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from thor_tir.app.config import EvalConfig
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.rl.config import RLConfig
from thor_tir.sft.config import SftConfig
from thor_tir.tirgen.generate import TirgenConfig

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "paper_map.md", ROOT / "docs" / "departures.md", ROOT / "docs" / "departures_data.md")
CODE = re.compile(r"`(?P<file>[\w/]+\.py): (?P<name>[\w.]+)`")
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>\w+)`")
NAMED_FILE = re.compile(r"`(?P<file>[\w/.]+\.(?:py|md|html))`")

SECTIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.3.2", "2.4", "3.1", "3.3", "D.1", "D.2", "D.3")
EQUATIONS = tuple(f"Eq. {number}" for number in range(3, 11))
TABLES = ("Alg. 1", "Table 4", "Table 5", "Table 6", "Fig. 4")


def text_of_pages() -> str:
    """The map and its departures, one after the other."""
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def pairs(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """What the page names in one of the two spellings."""
    return sorted({(m["file"], m["name"]) for m in pattern.finditer(text_of_pages())})


@cache
def names_in(path: Path) -> frozenset[str]:
    """Top-level names of a module, and `Class.member` for each member of a class."""
    found: set[str] = set()

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)
            elif isinstance(node, ast.Assign):
                found.update(prefix + name.id for name in ast.walk(node) if isinstance(name, ast.Name))
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{node.name}.")

    add(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return frozenset(found)


@pytest.mark.parametrize(("file", "name"), pairs(CODE))
def test_a_function_that_the_map_names_is_in_its_file(file: str, name: str) -> None:
    assert name in names_in(ROOT / "src" / "thor_tir" / file)


@pytest.mark.parametrize(("file", "name"), pairs(TEST))
def test_a_test_that_the_map_names_is_in_its_file(file: str, name: str) -> None:
    assert name in names_in(ROOT / file)


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name
)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_files_that_the_map_names_alone_exist() -> None:
    files = {m["file"] for m in NAMED_FILE.finditer(text_of_pages())}
    assert [file for file in files if not any((base / file).exists() for base in (ROOT, ROOT / "src/thor_tir"))] == []


def test_every_section_and_equation_of_the_method_has_a_row_with_code_and_a_test() -> None:
    rows = [line for line in text_of_pages().split("\n") if line.startswith("| ")]
    complete = [row.split("|")[1] for row in rows if CODE.search(row) and TEST.search(row)]
    for label in (*SECTIONS, *EQUATIONS, *TABLES):
        assert any(re.search(rf"(?<![\d.]){re.escape(label)}(?![\d.]\d)", cell) for cell in complete), label


def test_the_look_into_a_file_finds_members_and_misses_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text("A = B = 1\nclass C:\n    x: int = 0\n    def f(self): ...\nasync def g(): ...\n")
    assert names_in(path) == {"A", "B", "C", "C.x", "C.f", "g"}  # and neither `x` nor `C.g`


def test_the_defaults_of_each_stage_are_the_papers_values() -> None:
    tirgen, sft, rl, correction = TirgenConfig(), SftConfig(), RLConfig(), SelfCorrectionConfig()
    # D.1
    assert (tirgen.step_tokens, tirgen.temperature, tirgen.top_k) == (512, 0.6, 50)
    assert (sft.num_train_epochs, sft.train_batch_size, sft.learning_rate) == (1, 256, 2e-6)
    assert (sft.lr_scheduler_type, sft.warmup_steps) == ("constant", 0)
    # D.2
    assert (rl.episode.num_generations, rl.step.num_generations, rl.step.suffix_tokens) == (16, 16, 100)
    assert (rl.episode.nll_weight, rl.step.nll_weight, rl.step.max_queries_share) == (0.01, 0.01, 1.0)
    assert (
        rl.learning_rate,
        rl.warmup_steps,
        rl.rollout.max_tool_calling_iterations,
        rl.rollout.max_completion_length,
    ) == (1e-6, 0, 5, 4096)
    assert (rl.rollout.temperature, rl.rollout.stop_at_failure) == (1.0, True)
    assert rl.loss.clip_range == (0.2, 0.28, 3.0)
    # D.3
    assert (correction.max_attempts, correction.suffix_tokens) == (4, 100)
    assert (EvalConfig().rollout.temperature, EvalConfig().rollout.top_k, EvalConfig().best_of) == (0.6, 50, 8)
    assert EvalConfig().rollout.top_p == 1.0
