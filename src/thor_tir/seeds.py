"""Seeds: every random choice of a run derives from the run's one seed, the same way on every machine."""

from hashlib import blake2b
from typing import Literal

SplitName = Literal["tirgen", "rl", "validation", "test"]

OFFSETS: dict[SplitName, int] = {"tirgen": 1, "rl": 2, "validation": 3, "test": 4}
"""Distance from a run's seed to that of each split: generators of problems then draw different ones for each."""


def seed_for(split: SplitName, seed: int) -> int:
    """The seed with which a split's problems are drawn in a run of that seed."""
    return seed + OFFSETS[split]


def seed_of(*parts: object) -> int:
    """A 63-bit seed from names and numbers, the same on every machine."""
    blob = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(blob, digest_size=8).digest(), "little") >> 1
