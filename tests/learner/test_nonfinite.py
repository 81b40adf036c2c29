"""What is left for a person to look into when an update was no number."""

import json
from dataclasses import replace

import pytest
import torch

from thor_tir.learner.learner import Learner, LearnerConfig, TrainingDiverged, non_finite
from thor_tir.learner.sample import Term
from tiny_models import tiny_model
from tiny_rows import episode_terms, random_row

GOOD = random_row(0, episode_terms(1.0))
BAD = random_row(1, [Term(name="sft", formula="nll", weight=float("inf"))])


def test_each_skipped_update_leaves_its_rows_losses_and_parameters_and_the_third_says_where(tmp_path):
    learner = Learner(tiny_model(), LearnerConfig(), inspection=tmp_path / "nonfinite")
    learner.step([GOOD])
    assert not (tmp_path / "nonfinite").exists()
    for _ in range(2):
        assert not learner.step([GOOD, BAD]).is_updated
    with pytest.raises(TrainingDiverged, match=r"at step 4, after 2 more such.* the rows in .*step-4\.json"):
        learner.step([GOOD, BAD])
    assert sorted(path.name for path in (tmp_path / "nonfinite").iterdir()) == [f"step-{n}.json" for n in (2, 3, 4)]
    told = json.loads((tmp_path / "nonfinite" / "step-2.json").read_text())
    assert told["losses"]["sft"] == "inf"
    assert told["losses"]["episode"] == pytest.approx(learner.accumulate([GOOD]).terms["episode"].loss)
    assert told["gradient_norm"] in ("inf", "nan")
    assert "lm_head.weight" in told["parameters"]
    assert [row["token_ids"] for row in told["rows"]] == [list(GOOD.token_ids), list(BAD.token_ids)]
    assert told["rows"][0]["old_logprobs"][0] == "nan"


def test_a_good_update_between_two_bad_ones_begins_the_count_anew(tmp_path):
    learner = Learner(tiny_model(), LearnerConfig(), inspection=tmp_path)
    rows = [replace(GOOD, id=str(number)) for number in range(2)]
    for batch in ([BAD], [BAD], rows, [BAD], [BAD]):
        learner.step(batch)
    assert learner.num_skipped == 4
    assert learner.failures_in_a_row == 2


def test_the_parameters_named_are_those_that_were_hit():
    fine, broken = torch.zeros(2, 2), torch.tensor([1.0, float("nan")])
    assert non_finite([("fine", fine), ("broken", broken)]) == ["broken"]
