"""What rows are given before they are trained: weights against the engine's log-probabilities, a reference."""

import json
import math

import pytest

from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.rl.config import LossConfig
from thor_tir.rl.logprob_correction import Scorer, corrected, frozen_reference, truncated_weights, with_kl
from tiny_models import tiny_model
from tiny_rows import NAN, VOCABULARY, episode_terms, random_row, step_terms


def test_weights_are_the_ratio_of_trainer_to_engine_up_to_the_cap_and_one_where_nothing_was_sampled():
    trainer = [NAN, math.log(0.5), math.log(0.1), math.log(0.9)]
    engine = [NAN, math.log(0.4), math.log(0.2), math.log(0.1)]
    assert truncated_weights(trainer, engine, cap=2.0) == pytest.approx((1.0, 1.25, 0.5, 2.0))


def test_an_engine_that_finds_a_token_impossible_gives_it_the_cap_and_no_overflow():
    assert truncated_weights([-1.0], [-1e5], cap=2.0) == (2.0,)


def test_a_corrected_row_is_clipped_against_the_trainer_and_weighed_against_the_engine():
    row = random_row(0, episode_terms(1.0))
    trainer = tuple(lp + math.log(1.5) for lp in row.old_logprobs)
    (scored,) = corrected([row], {row.id: trainer}, cap=2.0)
    assert [lp for lp in scored.old_logprobs if lp == lp] == [lp for lp in trainer if lp == lp]
    assert scored.correction == pytest.approx([1.5 if m else 1.0 for m in row.trained])


def test_a_loss_that_asks_for_nothing_more_leaves_the_rows_as_they_are_and_writes_nothing(tmp_path):
    scorer = Scorer.begin(tiny_model(), LossConfig(), tmp_path / "scores", hold=False, micro_batch_tokens=99)
    row = random_row(0, episode_terms(1.0, nll_weight=0.0))
    assert scorer.score([row])[0] is row
    assert not list(tmp_path.iterdir())


def test_the_kl_has_a_term_beside_each_surrogate_and_none_beside_the_likelihood():
    rows = [random_row(0, episode_terms(1.0)), random_row(1, step_terms(-1.0))]
    reference = {row.id: tuple(lp - 1 for lp in row.old_logprobs) for row in rows}
    episode, step = with_kl(rows, reference, weight=0.1)
    assert [t.name for t in episode.terms] == ["episode", "episode_nll", "episode_kl"]
    assert [(t.name, t.weight) for t in step.terms[-1:]] == [("step_kl", 0.1)]


def test_the_kl_to_the_weights_that_training_starts_from_is_zero_before_the_first_update_and_grows_after_it(tmp_path):
    learner = Learner(tiny_model(sharpness=1.0), LearnerConfig(learning_rate=1e-2))
    loss = LossConfig(beta=0.5)
    reference = frozen_reference(learner.model, loss)
    scorer = Scorer.begin(
        learner.model, loss, tmp_path / "scores", hold=False, micro_batch_tokens=64, reference=reference
    )
    rows = [random_row(seed, episode_terms(a), old_logprob=-math.log(VOCABULARY)) for seed, a in enumerate((1.0, -1.0))]
    before = learner.step(scorer.score(rows)).terms["episode_kl"]
    after = learner.step(scorer.score(rows)).terms["episode_kl"]
    assert before.loss == pytest.approx(0.0, abs=1e-6)
    assert after.loss > 1e-4
    assert not list(tmp_path.iterdir())  # a reference never moves, so nothing need be kept of it


def test_the_trainers_logprobs_are_those_of_the_rounds_first_weights_even_if_scored_again_after_an_update(tmp_path):
    learner = Learner(tiny_model(sharpness=1.0), LearnerConfig(learning_rate=1e-2))
    loss = LossConfig(importance_sampling_cap=2.0)
    rows = [random_row(seed, episode_terms(a), old_logprob=-math.log(VOCABULARY)) for seed, a in enumerate((1.0, -1.0))]

    def scored() -> list[str]:
        scorer = Scorer.begin(learner.model, loss, tmp_path / "scores.jsonl", hold=True, micro_batch_tokens=64)
        return [repr(row) for row in scorer.score(rows)]  # as printed: NaN equals nothing

    first = scored()
    learner.step(rows)
    assert scored() == first
    kept = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["key"] for row in kept] == [row.id for row in rows]
