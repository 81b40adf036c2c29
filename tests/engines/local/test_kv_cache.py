import random
import sys
from pathlib import Path

import pytest
import torch

from thor_tir.engines.local import kv_cache
from thor_tir.engines.local.kv_cache import ParkedCache, SlotCache, Window
from thor_tir.engines.local.scheduler import prefill_groups


def states(mark: float) -> tuple[torch.Tensor, ...]:
    return torch.full((1, 1, 1, 1), mark), torch.full((1, 1, 1, 1), -mark)


def test_the_longest_common_prefix_is_found_among_many():
    cache = ParkedCache(max_tokens=1000)
    base = list(range(40))
    for cut in (10, 20, 30):
        cache.park([*base[:cut], *[99] * 10], states(cut))
    entry, length = cache.find(base)
    assert (entry.states[0].item(), length) == (30, 30)
    assert cache.find([7, *base]) == (None, 0)


def test_what_is_found_is_at_most_one_block_short_of_the_best():
    choose = random.Random(0)
    cache = ParkedCache(max_tokens=10_000)
    sequences = [[choose.choice((1, 2)) if i % 9 == 0 else 3 for i in range(60)] for _ in range(40)]
    for sequence in sequences:
        cache.park(sequence, states(1))
    for _ in range(50):
        wanted = [choose.choice((1, 2)) if i % 9 == 0 else 3 for i in range(60)]
        best = max(next((i for i in range(60) if s[i] != wanted[i]), 60) for s in sequences)
        entry, length = cache.find(wanted)
        assert entry.ids[:length].tolist() == wanted[:length]
        assert best - 8 < length <= best


def test_the_least_recently_used_is_forgotten_when_tokens_run_out():
    cache = ParkedCache(max_tokens=40)
    first, second, third = ([mark] * 16 for mark in (1, 2, 3))
    cache.park(first, states(1))
    cache.park(second, states(2))
    cache.find(first)
    cache.park(third, states(3))  # 48 tokens are 8 too many
    assert [cache.find(ids)[1] for ids in (first, second, third)] == [16, 0, 16]
    assert cache.num_tokens == 32


def test_the_least_recently_used_is_forgotten_when_bytes_run_out():
    cache = ParkedCache(max_tokens=1000, max_bytes=16)  # two sequences of two numbers
    first, second, third = ([mark] * 16 for mark in (1, 2, 3))
    for mark, ids in enumerate((first, second, third)):
        cache.park(ids, states(float(mark)))
    assert [cache.find(ids)[1] for ids in (first, second, third)] == [0, 16, 16]
    assert cache.num_bytes == 16
    cache.park([4] * 16, tuple(each.expand(4, 4, 1, 1).clone() for each in states(4.0)))  # too large by itself
    assert (len(cache), cache.num_bytes, cache.num_tokens) == (0, 0, 0)


def test_a_longer_sequence_replaces_its_own_prefixes_and_nothing_else():
    cache = ParkedCache(max_tokens=1000)
    cache.park([1] * 12, states(1))
    cache.park([*[1] * 8, 2, 2, 2], states(2))
    cache.park([1] * 30, states(3))
    assert len(cache) == 2
    assert cache.num_tokens == 11 + 30
    assert cache.find([1] * 12)[0].states[0].item() == 3


def test_sequences_shorter_than_a_block_or_longer_than_the_cache_are_not_accepted():
    cache = ParkedCache(max_tokens=20)
    assert [cache.accepts(n) for n in (7, 8, 20, 21)] == [False, True, True, False]


def stored(cache: SlotCache, row: int, tokens: int) -> list[float]:
    keys, values = cache.copy_out(row, tokens)
    assert torch.equal(values, -keys)
    return keys[0, 0, :, 0].tolist()


def store(cache: SlotCache, rows: slice, position_N: list[int], numbers: list[float]) -> torch.Tensor:
    """One new token a row; keys are the numbers and values their negatives."""
    count = torch.arange(rows.start, rows.stop)
    cache.aim(Window(rows=rows, visible=4, slot_N=count, position_N=torch.tensor(position_N)))
    keys = torch.tensor(numbers)[:, None, None, None]
    return cache.update(keys, -keys, 0)[0]


def test_rows_store_at_their_own_positions_and_see_only_a_view_of_themselves():
    cache = SlotCache(num_layers=1, max_num_seqs=4, max_tokens=256)
    cache.reserve(rows=2, tokens=4)
    store(cache, slice(0, 2), [0, 0], [1.0, 2.0])
    visible = store(cache, slice(0, 2), [1, 3], [3.0, 4.0])
    assert visible[:, 0, :, 0].tolist() == [[1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 4.0]]
    (block,), _ = cache.blocks(0)
    store(cache, slice(1, 2), [2], [5.0])
    assert block[1, 0, 2, 0] == 5.0  # the view shows what was stored later: nothing was copied


def test_a_row_that_is_longer_than_a_block_is_seen_and_copied_whole():
    cache = SlotCache(num_layers=1, max_num_seqs=3, max_tokens=256)
    cache.reserve(rows=2, tokens=150)
    place_N = torch.arange(150)
    cache.aim(Window(rows=slice(0, 2), visible=150, slot_N=torch.ones_like(place_N), position_N=place_N))
    cache.write(0, place_N[:, None, None] + 1.0, -place_N[:, None, None] - 1.0)
    assert [key.shape[2] for key in cache.blocks(0)[0]] == [64, 64, 22]
    assert torch.equal(cache.visible(0)[0][1, 0, :, 0], place_N + 1.0)
    cache.reserve(rows=3, tokens=200)
    cache.copy_in(2, cache.copy_out(1, 150), 100)
    cache.move(source=1, target=0, tokens=150)
    assert stored(cache, 0, 150) == stored(cache, 1, 150) == (place_N + 1.0).tolist()
    assert stored(cache, 2, 150) == [*(place_N[:100] + 1.0).tolist(), *[0.0] * 50]


@pytest.mark.parametrize("is_whole", [True, False])
def test_growing_moving_and_copying_keep_what_is_stored(is_whole, monkeypatch):
    if not is_whole:  # a buffer on a GPU, or where addresses are limited, is made anew when it grows
        monkeypatch.setattr(kv_cache, "_zeros_where_written", lambda *_: None)
    cache = SlotCache(num_layers=1, max_num_seqs=8, max_tokens=1024)
    cache.reserve(rows=2, tokens=4)
    store(cache, slice(0, 2), [0, 0], [1.0, 2.0])
    store(cache, slice(0, 2), [1, 1], [3.0, 4.0])
    cache.reserve(rows=5, tokens=300)
    assert [stored(cache, row, 2) for row in (0, 1)] == [[1.0, 3.0], [2.0, 4.0]]
    parked = cache.copy_out(0, 2)
    cache.move(source=1, target=0, tokens=2)
    cache.copy_in(4, parked, 1)
    assert [stored(cache, row, 2) for row in (0, 4)] == [[2.0, 4.0], [1.0, 0.0]]


@pytest.mark.skipif(sys.platform != "linux", reason="memory by the page is asked of Linux alone")
def test_a_buffer_on_a_cpu_has_its_whole_size_at_once_and_takes_memory_where_something_is_written():
    cache = SlotCache(num_layers=1, max_num_seqs=128, max_tokens=2**22)
    cache.reserve(rows=2, tokens=4)
    before = taken_bytes()
    store(cache, slice(0, 2), [0, 0], [1.0, 2.0])
    keys, values = cache.buffers(shared=1, size=1, like=torch.zeros(1))
    assert keys.nbytes == values.nbytes == 128 * 2**22 * 4
    cache.reserve(rows=128, tokens=2**22)
    assert cache.buffers(shared=1, size=1, like=torch.zeros(1))[0] is keys
    assert taken_bytes() - before < 2**24
    if Path("/sys/kernel/mm/transparent_hugepage").exists():  # "always" would take two megabytes for a token
        areas = Path("/proc/self/smaps").read_text().split("VmFlags:")
        assert any(" nh" in flags.splitlines()[0] for flags in areas[1:])


@pytest.mark.skipif(sys.platform != "linux", reason="memory by the page is asked of Linux alone")
def test_where_addresses_are_limited_a_buffer_takes_no_more_of_them_than_its_rows_need(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (2**32, -1))
    cache = SlotCache(num_layers=1, max_num_seqs=128, max_tokens=2**16)
    cache.reserve(rows=2, tokens=4)
    store(cache, slice(0, 2), [0, 0], [1.0, 2.0])
    assert cache.buffers(shared=1, size=1, like=torch.zeros(1))[0].shape == (1, 1, 2, 1, 64, 1)


def taken_bytes() -> int:
    """Memory of this process that is not only addresses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize(
    ("missing", "budget", "expected"),
    [
        ([0, 0], 100, []),
        ([0, 3, 4, 5], 100, [(1, 4)]),
        ([30, 30, 30], 60, [(0, 2), (2, 3)]),  # three would cost 90
        ([5, 26, 27], 1000, [(0, 2), (2, 3)]),  # 27 is more than 2 * 5 + 16
        ([500], 100, [(0, 1)]),
    ],
)
def test_prefill_groups_hold_similar_lengths_within_the_budget(missing, budget, expected):
    assert [(group.start, group.stop) for group in prefill_groups(missing, budget=budget)] == expected
