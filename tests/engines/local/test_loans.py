"""Whose first keys and values a row reads."""

import random

import pytest

from thor_tir.engines.local.loans import Loans


def loans_of(*rows: list[int]) -> Loans:
    loans = Loans(max_num_seqs=8, max_tokens=100, least=LEAST)
    for row, ids in enumerate(rows):
        loans.enter(row, ids)
    return loans


LEAST = 16
SYSTEM = list(range(20))
PROMPT, OTHER = [*SYSTEM, *[50] * 15], [*SYSTEM, *[60] * 9]


def test_a_row_borrows_the_even_part_of_what_it_has_in_common_with_the_nearest_row():
    loans = loans_of(PROMPT, OTHER, [*PROMPT, 1], OTHER, [99, *PROMPT])
    assert loans.owner_S[:5].tolist() == [0, 0, 0, 1, 4]
    assert loans.lent_S[:5].tolist() == [0, 20, 34, 28, 0]


@pytest.mark.parametrize(("common", "lent"), [(LEAST - 1, 0), (LEAST, LEAST), (LEAST + 1, LEAST)])
def test_a_few_tokens_are_not_worth_a_loan(common, lent):
    assert loans_of([*PROMPT[:common], 7], [*PROMPT[:common], 8]).lent_S[1] == lent


def test_when_an_owner_leaves_the_first_of_its_borrowers_takes_its_part():
    loans = loans_of(PROMPT, OTHER, PROMPT, PROMPT)
    loans.leave(0, last=3)  # row 3 takes its place
    assert loans.owner_S[:3].tolist() == [1, 1, 1]
    assert loans.lent_S[:3].tolist() == [20, 0, 20]


def test_whatever_comes_and_goes_what_a_row_reads_elsewhere_are_its_own_first_tokens():
    draw = random.Random(0)
    loans, rows = Loans(max_num_seqs=8, max_tokens=100, least=LEAST), []
    for _ in range(300):
        if rows and (len(rows) == 8 or draw.random() < 0.5):
            row = draw.randrange(len(rows))
            last = rows.pop()
            loans.leave(row, last=len(rows))
            if row < len(rows):
                rows[row] = last
        else:
            ids = draw.choice((PROMPT, OTHER, SYSTEM))[: draw.randrange(1, 40)] + [draw.randrange(3)] * 5
            loans.enter(len(rows), ids)
            rows.append(ids)
        for row, ids in enumerate(rows):
            owner, lent = loans.owner_S[row], loans.lent_S[row]
            assert owner < len(rows)
            assert lent % 2 == 0
            assert rows[owner][:lent] == ids[:lent]
            assert (owner == row) == (lent == 0)
