"""What the rules of form ask of arithmetic: exact rationals answer first, algebra where they cannot."""

from typing import Protocol


class Arithmetic(Protocol):
    """What decides once the form has been taken apart. Its methods may raise to say that they cannot."""

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two expressions have the same value, the rounding of the reference allowed for."""
        ...

    def proportional(self, gold: str, answer: str, *, is_positive: bool) -> bool:
        """Whether one expression is the other times a number other than zero, or a positive one."""
        ...
