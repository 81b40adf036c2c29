"""Problems from a function of one's own."""

from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.problems.data_set import read_data_set
from thor_tir.problems.own_source import is_source
from thor_tir.problems.sets import load_set, own_set
from thor_tir.problems.sources import ProblemChoice, Split, load_problems, local_inputs

MINE = """
from itertools import count as numbers
from thor_tir.problem import Problem

def sums(split, count, seed, *, base=0):
    return [{"question": f"{split} {seed}: {base} + {n}?", "answer": base + n} for n in range(5)]

def endless(split, count, seed):
    for n in numbers():
        yield Problem(id=f"n{n}", question=f"{n} + 1?", answer=str(n + 1), source="mine", extra={"n": n})

async def later(split, count, seed):
    return [{"question": "1 + 1?", "answer": "2"}]

def breaks(split, count, seed):
    yield {"question": "1 + 1?", "answer": "2"}
    raise OSError("no network")

def text(split, count, seed):
    return "1 + 1?"

def numbers_alone(split, count, seed):
    return [1, 2]

def without_question(split, count, seed):
    return [{"answer": 2}]

def none(split, count, seed):
    return []
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def test_a_function_gives_problems_of_its_split_and_seed(mine: Path) -> None:
    found = load_problems(f"{mine}:sums,base=10", split=Split.VALIDATION, count=3, seed=7)
    assert len(found.problems) == 3
    assert {p.question for p in found.problems} <= {f"validation 7: 10 + {n}?" for n in range(5)}
    assert found.problems[0].source == "mine-py-sums"
    assert found.taken.startswith(f"problems of {mine}:sums,base=10")
    assert local_inputs(f"{mine}:sums,base=10") == [str(mine)]
    assert len(load_problems(f"{mine}:later").problems) == 1


def test_a_generator_may_go_on_and_gives_what_is_wanted(mine: Path, monkeypatch) -> None:
    found = load_problems(f"{mine}:endless", choice=ProblemChoice(first=4))
    assert [(p.id, p.answer, p.extra["n"]) for p in found.problems] == [(f"n{n}", str(n + 1), n) for n in range(4)]
    monkeypatch.setattr("thor_tir.problems.own_source.MOST_ROWS", 10)
    with pytest.raises(UsageError, match="have no end: after 10 there are more"):
        load_problems(f"{mine}:endless")


def test_an_evaluation_asks_for_the_test_split(mine: Path) -> None:
    asked = own_set(f"{mine}:sums")
    assert (asked.name, len(asked.problems)) == ("mine-py-sums", 5)
    assert asked.problems[0].question.startswith("test ")
    assert len(load_set(f"{mine}:endless", most=7).problems) == 7


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("breaks", r"the problems of .*breaks raised OSError: no network \(.*mine.py, line 17\)"),
        ("text", "expected a list or a generator of problems"),
        ("numbers_alone", "number 1: expected a problem, or a dict with question and answer, found 1"),
        ("without_question", "number 1: `question`"),
        ("none", "holds no problems"),
        ("nowhere", "has no 'nowhere'"),
    ],
)
def test_a_function_that_gives_no_problems_is_refused(mine: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_problems(f"{mine}:{function}")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mine.py:f", True),
        ("a/b.py:f,x=1", True),
        ("package.module:f", True),
        ("verifiers:gsm8k", True),
        ("openai/gsm8k:main@train", False),
        ("openai/gsm8k", False),
        ("data.jsonl", False),
    ],
)
def test_functions_are_told_from_files_and_sets_of_the_hub(spec: str, expected: bool) -> None:
    assert is_source(spec) is expected


def test_numbers_and_arrays_of_numpy_are_answers(tmp_path: Path) -> None:
    (tmp_path / "arrays.py").write_text(
        "import numpy as np\n"
        "def f(split, count, seed):\n"
        "    values = np.int64(3), np.float32(0.1), np.array(['4'])\n"
        "    return [{'question': f'{n}?', 'answer': value} for n, value in enumerate(values)]\n"
    )
    found = read_data_set(f"{tmp_path}/arrays.py:f")
    assert [problem.answer for problem in found.problems] == ["3", "0.1", "4"]
