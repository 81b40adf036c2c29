"""Worked solutions of real problems, and what Python makes of the programs in them."""

import contextlib
import io
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from random import Random

from nano_models.worked import Program, Worked, work
from thor_tir.problem import Problem
from thor_tir.problems.sources import NANO_FAMILIES, Split, reasoning_gym_problems

FAMILIES = sorted(NANO_FAMILIES)


@cache
def problems_of(family: str) -> tuple[Problem, ...]:
    """The same few dozen problems of the training split, made once."""
    options = {family: NANO_FAMILIES[family]}
    return tuple(reasoning_gym_problems(options, split=Split.TRAIN, count=40, seed=11))


def solutions_of(family: str) -> Iterator[tuple[Problem, Worked]]:
    """Each problem worked twice, since wording, and for some families the way, is a matter of chance."""
    for problem in problems_of(family):
        for seed in range(2):
            yield problem, work(family, problem.extra["metadata"], problem.answer, Random(f"{problem.id} {seed}"))


def shown(code: str) -> str:
    """What running a program here shows: its output, or the last line of its traceback."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
    except Exception as error:
        return traceback.format_exception_only(error)[-1].strip()
    return output.getvalue().strip("\n") or "(no output)"


def is_as_claimed(program: Program, seen: str) -> bool:
    """Whether a failing program showed its error. Python 3.11 must say it word for word; later versions add hints
    (`Did you mean: 'legs'?`) and word some messages anew, so there the exception's type decides."""
    if sys.version_info < (3, 12):
        return seen == program.shown
    return seen.partition(":")[0] == program.shown.partition(":")[0]
