"""Which programs teach something, by their syntax trees."""

import pytest

from thor_tir.tirgen.rules import fault_of

KNOWN, NEITHER, BROKEN = "prints what is known", "no library or control flow", "code does not parse"


def by_default(code: str) -> str | None:
    return fault_of(code, needs_import_or_control_flow=False)


def by_the_papers_rule(code: str) -> str | None:
    return fault_of(code, needs_import_or_control_flow=True)


@pytest.mark.parametrize(
    "code",
    ["print(20 + 57)", "import math\nprint(math.gcd(4, 6))", "print([i for i in (1, 2)])", "print(2 > 1)", "print(-5)"],
)
def test_a_program_that_computes_something_is_no_trivial_one(code):
    assert by_default(code) == (KNOWN if code == "print(-5)" else None)  # a negative number is a literal


@pytest.mark.parametrize(
    "code", ["print(77)", "print('20 + 57')", "x = 77\nprint(str(x))", "print(repr(1), 2)", "", "# 1 + 1", "pass"]
)
def test_printing_what_is_known_computes_nothing_by_either_rule(code):
    assert by_default(code) == by_the_papers_rule(code) == KNOWN


@pytest.mark.parametrize("code", ["print(20 +", "import math\nprint(math.pi", "x = \0", "(" * 400 + ")" * 400])
def test_what_does_not_parse_is_no_program(code):
    assert by_default(code) == BROKEN


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("print(20 + 57)", NEITHER),
        ("import math\nprint(20 + 57)", NEITHER),  # imported, not used
        ("import math\nmath = 3\nprint(20 + 57)", NEITHER),  # its name is only written
        ("import os.path\nprint(os.path.sep.join('ab'))", NEITHER),  # no numerical library
        ("import math\nprint(math.pi)", None),
        ("import numpy as np\nprint(np.pi)", None),
        ("from math import gcd\nprint(gcd(4, 6))", None),
        ("from sympy import *\nprint(factorint(12))", None),
        ("import scipy.optimize\nprint(scipy.optimize.brentq(f, 0, 1))", None),
        ("for i in (1, 2):\n    print(i)", None),
        ("if 2 > 1:\n    print(1)", None),
        ("print(*(i for i in (1, 2)))", None),
        ("def f():\n    return 1\nprint(f())", None),
        ("print((lambda x: x)(3))", None),
    ],
)
def test_the_papers_rule_asks_for_a_numerical_library_that_is_used_or_for_control_flow(code, fault):
    assert by_the_papers_rule(code) == fault
