"""Which trajectories the report shows, and that what it shows of them can be trusted and embedded."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fake_run import stored, write_lines
from thor_tir.eval.report.report import json_block, sample, spread, spread_over
from thor_tir.verdict import Outcome


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_a_data_block_reads_back_and_holds_no_character_that_could_end_it(value: Any) -> None:
    block = json_block(value)
    assert json.loads(block) == value
    assert not set(block) & set("<>&\u2028\u2029")


def test_the_sample_is_even_over_stages_and_outcomes(tmp_path: Path) -> None:
    rare = [stored(i, stage="rl/step 1", outcome=Outcome.CORRECT) for i in range(2)]
    common = [stored(10 + i, stage="eval/rl", outcome=Outcome.WRONG) for i in range(60)]
    write_lines(tmp_path / "t.jsonl", common + rare)
    shown = sample(tmp_path / "t.jsonl", max_bytes=10**9, max_exhibits=6)
    # both rare ones; four of sixty at the positions 0, 30, 15, 45 of van der Corput's order, shown in file order
    assert [row["id"] for row in shown.rows] == ["p10/0", "p25/0", "p40/0", "p55/0", "p0/0", "p1/0"]
    assert (shown.num_total, shown.num_damaged) == (62, 0)


def test_the_status_of_a_call_is_the_archived_one(tmp_path: Path) -> None:
    row = stored(0, stage="eval/rl", outcome=Outcome.WRONG, failed=True)
    for segment in row["segments"]:
        segment["status"] = "ok"
    write_lines(tmp_path / "t.jsonl", [row])
    (shown,) = sample(tmp_path / "t.jsonl", max_bytes=10**9).rows
    assert [s["status"] for s in shown["segments"] if "status" in s] == ["runtime", "runtime"]
    # 9 thought + 12 action + 5 closing thought tokens; the repair is not part of the trajectory
    assert (shown["tokens"], shown["calls"], shown["statuses"]) == (26, 1, ["runtime"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(), max_size=9), max_size=9))
def test_spreading_loses_and_invents_nothing(groups: list[list[int]]) -> None:
    tagged = [[(i, j, member) for j, member in enumerate(group)] for i, group in enumerate(groups)]
    assert sorted(spread_over(tagged)) == sorted(member for group in tagged for member in group)


def test_a_prefix_of_a_spread_order_is_spread() -> None:
    # bits of 0..7 reversed: 0, 4, 2, 6, 1, 5, 3, 7
    assert spread(list(range(8))) == [0, 4, 2, 6, 1, 5, 3, 7]
