"""Garbage that is left uncollected for a while."""

import gc

from thor_tir.garbage import uncollected


def test_nothing_is_collected_within_and_all_is_as_before_behind():
    assert gc.isenabled()
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
