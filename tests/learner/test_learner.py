"""The whole step: equivalences between batches, neutrality of what must not be trained, faults, and learning."""

import random
from dataclasses import replace

import pytest
import torch

from thor_tir.errors import UsageError
from thor_tir.learner.batch import MicroBatch, collate
from thor_tir.learner.config import Schedule
from thor_tir.learner.forward import trained_logprobs
from thor_tir.learner.learner import Learner, LearnerConfig, TrainingDiverged
from thor_tir.learner.objective import Clip, Objective, clipped_surrogate, log_ratio, token_ratio
from thor_tir.learner.output_head import is_linear
from thor_tir.learner.sample import Term, TrainingSample
from tiny_models import tiny_model
from tiny_rows import NAMES, NAN, episode_terms, mixed_rows, random_row, step_terms

SFT = (Term(name="sft", formula="nll"),)


def learner_with(**changes) -> Learner:
    """Over the same float64 model every time."""
    return Learner(tiny_model().double(), LearnerConfig(**{"learning_rate": 1e-2, **changes}))


def gradient(learner: Learner, rows: list[TrainingSample]) -> torch.Tensor:
    learner.optimizer.zero_grad()
    learner.accumulate(rows)
    return torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()]).clone()


def carrying(rows: list[TrainingSample], name: str) -> list[TrainingSample]:
    """The rows with their terms of one name alone."""
    alone = [replace(row, terms=tuple(t for t in row.terms if t.name == name)) for row in rows]
    return [row for row in alone if row.terms]


def sampled_now(learner: Learner, rows: list[TrainingSample]) -> list[TrainingSample]:
    """The rows with the log-probabilities of the present weights as those of the policy that sampled."""
    with torch.no_grad():
        logprobs = iter(trained_logprobs(learner.model, collate(rows, dtype=torch.float64)).tolist())
    return [replace(row, old_logprobs=tuple(next(logprobs) if m else NAN for m in row.trained)) for row in rows]


def surrogate(learner: Learner, batch: MicroBatch) -> torch.Tensor:
    """Of the default objective, written out beside the learner's own composition."""
    logp_N = trained_logprobs(learner.model, batch)
    ratio_N = token_ratio(log_ratio(logp_N, batch.old_logp_N), batch.row_N)
    return clipped_surrogate(ratio_N, batch.shares["episode"].adv_N, Clip())


@pytest.mark.parametrize("micro_batch_tokens", [1, 40, 77, 10_000])
def test_gradient_and_loss_do_not_depend_on_padding_accumulation_or_order(micro_batch_tokens):
    rows = mixed_rows()
    whole = learner_with(micro_batch_tokens=10_000)
    other = learner_with(micro_batch_tokens=micro_batch_tokens)
    shuffled = random.Random(micro_batch_tokens).sample(rows, len(rows))
    torch.testing.assert_close(gradient(other, shuffled), gradient(whole, rows), rtol=1e-9, atol=1e-12)
    assert other.accumulate(shuffled).loss == pytest.approx(whole.accumulate(rows).loss, rel=1e-12)


def test_the_joint_loss_and_gradient_are_the_sums_of_those_of_each_component_alone():
    learner, rows = learner_with(), mixed_rows()
    parts = [carrying(rows, name) for name in NAMES]
    summed = sum(gradient(learner, part) for part in parts)
    # the model's norms compute in float32 whatever its dtype, so their gradients sum to 1e-7
    torch.testing.assert_close(gradient(learner, rows), summed, rtol=1e-6, atol=1e-6)
    alone = sum(learner.accumulate(part).loss for part in parts)
    assert learner.accumulate(rows).loss == pytest.approx(alone, rel=1e-12)


def test_episode_rows_alone_are_plain_grpo():
    learner = learner_with()
    rows = [random_row(seed, episode_terms(a, nll_weight=0.0)) for seed, a in enumerate((1.0, -0.5, 0.2))]
    loss = surrogate(learner, collate(rows, dtype=torch.float64)).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(learner.model.parameters()))])
    torch.testing.assert_close(gradient(learner, rows), expected, rtol=1e-9, atol=1e-12)


def test_step_rows_and_nll_of_weight_zero_leave_plain_grpo_bit_for_bit():
    plain = [random_row(seed, episode_terms(a)[:1]) for seed, a in enumerate((1.0, -0.5, 0.2))]
    rows = [random_row(seed, episode_terms(a, nll_weight=0.0)) for seed, a in enumerate((1.0, -0.5, 0.2))]
    rows += [random_row(10, step_terms(1.0, weight=0.0, nll_weight=0.0))]
    one, other = learner_with(), learner_with()
    one.step(plain)
    other.step(rows)
    assert torch.equal(weights(one), weights(other))


def test_on_policy_the_gradient_is_that_of_minus_advantage_times_logprob_over_the_tokens():
    learner = learner_with()
    rows = sampled_now(learner, [random_row(0, episode_terms(-2.0)), random_row(1, episode_terms(-0.5))])
    batch = collate(rows, dtype=torch.float64)
    logp_N = trained_logprobs(learner.model, batch)
    # d rho / d log pi = 1 at rho = 1, so -A log pi / N has the surrogate's gradient
    adv_N = torch.tensor([-2.0, -0.5], dtype=torch.float64)[batch.row_N]
    loss = (-adv_N * logp_N).sum() / sum(row.num_trained for row in rows)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(learner.model.parameters()))])
    torch.testing.assert_close(gradient(learner, rows), expected, rtol=1e-9, atol=1e-12)


def test_the_ids_of_observations_as_targets_leave_the_gradient_alone():
    """Two tool calls: as inputs the observations matter, as targets they must not."""
    learner = learner_with()
    trained = (False, True, True, False, False, True, True, False, False, True)
    row = TrainingSample(
        id="two-calls",
        token_ids=(1, 2, 3, 11, 12, 4, 5, 13, 14, 6),
        trained=trained,
        old_logprobs=tuple(-3.0 if is_trained else NAN for is_trained in trained),
        terms=episode_terms(1.0),
    )

    def gradient_with(target: int | None) -> torch.Tensor:
        batch = collate([row], dtype=torch.float64)
        if target is not None:
            is_trained_BT = torch.zeros_like(batch.target_ids_BT, dtype=torch.bool)
            is_trained_BT.view(-1)[batch.trained_N] = True
            targets_BT = torch.where(is_trained_BT, batch.target_ids_BT, target)
            assert (targets_BT != batch.target_ids_BT).sum() == 4  # the two observations
            batch = replace(batch, target_ids_BT=targets_BT)
        grads = torch.autograd.grad(surrogate(learner, batch).sum(), list(learner.model.parameters()))
        return torch.cat([g.flatten() for g in grads])

    assert torch.equal(gradient_with(None), gradient_with(target=20))


def test_what_follows_the_last_trained_token_leaves_the_gradient_alone():
    row = random_row(3, SFT)
    assert not row.trained[-1]
    other = replace(row, token_ids=(*row.token_ids[:-1], 22))
    assert torch.equal(gradient(learner_with(), [row]), gradient(learner_with(), [other]))


def test_unknown_logprobs_at_untrained_positions_never_reach_the_gradient():
    rows = mixed_rows()
    known = [replace(r, old_logprobs=tuple(-9.0 if lp != lp else lp for lp in r.old_logprobs)) for r in rows]
    assert torch.equal(gradient(learner_with(), rows), gradient(learner_with(), known))
    assert gradient(learner_with(), rows).isfinite().all()


def test_a_row_of_advantage_zero_counts_in_the_mean_and_changes_nothing_else():
    learner, row = learner_with(), random_row(0, episode_terms(-1.0))
    zero = random_row(1, episode_terms(0.0))
    share = row.num_trained / (row.num_trained + zero.num_trained)
    torch.testing.assert_close(gradient(learner, [row, zero]), share * gradient(learner, [row]), rtol=1e-9, atol=1e-15)


def test_metrics_tell_loss_tokens_and_clipping_of_each_component():
    learner = learner_with(objective=Objective(clip=Clip(low=0.2, high=0.28, dual=3.0)))
    rows = sampled_now(learner, [random_row(0, episode_terms(1.0)), random_row(1, episode_terms(-1.0))])
    up, down = rows
    # the policy that sampled gave e^-1 times as much: every ratio is e = 2.718, above 1.28 and below 3
    shifted = [replace(row, old_logprobs=tuple(lp - 1.0 for lp in row.old_logprobs)) for row in rows]
    metrics = learner.step(shifted)
    episode = metrics.terms["episode"]
    total = up.num_trained + down.num_trained
    assert episode.drift is not None
    assert (episode.num_tokens, episode.num_rows) == (total, 2)
    assert episode.loss == pytest.approx((-1.28 * up.num_trained + 2.718281828 * down.num_trained) / total)
    assert episode.drift.high_share == pytest.approx(up.num_trained / total)
    assert (episode.drift.low_share, episode.drift.dual_share) == (0.0, 0.0)
    assert (episode.drift.mean_log_ratio, episode.drift.max_log_ratio) == pytest.approx((1.0, 1.0))
    assert episode.drift.approx_kl == pytest.approx(2.718281828 - 2.0)
    # log ratios of 1, give or take a rounding: the last two bins meet there
    assert (sum(episode.drift.histogram[-2:]), sum(episode.drift.histogram)) == (total, total)
    nll = metrics.terms["episode_nll"]
    assert (nll.num_tokens, nll.num_rows, nll.drift) == (up.num_trained, 1, None)
    assert nll.loss == pytest.approx(0.01 * nll.nll)
    assert metrics.loss == pytest.approx(episode.loss + nll.loss)


def test_the_mean_nll_of_an_evaluation_is_that_of_the_training_loss_before_the_step():
    rows = [random_row(seed, SFT) for seed in range(5)]
    learner = learner_with(micro_batch_tokens=30)
    before = weights(learner)
    evaluated = learner.evaluate(rows)
    assert torch.equal(weights(learner), before)
    assert evaluated == {"sft": pytest.approx(learner.step(rows).loss, rel=1e-12)}


@pytest.mark.parametrize("rows", [[], [random_row(0, episode_terms(0.0))]])
def test_without_a_row_that_can_teach_the_weights_stay_where_they_are(rows):
    learner = learner_with(weight_decay=0.5)
    before = weights(learner)
    metrics = learner.step(rows)
    assert torch.equal(weights(learner), before)
    assert (metrics.is_updated, metrics.num_rows, metrics.num_tokens, metrics.loss) == (False, len(rows), 0, 0.0)


def test_the_learning_rate_follows_the_schedule_by_step():
    learner = learner_with(learning_rate=0.4, schedule=Schedule(warmup_steps=4))
    assert [learner.step([random_row(0, SFT)]).learning_rate for _ in range(5)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.4]
    )


def test_a_non_finite_gradient_skips_the_update_and_the_third_in_a_row_raises():
    learner, good = learner_with(), random_row(0, SFT)
    bad = random_row(1, [Term(name="sft", formula="nll", weight=float("inf"))])
    before = weights(learner)
    assert [learner.step([bad]).is_updated for _ in range(2)] == [False, False]
    assert torch.equal(weights(learner), before)
    assert learner.step([good]).is_updated  # and the count starts again
    before = weights(learner)
    learner.step([bad])
    learner.step([bad])
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        learner.step([bad])
    assert torch.equal(weights(learner), before)
    assert learner.num_skipped == 5


def test_half_precision_parameters_are_refused_because_small_updates_would_vanish():
    with pytest.raises(UsageError, match=r"torch\.bfloat16, which rounds small updates away"):
        Learner(tiny_model().bfloat16(), LearnerConfig())


def test_frozen_parameters_stay_and_a_model_without_any_other_is_refused():
    model = tiny_model().double()
    model.requires_grad_(False)
    with pytest.raises(UsageError, match="no parameter that requires a gradient"):
        Learner(model, LearnerConfig())
    head = model.get_output_embeddings().weight.requires_grad_()
    before = [p.clone() for p in model.parameters()]
    Learner(model, LearnerConfig(learning_rate=1e-2)).step([random_row(0, SFT)])
    moved = [p for p, old in zip(model.parameters(), before, strict=True) if not torch.equal(p, old)]
    assert [p is head for p in moved] == [True]


@pytest.mark.parametrize("is_training", [True, False])
def test_the_model_is_left_in_the_mode_it_was_found_in(is_training):
    learner, modes = learner_with(), []
    is_linear(learner.model)  # its trial is a call too
    learner.model.train(is_training)
    hook = learner.model.register_forward_pre_hook(lambda module, _inputs: modes.append(module.training))
    learner.step([random_row(0, SFT)])
    learner.evaluate([random_row(0, SFT)])
    hook.remove()
    assert modes == [True, False]
    assert learner.model.training is is_training


def test_bfloat16_autocast_has_nearly_the_loss_of_float32_and_keeps_float32_weights():
    rows = [random_row(seed, SFT) for seed in range(4)]
    exact = Learner(tiny_model(), LearnerConfig(learning_rate=1e-2)).step(rows).loss
    rough = Learner(tiny_model(), LearnerConfig(learning_rate=1e-2, bf16=True))
    assert rough.step(rows).loss == pytest.approx(exact, rel=0.02)
    assert {p.dtype for p in rough.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("terms", [episode_terms, step_terms])
def test_rows_of_positive_advantage_become_more_likely_than_those_of_negative_within_a_few_steps(terms):
    learner = Learner(tiny_model(sharpness=1.0), LearnerConfig(learning_rate=3e-3))
    good = [random_row(seed, terms(1.0, nll_weight=0.0)) for seed in range(4)]
    bad = [random_row(seed, terms(-1.0)) for seed in range(10, 14)]
    (component,) = {t.name for row in bad for t in row.terms}
    good_before, bad_before = learner.evaluate(good)[component], learner.evaluate(bad)[component]
    for _ in range(5):
        learner.step(sampled_now(learner, [*good, *bad]))
    assert learner.evaluate(good)[component] < good_before - 0.5
    assert learner.evaluate(bad)[component] > bad_before + 0.5
