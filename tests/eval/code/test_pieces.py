"""The program of a reply that spreads it over several blocks, or shows other code beside it."""

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from code_tasks import task_of
from thor_tir.eval.code.extract_program import find_program
from thor_tir.eval.code.pieces import Strength, feigns_input, needed, parsed, put_before, reads, strength
from thor_tir.problems.code_tasks import CodeTask

HEAD = 'import math\n\n\ndef half(x):\n    return x // 2\n\n\ndef rank(xs):\n    """The number of xs, doubled."""\n'
GOOD = "def rank(xs):\n    return 2 * len(xs)\n"
BODY = "    count = len(xs)\n    return 2 * count\n"
READER = "n = int(input())\nprint(n * 3)\n"


CONTINUED, SENTENCE = task_of(HEAD, "rank"), task_of("Write rank.", "rank", benchmark="mbpp")
STDIN = task_of("Triple it.", benchmark="livecodebench", printed="3\n")


def tagged(*codes: str) -> str:
    return "Then:\n".join(f"```python\n{code.rstrip()}\n```\n" for code in codes)


def untagged(code: str) -> str:
    return f"Output:\n```\n{code.rstrip()}\n```\n"


def function(program: str | None, name: str = "rank") -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(compile(program or "", "program", "exec"), names)
    return names[name]


def printed(program: str | None, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program or "", "program", "exec"), {"__name__": "__main__"})
    return out.getvalue()


BESIDE = {
    "a check that returns": "def check():\n    assert rank([1]) == 2\n    return True",
    "a test class": "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        return rank([])",
    "a plain return": "return rank([1, 2])",
    "a lambda": "show = lambda xs: rank(xs)",
    "an indented use": "    result = rank([1])\n    return result",
    "a stub with dots": "def rank(xs): ...",
    "a stub that passes": "def rank(xs):\n    pass",
    "a stub that refuses": "def rank(xs):\n    '''Do it.'''\n    raise NotImplementedError('yours')",
    "the prompt's head": HEAD,
    "a head that imports": "def rank(xs):\n    import math\n    'The number.'",
    "a value of the same name": "rank = rank([1, 2])\nprint(rank)",
    "an import of it": "from solution import rank\nprint(rank([1]))",
    "a method of the name": "class Ranker:\n    def rank(self, xs):\n        return -1",
    "a comment that names it": "# def rank(xs): return 0\nprint(1)",
    "a string that defines it": "text = '''\ndef rank(xs):\n    return 0\n'''",
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("asked", [CONTINUED, SENTENCE], ids=["continued", "sentence"])
def test_the_block_that_defines_the_function_wins_wherever_it_stands(asked: CodeTask, beside: str) -> None:
    for reply in (tagged(GOOD, beside), tagged(beside, GOOD), tagged(beside, GOOD, beside)):
        assert function(find_program(asked, reply))([1, 2, 3]) == 6


@pytest.mark.parametrize("beside", ["def rank(xs): ...", HEAD, "def check():\n    return rank([1]) == 2"])
def test_a_body_wins_over_a_stub_and_over_a_test(beside: str) -> None:
    for reply in (tagged(beside, BODY), tagged(BODY, beside)):
        assert function(find_program(CONTINUED, reply))([1, 2, 3]) == 6


def test_of_two_definitions_the_last_wins_and_a_stub_stands_where_there_is_nothing_else() -> None:
    wrong = "def rank(xs):\n    return 0\n"
    assert function(find_program(CONTINUED, tagged(wrong, GOOD)))([1]) == 2
    assert function(find_program(CONTINUED, tagged(GOOD, wrong)))([1]) == 0
    assert function(find_program(SENTENCE, tagged("def rank(xs):\n    pass", "print(2)")))([1]) is None
    assert function(find_program(SENTENCE, tagged("rank = lambda xs: 2 * len(xs)", "print(2)")))([1]) == 2


def test_the_class_that_has_the_method_wins() -> None:
    asked = task_of("Rank.", "Solution.rank", benchmark="livecodebench")
    good = "class Solution:\n    def rank(self, xs):\n        return 2 * len(xs)\n"
    for beside in (
        "class Solution:\n    def rank(self, xs):\n        pass",
        "class Solution:\n    pass",
        "class Solution:\n    def other(self):\n        return 1",
        "print(Solution().rank([1]))",
        "def rank(xs):\n    return 0",
    ):
        for reply in (tagged(good, beside), tagged(beside, good)):
            assert function(find_program(asked, reply), "Solution")().rank([1]) == 2


USES = "def rank(xs):\n    return twice(len(xs))\n"
TWICE = "def twice(x):\n    return 2 * x\n"
TIMES = "def rank(xs):\n    return FACTOR * len(xs)"
LOOKUP = "def rank(xs):\n    return T[len(xs)]"
SPREAD = {
    "a helper": (TWICE, USES),
    "a helper behind": (USES, TWICE),
    "a helper, its stub, and a test": ("def twice(x): ...", TWICE, USES, "print(rank([1]))\nassert twice(1) == 2"),
    "a helper that was mended": ("def twice(x):\n    return x\n", USES, TWICE),
    "a helper of a helper": ("def one(x):\n    return x\n", "def twice(x):\n    return one(x) + one(x)\n", USES),
    "an import": ("import operator", "def rank(xs):\n    return operator.mul(2, len(xs))"),
    "an import from": ("from operator import mul as times", "def rank(xs):\n    return times(2, len(xs))"),
    "an import of everything": ("from operator import *", "def rank(xs):\n    return mul(2, len(xs))"),
    "an import for an annotation": ("from typing import List", "def rank(xs: List[int]):\n    return 2 * len(xs)"),
    "an import for a helper": ("import operator", TWICE.replace("2 * x", "operator.mul(2, x)"), USES),
    "a constant": ("FACTOR = 2", TIMES),
    "a constant that a test replaces": ("FACTOR = 2", TIMES, "FACTOR = 7\nrank([])"),
    "a table that a loop fills": ("T = [0] * 9\nfor i in range(9):\n    T[i] = 2 * i", LOOKUP),
    "a table that grows": ("T = []\nfor i in range(9):\n    T.append(2 * i)", LOOKUP),
    "a class": ("class Two:\n    value = 2", "def rank(xs):\n    return Two.value * len(xs)"),
    "a decorator": ("import functools\n\ndef same(f):\n    return functools.wraps(f)(f)", f"@same\n{GOOD}"),
    "a helper beside a test": (f"{TWICE}\nprint(twice(1))\nassert twice(1) == 3", USES),
    "a helper beside a call that ends the program": (f"{TWICE}\nimport sys\nsys.exit(1)", USES),
    "a local name that another block gives a value": ("count = 9", f"def rank(xs):\n{BODY}"),
    "a builtin's name that another block takes": ("len = 3", GOOD),
    "imports from the future": (TWICE, f"from __future__ import annotations\n{USES}"),
    "a helper called top": ("def top(xs):\n    best = 2\n    return best * len(xs)", "def rank(x):\n    return top(x)"),
}  # fmt: skip


@pytest.mark.parametrize("blocks", SPREAD.values(), ids=SPREAD)
@pytest.mark.parametrize("asked", [CONTINUED, SENTENCE], ids=["continued", "sentence"])
def test_what_the_program_needs_of_other_blocks_comes_with_it(asked: CodeTask, blocks: tuple[str, ...]) -> None:
    assert function(find_program(asked, tagged(*blocks)))([1, 2, 3]) == 6


def test_a_body_takes_its_helpers_and_the_prompts_own_are_not_replaced() -> None:
    assert function(find_program(CONTINUED, tagged(TWICE, "    return twice(len(xs))")))([1]) == 2
    program = find_program(CONTINUED, tagged("def half(x):\n    return 0", "def rank(xs):\n    return half(8)"))
    assert function(program)([1]) == 4


def test_an_endless_expression_of_another_block_does_no_harm() -> None:
    endless = f"FACTOR = {' + '.join(['1'] * 1500)}"
    assert GOOD in (find_program(SENTENCE, tagged(endless, f"{GOOD}print(FACTOR)\n")) or "")


def test_what_is_not_needed_stays_away() -> None:
    assert find_program(SENTENCE, tagged("import os\nx = 1\n", TWICE, GOOD, "y = rank([1])")) == GOOD


SOLVE = "def solve():\n    n = int(input())\n    print(n * 3)\n"
PATCHED = "from unittest.mock import patch\nwith patch('builtins.input', return_value='4'):\n    solve()"
PROGRAMS = {
    "a comment that says input behind": (READER, "# the input is 4\nprint(12)"),
    "a comment at the line's end": (READER, "x = 4  # input\nprint(x * 3)"),
    "a string that says input behind": (READER, "text = 'input: 4'\nprint(text, 12)"),
    "feigned input behind": (READER, 'import io, sys\nsys.stdin = io.StringIO("4")\nprint(int(input()) * 3)'),
    "feigned input in a pair behind": (READER, "import io, sys\na, sys.stdin = sys.stdin, io.StringIO('4')\n" + READER),
    "feigned input by another name behind": (READER, "import io, sys as s\ns.stdin = io.StringIO('4')\n" + READER),
    "a feigned function behind": (READER, "input = lambda: '4'\nprint(int(input()) * 3)"),
    "another feigned function behind": (READER, "def input():\n    return '4'\nn = int(input())\nprint(n * 3)"),
    "a patched function behind": (SOLVE + "solve()", PATCHED),
    "a parameter called input": (READER, "def show(input):\n    print(input)\nshow(4)"),
    "a run from outside behind": (READER, "import subprocess\nprint(subprocess.run(['a.py'], input='4'))"),
    "a use on a constant behind": ("def triple(n):\n    return n * 3\nprint(triple(int(input())))", "print(triple(4))"),
    "a use of it with a global behind": ("n = int(input())\ndef f(k):\n    return k * 3\nprint(f(n))", "print(f(4))"),
    "a reading fragment behind": (READER, "n = int(input())"),
    "a draft before": ("n = input()\nprint(n)", READER),
    "a function and its call": (SOLVE, "solve()"),
    "a call before its function": ("solve()", SOLVE),
    "a function and its guard": (SOLVE, 'if __name__ == "__main__":\n    solve()'),
    "a function and its loop": (SOLVE, "t = 1\nfor _ in range(t):\n    solve()"),
    "a function and the print of what it returns": ("def main():\n    return int(input()) * 3", "print(main())"),
    "a function that is only called on feigned input": (SOLVE, 'import io, sys\nsys.stdin = io.StringIO("4")\nsolve()'),
    "a pure function and the program": ("def triple(n):\n    return n * 3", "print(triple(int(input())))"),
    "a draft, then a function and its call": ("print(input())", SOLVE, "solve()"),
    "imports apart": ("import sys", "print(int(sys.stdin.readline()) * 3)"),
    "reading apart from writing": ("n = int(input())", "print(n * 3)"),
    "three steps": ("import sys", "def n():\n    return int(sys.stdin.read())", "print(n() * 3)"),
    "the whole of stdin": ("import sys\nfor line in sys.stdin:\n    print(int(line) * 3)", "print('input')"),
    "an imported stdin": ("from sys import stdin, stdout\nstdout.write(str(int(stdin.read()) * 3))", "# stdin\nx = 1"),
    "stdin in its place": ("import io, sys\nsys.stdin = io.StringIO(sys.stdin.read())\n" + READER, "print(3)"),
    "a faster input": ("import sys\ninput = sys.stdin.readline\nprint(int(input()) * 3)", "print(12)"),
    "input handed on": ("read = input\nprint(int(read()) * 3)", "print(12)"),
}  # fmt: skip


@pytest.mark.parametrize("blocks", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("output", ["", untagged("12"), untagged("n = input()\nprint"), untagged("x = 12")])
def test_the_program_that_reads_its_input_is_found(
    blocks: tuple[str, ...], output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = find_program(STDIN, tagged(*blocks) + output)
    assert printed(program, "5\n", monkeypatch).strip() == "15", program


@pytest.mark.parametrize("output", ["12", "YES", "x = 12", "1 2\n3 4", "input"])
def test_an_untagged_output_is_never_the_program(output: str) -> None:
    assert find_program(STDIN, f"I cannot.\n{untagged(output)}") is None
    broken = "n = int(input()\nprint(n"
    assert find_program(STDIN, tagged(broken) + untagged(output)) == f"{broken}\n"
    assert (find_program(STDIN, untagged(READER) + untagged(output)) or "").strip() == READER.strip()


@pytest.mark.parametrize(
    ("code", "does"),
    [
        ("input()", True),
        ("print(open(0).read())", True),
        ("import os\nos.read(0, 9)", True),
        ("open('/dev/stdin')", True),
        ("import fileinput\nfor line in fileinput.input(): pass", True),
        ("from sys import stdin as s\ns.read()", True),
        ("def solve(input):\n    return input\nsolve(input())", True),
        ("# input()", False),
        ("'input()'", False),
        ("input = '4'\nprint(input)", False),
        ("def f(input):\n    return input", False),
        ("import sys\nsys.stdin = None", False),
        ("open('0')", False),
        ("self.input = 1", False),
        ("run(input='4')", False),
    ],
)
def test_what_reads_standard_input(code: str, does: bool) -> None:
    tree = parsed(code)
    assert tree is not None
    assert reads(tree) is does


def test_small_questions_about_code() -> None:
    tree = parsed("import sys\nif local:\n    sys.stdin = open('a.txt')\nprint(input())")
    assert tree is not None
    assert not feigns_input(tree)
    assert needed("def top(a):\n    b = a\n    return [b + c for b in d]") == {"c", "d"}
    assert needed("def f(:") == set()
    assert put_before("x = 1", "from __future__ import annotations\ny = x") == (
        "from __future__ import annotations\nx = 1\ny = x"
    )
    both = parsed("def f():\n    pass\ndef f():\n    return 1")
    assert both is not None
    assert strength(both, "f") is Strength.BODY
    assert strength(both, "g") is Strength.NONE
