"""Two processes train as one does: same losses, same weights, same checkpoints."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from group_cases import learner_of, thirteen_rows
from learner_group import Groups
from thor_tir.distributed import ALONE
from thor_tir.learner.batch import deal, num_inputs, plan


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What one process and the first and the second of two said about every case, and where they did it."""
    folder = tmp_path_factory.mktemp("group")
    server = Groups()
    (alone,) = server.run("everything", folder / "alone", size=1)
    first, second = server.run("in_parts", folder / "pair")
    whole, other = server.run("whole_in_each", folder / "whole")
    (after_whole,) = server.run("from_whole", folder / "after whole", size=1)
    (after,) = server.run("from_others", folder / "after", size=1)
    three = server.run("by_three", folder / "three", size=3)[0]
    (last,) = server.run("from_three", folder / "last", size=1)
    server.close()
    return {
        "alone": alone,
        "first": first,
        "second": second,
        "whole": whole,
        "other": other,
        "after": after,
        "after whole": after_whole,
        "three": three,
        "last": last,
        "folder": folder,
    }


def assert_same(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-5) -> None:
    assert one["losses"] == pytest.approx(other["losses"], rel=tolerance, abs=tolerance)
    assert one["weights"].keys() == other["weights"].keys()
    for name, weight in one["weights"].items():
        difference = (torch.tensor(weight) - torch.tensor(other["weights"][name])).abs().max()
        assert difference < tolerance, name


def test_processes_that_hold_all_of_a_small_model_end_with_the_same_bits_and_the_weights_of_one(told):
    assert told["whole"] == told["other"]
    for case in ("rl", "adapters", "kl", "one row", "saved"):
        assert_same(told["whole"][case], told["alone"][case])
    assert told["whole"]["one row"]["nll"] == pytest.approx(told["alone"]["one row"]["nll"], rel=1e-6)
    assert told["whole"]["bfloat16"]["losses"] == pytest.approx(told["alone"]["bfloat16"]["losses"], rel=1e-2)
    assert told["whole"]["skipped"] == {"is_updated": False, "same": True}


def test_checkpoints_of_whole_models_and_of_models_in_parts_go_on_in_each_other(told):
    assert_same(told["whole"]["resumed from pair"], told["first"]["saved"])
    assert_same(told["after whole"], told["first"]["saved"])
    for case in ("resumed from whole", "saved beside", "hosts"):
        assert told["whole"][case] == told["whole"]["saved"]


@pytest.mark.parametrize("case", ["sft", "rl", "recomputed", "adapters", "kl", "one row"])
def test_two_processes_have_the_losses_and_weights_of_one(told, case):
    assert told["first"][case] == told["second"][case]
    assert_same(told["first"][case], told["alone"][case])


def test_a_cold_start_that_two_processes_stop_and_continue_writes_the_journal_and_the_weights_of_one(told):
    assert_same(told["first"]["cold start"], told["alone"]["cold start"])
    journals = [
        [json.loads(line) for line in (told["folder"] / name / "sft" / "metrics.jsonl").read_text().splitlines()]
        for name in ("alone", "pair")
    ]
    assert [row["key"] for row in journals[1]] == ["1", "2", "3", "4"]  # 2 epochs of 9 rows, 5 a step
    for one, other in zip(*journals, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-9)
        assert other.get("validation_loss") == pytest.approx(one.get("validation_loss"), rel=1e-9)


def test_a_process_without_rows_takes_part_in_evaluations(told):
    assert told["first"]["one row"]["nll"] == pytest.approx(told["alone"]["one row"]["nll"], rel=1e-6)


def test_computing_layers_again_changes_nothing(told):
    for who in ("alone", "first"):
        assert_same(told[who]["recomputed"], told[who]["rl"], 1e-12)


def test_adapters_are_all_that_is_trained_where_they_are(told):
    names = told["first"]["adapters"]["weights"]
    assert names
    assert all("lora_" in name for name in names)


def test_two_processes_that_multiply_in_bfloat16_stay_close_to_float32(told):
    coarse, exact = (told["first"][case]["losses"][0] for case in ("bfloat16", "rl"))
    assert coarse != pytest.approx(exact, rel=1e-6)
    assert coarse == pytest.approx(exact, rel=0.05)  # bfloat16 has 8 bits
    assert told["alone"]["bfloat16"]["losses"][0] == pytest.approx(exact, rel=0.05)


def test_each_of_thirteen_rows_over_four_chunks_on_two_processes_contributes():
    """Two processes do with these rows what one does ("rl" above), and here one misses each row that is left out."""
    rows = thirteen_rows()
    assert sum(len(plan(hand, micro_batch_tokens=30)) for hand in deal(rows, 2)) >= 4
    full = learner_of(ALONE).step(rows).gradient_norm
    norms = [learner_of(ALONE).step([r for r in rows if r is not row]).gradient_norm for row in rows]
    assert len(norms) == 13
    assert min(abs(norm - full) for norm in norms) > 1e-5


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_rows_are_dealt_out_once_each_and_evenly(size):
    rows = thirteen_rows()
    hands = deal(rows, size)
    assert sorted(row.id for hand in hands for row in hand) == sorted(row.id for row in rows)
    loads = [sum(map(num_inputs, hand)) for hand in hands]
    assert max(loads) - min(loads) <= max(map(num_inputs, rows))
    if size == 1:
        assert hands == [rows]  # in their order, so that alone nothing changes


def test_an_update_that_is_no_number_is_skipped_everywhere_and_written_down_once(told):
    for who, folder in (("alone", "alone"), ("first", "pair"), ("second", "pair")):
        assert told[who]["skipped"] == {"is_updated": False, "same": True}
        (path,) = (told["folder"] / folder / "nonfinite").iterdir()
        content = json.loads(path.read_text())
        assert content["losses"] == {"sft": "nan"}
        assert "lm_head.weight" in content["parameters"]
        assert len(content["rows"]) == 10


def test_a_whole_model_is_made_of_the_parts_for_sampling(told):
    assert told["first"]["copied"] is told["second"]["copied"] is True


def test_a_checkpoint_of_two_processes_goes_on_in_one_and_the_other_way_round(told):
    assert_same(told["after"], told["first"]["saved"])
    assert_same(told["first"]["resumed from alone"], told["alone"]["saved"])


def test_a_checkpoint_of_two_goes_on_in_three_that_do_not_divide_its_widths_and_theirs_in_one(told):
    assert_same(told["three"], told["first"]["saved"])
    assert_same(told["last"], told["first"]["saved"])


def test_a_checkpoint_that_is_written_beside_the_next_step_is_that_of_the_step_before(told):
    for who in ("alone", "first", "second"):
        assert told[who]["saved beside"] == told[who]["saved"]


def test_processes_whose_disks_are_their_own_go_on_from_what_the_first_one_wrote(told):
    for who in ("first", "second"):
        assert told[who]["hosts"] == told[who]["saved"]


def test_a_checkpoint_of_as_many_processes_goes_on_to_the_last_bit(told):
    assert told["first"]["resumed from pair"] == told["first"]["saved"]
    assert told["alone"]["resumed from alone"] == told["alone"]["saved"]


def test_a_checkpoint_of_two_processes_holds_a_model_for_everybody(told):
    (path,) = (told["folder"] / "pair" / "checkpoints").iterdir()
    model = AutoModelForCausalLM.from_pretrained(path / "model")
    assert type(model).__name__ == "Qwen3ForCausalLM"
