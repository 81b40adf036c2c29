"""Tables of pairs and of whole responses, written without a look at the rules; every line has one right verdict."""

import re
from pathlib import Path

import pytest

from thor_tir.grading.extract import extract_answer
from thor_tir.grading.rules.algebra import algebraic_outcome
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.verdict import Outcome, Strictness

TABLES = Path(__file__).parent / "tables"
LINE = re.compile(r"(.*?) ([≡≢]) ?(.*)")


def read_groups():
    groups = {}
    for table in sorted(TABLES.glob("pairs*.txt")):
        for block in table.read_text(encoding="utf-8").split("\n# ")[1:]:
            name, *lines = block.strip("\n").split("\n")
            groups[f"{table.stem}: {name}"] = [LINE.fullmatch(line).groups() for line in lines]
    return groups


GROUPS = read_groups()
RESPONSES = [
    (*head.rsplit(" | ", 2), text.removesuffix("\n"))
    for block in (TABLES / "responses.txt").read_text(encoding="utf-8").split("\n=== ")[1:]
    for head, _, text in [block.partition("\n")]
]


def outcome(gold, answer, strictness):
    return (quick_outcome(gold, answer, strictness) or algebraic_outcome(gold, answer, strictness))[0]


@pytest.mark.parametrize("strictness", Strictness)
@pytest.mark.parametrize("group", GROUPS)
def test_each_pair_of_a_group_is_judged_as_the_table_says(group, strictness):
    takes_calculations = "(evaluation)" not in group or strictness is Strictness.LENIENT
    expected = {pair: pair[1] == "≡" and takes_calculations for pair in GROUPS[group]}
    found = {pair: outcome(pair[0], pair[2], strictness) is Outcome.CORRECT for pair in GROUPS[group]}
    assert found == expected


@pytest.mark.parametrize(("name", "gold", "expected", "text"), RESPONSES, ids=[row[0] for row in RESPONSES])
def test_a_response_is_judged_by_the_answer_it_gives(name, gold, expected, text):
    answer = extract_answer(text, Strictness.STRICT)
    assert (outcome(gold, answer, Strictness.STRICT) if answer else Outcome.WRONG) == expected
