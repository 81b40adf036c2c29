"""What a worked solution is made of: steps with words, programs for the same computation, and what those print.

A worked step carries its logic (words that hold all numbers it needs), its claim (the result, computed by hand),
programs that compute the same thing with what they print, and careless programs with the error they end in, since text
written by people holds those too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Metadata = Mapping[str, Any]
"""What the generator of a problem remembers of it, as its own scorer reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program, and what the sandbox shows for it."""

    code: str
    shown: str
    """Its output, or the last line of its traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedStep:
    """One step of a solution, in all its spellings."""

    logic: str
    """What is computed and why; a reader who sees nothing else can compute it."""
    claim: str
    """The sentence with the result."""
    programs: tuple[Program, ...]
    careless: tuple[Program, ...] = ()
    is_easy: bool = False
    """Most people would do it in their head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """A solution: its steps and the final answer."""

    steps: tuple[WorkedStep, ...]
    answer: str


def expression_step(logic: str, claim: str, expression: str, value: str, *, easy: bool = False) -> WorkedStep:
    """A step that is one arithmetic expression."""
    return WorkedStep(
        logic=logic,
        claim=claim,
        programs=(
            Program(code=f"print({expression})", shown=value),
            Program(code=f"result = {expression}\nprint(result)", shown=value),
        ),
        careless=(
            Program(code=f"result = {expression}\nprint(total)", shown="NameError: name 'total' is not defined"),
            Program(code=f"print({expression}", shown="SyntaxError: '(' was never closed"),
            Program(code=f"{expression}", shown="(no output)"),
        ),
        is_easy=easy,
    )
