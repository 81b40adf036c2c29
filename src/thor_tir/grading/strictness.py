"""How much an answer must show."""

from enum import StrEnum


class Strictness(StrEnum):
    """What a grader forgives."""

    STRICT = "strict"
    """For rewards: the last box only, no guessing, no partial credit, nothing that a model could exploit."""
    LENIENT = "lenient"
    """For evaluation: answers outside of boxes, and rounding where the reference itself is rounded."""
