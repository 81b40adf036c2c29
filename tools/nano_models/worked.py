"""Worked solutions of the nano families: what a careful person would write, in words and, step by step, as a program.

This is the raw material of pretraining and nothing else reads it. What a solution is made of stands in `solution.py`,
the families in `number_theory.py` and `arithmetic.py`; here is the way from a family's name to its solution.
"""

from collections.abc import Callable, Mapping
from random import Random

from nano_models import arithmetic, number_theory
from nano_models.solution import Metadata, Program, Worked, WorkedStep

__all__ = ["Program", "Worked", "WorkedStep", "work"]


def work(family: str, metadata: Metadata, answer: str, rng: Random) -> Worked:
    """Work a problem of one family. Raises KeyError for a family that has no worked form."""
    return _WORK[family](metadata, answer, rng)


_WORK: Mapping[str, Callable[[Metadata, str, Random], Worked]] = {
    "gcd": number_theory.gcd,
    "lcm": number_theory.lcm,
    "chain_sum": arithmetic.chain_sum,
    "products": arithmetic.products,
    "fraction_simplification": number_theory.fraction,
    "base_conversion": number_theory.base_conversion,
    "complex_arithmetic": arithmetic.complex_numbers,
    "simple_equations": arithmetic.equation,
    "leg_counting": arithmetic.legs,
    "simple_geometry": arithmetic.polygon,
    "prime_factorization": number_theory.primes,
    "count_bits": number_theory.bits,
}
