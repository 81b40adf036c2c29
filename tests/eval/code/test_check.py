"""Programs against small tasks in the shape of each benchmark, in a real sandbox."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from thor_tir.eval.code.check import CodeVerdict, Examiner
from thor_tir.execution import Status
from thor_tir.problems.code_tasks import AssertTests, CallTests, CodeTask, ExampleTests
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig

REFERENCE = "def double(n):\n    return 2 * n\n"
CHECK = "def check(candidate):\n    assert candidate(2) == 4\n"
CHECK += "    for n in range(5):\n        assert candidate(n) == n + n\n"


def task(tests: AssertTests | CallTests | ExampleTests, *, entry: str = "double", timeout_s: float = 5.0) -> CodeTask:
    return CodeTask(
        id="t/1",
        benchmark="humaneval",
        prompt="def double(n):\n",
        entry_point=entry,
        reference=REFERENCE,
        tests=tests,
        timeout_s=timeout_s,
        fingerprint="",
    )


ASSERTS = task(AssertTests(text=CHECK, checks=True))
CALLS = task(
    CallTests(preamble="import math", inputs="[[2], [0.5], [3]]", results="[4, 1.0, 6]", tolerance=0.0, num_base=1)
)
METHOD = task(ExampleTests(pairs=(("2", "4"), ("3", "6")), is_stdin=False), entry="Solution.double")
PRINTED = task(ExampleTests(pairs=(("1 2\n", "3\n"), ("4 5\n", "9\n")), is_stdin=True), entry="")


def check_all(*questions: tuple[CodeTask, str]) -> Sequence[CodeVerdict]:
    async def work() -> Sequence[CodeVerdict]:
        async with LocalSandbox(LocalSandboxConfig(workers=1, modules=("json",))) as sandbox:
            return [await Examiner(sandbox).check(task, program) for task, program in questions]

    return asyncio.run(work())


def test_right_programs_pass_and_wrong_ones_fail_on_every_kind_of_test() -> None:
    method = "class Solution:\n    def double(self, n: int) -> int:\n        return {}\n"
    adding = "a, b = map(int, input().split())\nprint(a {} b)\n"
    verdicts = check_all(
        (ASSERTS, REFERENCE),
        (CALLS, REFERENCE),
        (METHOD, method.format("n + n")),
        (PRINTED, adding.format("+")),
        (ASSERTS, "def double(n):\n    return n ** 2\n"),
        (CALLS, "def double(n):\n    return n ** 2\n"),
        (METHOD, method.format("n ** 2")),
        (PRINTED, adding.format("*")),
    )
    assert [verdict.passed for verdict in verdicts] == [True] * 4 + [False] * 4


def test_arguments_of_every_kind_are_known_again_when_the_test_is_repeated() -> None:
    calls = ["(1, 2), (2, 3)", "[(1,), (2,)], {3: (4,)}", "{1, 2}, 'text'", "1.5, None", "[], [[]]"]
    text = "def check(f):\n" + "".join(f"    assert f({call}) == f({call})\n" for call in calls)
    same = task(AssertTests(text=text, checks=True), entry="pair")
    program = "def pair(a, b):\n    return [a, b]\n"
    (verdict,) = check_all((replace(same, reference=program), program))
    assert (verdict.passed, verdict.reason) == (True, "all assertions hold")


def test_a_function_that_changes_its_argument_is_tested_on_what_it_was_given() -> None:
    text = "def check(f):\n    assert f([3, 1, 2]) == [1, 2, 3]\n    assert f([2, 1]) == [1, 2]\n"
    sorting = "def order(xs):\n    xs.sort()\n    return xs\n"
    same = replace(task(AssertTests(text=text, checks=True), entry="order"), reference=sorting)
    verdicts = check_all((same, sorting), (same, "def order(xs):\n    return sorted(xs)\n"), (same, "order = list\n"))
    assert [verdict.passed for verdict in verdicts] == [True, True, False]


EXPLOITS = {
    "leaves at once": "import os\nos._exit(0)\n",
    "leaves quietly": "import sys\nsys.exit(0)\n",
    "leaves in the call": "import os\ndef double(n):\n    os._exit(0)\n",
    "an object that equals everything": "class Any:\n    def __eq__(self, other):\n        return True\n"
    "def double(n):\n    return Any()\n",
    "a number that equals everything": "class Any(int):\n    def __eq__(self, other):\n        return True\n"
    "    __hash__ = int.__hash__\ndef double(n):\n    return Any(7)\n",
    "a list that equals everything": "class Any(list):\n    def __eq__(self, other):\n        return True\n"
    "def double(n):\n    return Any()\n",
    "prints success": "print('\\x1e-1 true')\nprint('passed')\ndef double(n):\n    return None\n",
    "writes success past the harness": "import os\nos.write(1, b'\\n\\x1e-1 true\\n')\nos._exit(0)\n",
    "writes empty outcomes": "import os\n"
    "for k in range(9):\n    os.write(1, b'\\n\\x1e%d {\"returned\": true}\\n' % k)\n"
    "os._exit(0)\n",
    "replaces builtins": "import builtins\nbuiltins.AssertionError = type('Fine', (BaseException,), {})\n"
    "builtins.all = builtins.any = lambda *_: True\nbuiltins.range = lambda *_: []\ndef double(n):\n    return None\n",
    "replaces what the harness writes with": "import json, os\njson.dumps = lambda *_a, **_k: 'true'\n"
    "def double(n):\n    return None\n",
    "looks for the expected values in the callers": "import sys\ndef double(n):\n"
    "    frame = sys._getframe(1)\n    while frame:\n"
    "        for names in (frame.f_locals, frame.f_globals):\n"
    "            for name in ('expected', 'results', '_results', 'candidate', '_reference', 'check'):\n"
    "                if name in names:\n                    return names[name](n) if callable(names[name]) else 4\n"
    "        frame = frame.f_back\n",
    "looks for the tests in the texts around it": "import linecache, sys\ndef double(n):\n"
    "    texts = [''.join(lines) for _, _, lines, *_ in linecache.cache.values()]\n"
    "    frame = sys._getframe(0)\n    while frame:\n"
    "        texts += [str(v) for v in [*frame.f_locals.values(), *frame.f_globals.values()] if isinstance(v, str)]\n"
    "        frame = frame.f_back\n"
    "    return 2 * n if any('-'.join(['assert', 'candidate']).replace('-', ' ') in t for t in texts) else None\n",
}


@pytest.mark.parametrize("name", EXPLOITS)
def test_a_program_cannot_forge_its_verdict(name: str) -> None:
    verdicts = check_all((ASSERTS, EXPLOITS[name]), (CALLS, EXPLOITS[name]))
    assert [verdict.passed for verdict in verdicts] == [False, False]


def test_a_program_that_prints_and_leaves_threads_but_answers_right_still_passes() -> None:
    noisy = "import sys\nprint('x' * 10_000)\ndef double(n):\n    print('calling', file=sys.stderr)\n    return n + n\n"
    (verdict,) = check_all((ASSERTS, noisy))
    assert verdict.passed


def test_base_and_plus_are_told_apart_even_when_a_later_call_never_ends() -> None:
    # The first of three inputs is the base benchmark's. The program hangs on the second.
    slow = task(CALLS.tests, timeout_s=0.5)
    (verdict,) = check_all((slow, "def double(n):\n    while n != 2: pass\n    return 4\n"))
    assert (verdict.passed, verdict.base, verdict.status) == (False, True, Status.TIMEOUT)
    assert verdict.reason == "2 of 3 calls fail: ended before call 2 returned (timeout)"


def test_a_program_has_four_times_the_time_of_a_slow_reference_and_no_more_than_its_own_of_a_fast_one() -> None:
    spin = (
        "import time\ndef double(n):\n    end = time.process_time() + {}\n    while time.process_time() < end: pass\n"
    )
    spin += "    return 2 * n\n"
    once = replace(CALLS.tests, inputs="[[2]]", results="[4]")
    slow = replace(task(once, timeout_s=0.2), reference=spin.format(0.25))
    fast = replace(task(once, timeout_s=0.2), reference=REFERENCE)
    endless = "def double(n):\n    while True: pass\n"
    verdicts = check_all((slow, spin.format(0.4)), (fast, spin.format(0.4)), (slow, endless))
    assert [verdict.passed for verdict in verdicts] == [True, False, False]
    assert [verdict.status for verdict in verdicts[1:]] == [Status.TIMEOUT] * 2


def test_the_reason_names_the_exception_or_what_was_missing() -> None:
    raising, missing, broken = check_all(
        (CALLS, "def double(n):\n    raise KeyError(n)\n"), (CALLS, "x = 1\n"), (ASSERTS, "def double(n)\n")
    )
    assert raising.reason == "3 of 3 calls fail: call 1 raised KeyError"
    assert missing.reason == "3 of 3 calls fail: ended before call 1 returned (KeyError)"
    assert broken.reason == "ended before call 1 returned (SyntaxError)"


def test_a_test_may_ask_for_an_exception() -> None:
    text = "def check(candidate):\n    try:\n        candidate('x')\n"
    text += "    except TypeError:\n        return\n    assert False\n"
    asking = task(AssertTests(text=text, checks=True), entry="half")
    raises, returns = "def half(n):\n    return n / 2\n", "def half(n):\n    return n\n"
    asking = CodeTask(**{**{name: getattr(asking, name) for name in asking.__slots__}, "reference": raises})
    assert [verdict.passed for verdict in check_all((asking, raises), (asking, returns))] == [True, False]
