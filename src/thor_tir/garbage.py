"""Python's collection of garbage, put off while objects are made that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect nothing for a while.

    Imports of torch and transformers make some hundred thousand objects that all stay, and every collection on the way
    looks at them again: a quarter of the processor time that they take.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
