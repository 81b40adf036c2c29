"""Keys and values in pages: whatever comes and goes, a row reads what it wrote, and no page is lost or given twice."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.engines.local.fast_decoder import attend
from thor_tir.engines.local.kv_cache import ParkedCache, Window
from thor_tir.engines.local.pages import PagedCache, attend_pages, pool_tokens
from thor_tir.errors import UsageError
from tiny_models import tiny_model

MODEL = tiny_model()
ROWS, PAGES, LONGEST = 3, 8, 200


def cache_of(pages: int = PAGES) -> PagedCache:
    return PagedCache(MODEL, max_num_seqs=ROWS, max_model_len=256, tokens=64 * pages)


def store(cache: PagedCache, row: int, places: list[int], marks: list[float]) -> None:
    """Keys are the marks and values their negatives."""
    position_N = torch.tensor(places)
    cache.reserve(rows=row + 1, tokens=max(places) + 1)
    slot_N = torch.full_like(position_N, row)
    cache.aim(Window(rows=slice(row, row + 1), visible=max(places) + 1, slot_N=slot_N, position_N=position_N))
    keys = torch.tensor(marks)[:, None, None].expand(-1, 2, 8)
    cache.write(1, keys, -keys)


def stored(cache: PagedCache, row: int, tokens: int) -> list[float]:
    cache.reserve(rows=row + 1, tokens=tokens)
    place = torch.zeros(1, dtype=torch.long)
    cache.aim(Window(rows=slice(row, row + 1), visible=tokens, slot_N=place, position_N=place))
    keys, values = cache.visible(1)
    assert torch.equal(values, -keys)
    return keys[0, 0, :tokens, 0].tolist()


@dataclass
class Sequence:
    marks: list[float]
    longest: int


actions = st.tuples(st.sampled_from(["enter", "grow", "leave", "park"]), st.integers(0, 5), st.integers(1, LONGEST))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(actions, max_size=25))
def test_whatever_comes_and_goes_rows_read_what_they_wrote_and_no_page_is_lost(steps) -> None:
    cache = cache_of()
    parked = ParkedCache(max_tokens=10_000, let_go=cache.let_go)
    rows: list[Sequence] = []
    number = 0.0
    for action, choice, count in steps:
        row = choice % len(rows) if rows else -1
        if action == "enter" and len(rows) < ROWS and cache.admits(longest := min(LONGEST, count + 40)):
            while cache.is_short:
                parked.forget_oldest()
            ids = [choice % 2] * count
            entry, reused = parked.find(ids[:-1])
            states = None if entry is None else entry.states
            cache.enter(len(rows), ids, longest=longest, states=states, reused=reused)
            marks = [1000.0 * (choice % 2) + place for place in range(count - 1)]
            rows.append(Sequence(marks, longest))
            if count - 1 > reused:
                store(cache, len(rows) - 1, list(range(reused, count - 1)), marks[reused:])
            if parked.accepts(count - 1):
                parked.park(ids[:-1], cache.copy_out(len(rows) - 1, count - 1))
        elif action == "grow" and row >= 0 and len(rows[row].marks) < rows[row].longest:
            number -= 1.0
            cache.grow([(row, len(rows[row].marks) + 1)])
            store(cache, row, [len(rows[row].marks)], [number])
            rows[row].marks.append(number)
        elif action == "park" and row >= 0 and parked.accepts(tokens := len(rows[row].marks)):
            parked.park([7 + row, *map(int, rows[row].marks[1:])], cache.copy_out(row, tokens))
        elif action == "leave" and row >= 0:
            cache.leave(row, last=len(rows) - 1, tokens=len(rows[-1].marks))
            rows[row] = rows[-1]
            rows.pop()
        for place, sequence in enumerate(rows):
            if sequence.marks:
                assert stored(cache, place, len(sequence.marks)) == sequence.marks
        held = [page for each in cache._rows for page in each.pages]
        kept = [page for entry in parked._entries for page in entry.states[0].tolist()]
        assert cache._users == [(held + kept).count(page) for page in range(PAGES + 1)]
        assert sorted({*held, *kept, *cache._free}) == list(range(1, PAGES + 1))
        assert not {*held, *kept} & {*cache._free}
        assert not cache.is_short  # so that every row can grow to its longest
        assert not cache._known_SW[len(rows) :].any()
    parked.clear()
    while rows:
        rows.pop()
        cache.leave(0, last=len(rows), tokens=0)
    assert sorted(cache._free) == list(range(1, PAGES + 1))
    assert (cache._promised, sum(cache._users)) == (0, 0)


def test_a_row_that_may_not_grow_to_its_longest_waits_and_others_may_always_grow() -> None:
    cache = cache_of(pages=5)
    assert cache.admits(130)  # 3 pages
    cache.enter(0, [1] * 10, longest=130)
    assert cache.num_free == 4
    assert not cache.admits(129)  # 3 more than the 2 that nobody was promised
    assert cache.admits(128)
    cache.enter(1, [1] * 128, longest=128)
    cache.grow([(0, 130)])
    assert cache.num_free == 0
    cache.leave(0, last=1, tokens=128)
    assert cache.num_free == 3
    assert cache.admits(130)


def test_sequences_that_begin_alike_share_full_pages_and_copy_the_rest() -> None:
    cache = cache_of()
    for _ in range(2):
        assert cache.admits(150)
    cache.enter(0, [3] * 150, longest=150)
    marks = [float(place + 1) for place in range(149)]
    store(cache, 0, list(range(149)), marks)
    states = cache.copy_out(0, 149)
    cache.enter(1, [3] * 140, longest=150, states=states, reused=139)
    first, second = (row.pages for row in cache._rows)
    assert second[:2] == first[:2]
    assert second[2] not in first
    assert stored(cache, 1, 150) == [*marks[:139], *[0.0] * 11]  # of a page that is copied nothing more comes along
    store(cache, 1, [139], [-1.0])
    assert stored(cache, 0, 149) == marks
    cache.leave(0, last=1, tokens=140)
    assert stored(cache, 0, 140) == [*marks[:139], -1.0]
    assert PAGES - cache.num_free == 4  # three of the parked one, of which two are the row's as well, and its own
    cache.let_go(states)
    assert PAGES - cache.num_free == 3


def test_pages_are_handed_out_blank() -> None:
    cache = cache_of()
    cache._pool_XLHPCD.fill_(torch.nan)
    cache.admits(100)
    cache.enter(0, [1] * 100, longest=100)
    assert stored(cache, 0, 100) == [0.0] * 100


def test_what_is_behind_a_rows_pages_is_its_own_and_never_the_rubbish() -> None:
    cache = cache_of()
    cache.admits(100)
    cache.enter(0, [1] * 100, longest=100)
    first, second = cache._rows[0].pages
    assert cache._known_SW[0].tolist() == [first, second, first, first]
    assert cache._known_SW[1].tolist() == [0] * 4


def test_attention_over_pages_is_that_of_the_plain_decoder() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(shape, generator=generator) for shape in ((3, 6, 8), (3, 2, 64, 8), (3, 2, 64, 8)))
    mask = torch.zeros(3, 1, 64).masked_fill(torch.arange(64) > torch.tensor([[[5]], [[63]], [[0]]]), -3e38)
    torch.testing.assert_close(attend_pages(query, [key], [value], mask), attend(query, [key], [value], mask))


@pytest.mark.parametrize(
    ("asked", "wanted", "free", "tokens"),
    [
        (None, 1000, 10**9, 1000),  # what the rows need
        (None, 1000, 64_000, 320),  # half of 64,000 bytes at 100 a token
        (5000, 1000, 64_000, 5000),  # what was asked for, be it too much
    ],
)
def test_the_size_of_the_pool(monkeypatch, asked, wanted, free, tokens) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    assert pool_tokens(asked, wanted, 100, torch.device("cuda")) == tokens
    assert pool_tokens(asked, wanted, 100, torch.device("cpu")) == (asked or wanted)


def test_a_pool_of_less_than_a_page_is_refused(monkeypatch) -> None:
    with pytest.raises(UsageError, match=r"would hold 63 tokens, less than one page of 64: raise --engine\.cache-tok"):
        cache_of().__init__(MODEL, max_num_seqs=1, max_model_len=64, tokens=63)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 10**10))
    with pytest.raises(UsageError, match="would hold 0 tokens"):
        pool_tokens(None, 1000, 100, torch.device("cuda"))
