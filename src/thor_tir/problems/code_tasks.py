"""Tasks whose answer is a program, and the three ways in which a benchmark says what is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Pair = tuple[str, str]
"""What goes in and what should come out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertTests:
    """A program of assertions, as HumanEval and MBPP have it."""

    text: str
    """Source of the assertions."""
    checks: bool
    """It defines `check(candidate)`; otherwise it asserts at its top level and calls the entry point by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTests:
    """Arguments and expected results, as EvalPlus has them. All three texts are Python."""

    preamble: str
    """Imports and, where results are computed, the definition of `ref_func`."""
    inputs: str
    """A list of argument lists."""
    results: str
    """The list of expected results; may refer to `inputs` and to the preamble."""
    tolerance: float
    """EvalPlus's `atol`; 0 asks for equality, except of floats."""
    num_base: int | None = None
    """Number of the first inputs that are the original benchmark's; None where the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTests:
    """Pairs of input and output, as LiveCodeBench has them: lines for a whole program, or JSON for a method."""

    pairs: tuple[Pair, ...]
    """Inputs with their expected outputs."""
    is_stdin: bool
    """True if the program reads standard input, False if a method is called."""
    hidden: Callable[[], Sequence[Pair]] | None = None
    """Reads further pairs, which are not kept: those of a whole release are gigabytes."""

    def every_pair(self) -> list[Pair]:
        """Those that are shown and those that are hidden. Raises UsageError where the latter are damaged."""
        return [*self.pairs, *(self.hidden() if self.hidden is not None else ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTask:
    """One programming task."""

    id: str
    """Name of the task in its benchmark."""
    benchmark: str
    """A name of `code_sources.BENCHMARKS`."""
    prompt: str
    """Text of the task: the head of a function (HumanEval), or a sentence."""
    entry_point: str
    """The function that is called; `Solution.name` for a method; empty for a program that reads its input."""
    reference: str
    """The reference solution as a whole program; empty where the benchmark has none."""
    tests: AssertTests | CallTests | ExampleTests
    """Tests that a program must pass."""
    timeout_s: float
    """For the program under test: on all calls of a set of EvalPlus together, or on one example. Of such a set it is
    the least: where the reference itself is slow it is longer, see `eval/code/check.py`."""
    fingerprint: str
    """SHA-256 of everything above that decides a verdict."""
    shown: str = ""
    """Text shown beside the prompt: an assertion (MBPP), or the head of the class to be written (LiveCodeBench)."""
    subject: str = ""
    """Subject of the task, where its source names one."""
    level: str = ""
    """Difficulty, where its source names one."""
    date: str = ""
    """Day of the contest that it was first asked in, as 2023-08-21; empty where nobody says."""

    @property
    def is_continued(self) -> bool:
        """True if the prompt is the beginning of the program."""
        return self.benchmark.startswith("humaneval")
