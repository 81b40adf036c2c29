"""The registry of benchmarks: what it accepts as a known set, and how it refuses what is none."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import BENCHMARKS, SIX_SETS, digest_of, load_benchmark
from thor_tir.problems.sets import load_set

DATA = Path(__file__).parents[3] / "shared" / "data" / "bench"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark files are not beside this checkout")


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROW = {"id": "aime24/1", "problem": "What is 2 + 2?", "answer": " 4\n", "subject": "sums", "level": 1}


@needs_data
@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_set_is_found_in_a_folder_and_is_the_known_one(name: str) -> None:
    found = load_benchmark(name, DATA)
    assert len(found.problems) == BENCHMARKS[name].size
    assert found.notes == ()
    assert {p.source for p in found.problems} == {name}
    assert len({p.id for p in found.problems}) == len(found.problems)


def test_the_six_sets_of_the_paper_have_1547_problems() -> None:
    # The specification, 9.1: 1,547 x 4 samples reproduce every speed of the paper's Table 7.
    assert sum(BENCHMARKS[name].size for name in SIX_SETS) == 1547


@needs_data
def test_one_changed_answer_is_refused_unless_it_is_accepted(tmp_path: Path) -> None:
    lines = (DATA / "aime24.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    path = tmp_path / "aime24.jsonl"
    path.write_text("\n".join([json.dumps({**first, "answer": "205"}), *lines[1:]]))
    with pytest.raises(UsageError, match=r"aime24: the SHA-256 .* --accept-modified"):
        load_benchmark("aime24", tmp_path)
    found = load_benchmark("aime24", tmp_path, accept_modified=True)
    assert found.problems[0].answer == "205"
    assert "SHA-256" in found.notes[0]


def test_a_wrong_number_of_problems_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="aime24 has 30 problems, found 1"):
        load_benchmark("aime24", write(tmp_path / "aime24.jsonl", ROW))


def test_the_digest_knows_neither_order_nor_ids_nor_spacing_but_every_letter() -> None:
    one = Problem(id="a", question="What is\n 1?", answer="1", source="x")
    two = Problem(id="b", question="What is 2?", answer="2", source="x")
    assert digest_of([one, two]) == digest_of([two, replace(one, id="c", question="What is 1? ", source="y")])
    assert digest_of([one, two]) != digest_of([one, replace(two, answer="3")])


def test_ones_own_file_is_a_set_under_its_stem_with_subject_and_level(tmp_path: Path) -> None:
    found = load_set(str(write(tmp_path / "mine.jsonl", ROW)))
    (problem,) = found.problems
    assert (found.name, problem.answer, problem.source) == ("mine", "4", "mine")
    assert problem.extra == {"subject": "sums", "level": 1}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'math5000'; known: math500, aime24"):
        load_benchmark("math5000")


def test_a_folder_without_the_set_says_which_names_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no minerva; give --data a folder with minerva_math\.jsonl or"):
        load_benchmark("minerva", tmp_path)
    with pytest.raises(UsageError, match="no file or folder"):
        load_benchmark("minerva", tmp_path / "nowhere")


def test_without_the_datasets_package_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"`datasets` is not installed; .*pip install '\.\[hub\]'"):
        load_benchmark("gsm8k")


def stand_in(load: Callable[[str, str | None, str], object]) -> SimpleNamespace:
    """For the `datasets` package, which test_hub.py meets itself."""
    return SimpleNamespace(load_dataset=load, exceptions=SimpleNamespace(DatasetsError=RuntimeError))


def test_the_hubs_rows_are_read_by_their_own_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": "How many?", "answer": "2 * 600 = 1,200\n#### 1,200"}]
    monkeypatch.setitem(sys.modules, "datasets", stand_in(lambda path, config, split: rows))
    (problem,) = load_benchmark("gsm8k", accept_modified=True).problems
    assert (problem.question, problem.answer) == ("How many?", "1200")
    with pytest.raises(UsageError, match="has the columns question, answer; expected problem"):
        load_benchmark("math500")


def test_a_hub_without_a_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(path: str, config: str | None, split: str) -> None:
        raise ConnectionError("Couldn't reach the hub\nand a second line")

    monkeypatch.setitem(sys.modules, "datasets", stand_in(offline))
    with pytest.raises(UsageError, match=r"cannot be loaded \(Couldn't reach the hub\); give --data"):
        load_benchmark("svamp")
