"""Garbage that is left uncollected for a while."""

import gc
from contextlib import suppress

from thor_tir.garbage import uncollected


def test_nothing_is_collected_within_and_all_is_as_before_behind():
    assert gc.isenabled()
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_threads_that_overlap_leave_collections_on():
    first, second = uncollected(), uncollected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()  # the second one still makes objects
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_collections_that_were_off_stay_off_and_a_fault_leaves_them_on():
    with suppress(ZeroDivisionError), uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
