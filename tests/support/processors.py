"""The C files as another processor would have them compiled: vectors of another length, with and without fused sums."""

import platform
from collections.abc import Iterator

import pytest
import torch

from thor_tir.engines.local import compiled
from thor_tir.learner import fused
from thor_tir.native import library

PROCESSORS = ("native", *(("x86-64", "x86-64-v3") if platform.machine() == "x86_64" else ()))
"""By the names that compilers have for them."""


def forget() -> None:
    """Libraries are compiled anew, or found in the user's cache, when they are asked for next."""
    for found in (compiled.library, fused._library, library.compiled_library):
        found.cache_clear()


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The libraries are those of this processor until the test ends."""
    if request.param == "x86-64-v3" and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this processor has no vectors of eight numbers")
    flags = [f"-march={request.param}" if flag == "-march=native" else flag for flag in library.FLAGS]
    monkeypatch.setattr(library, "FLAGS", tuple(flags))
    forget()
    yield request.param
    forget()
