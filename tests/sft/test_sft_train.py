"""The cold start: what is trained when, that it learns, and that a killed run ends where an uninterrupted one does."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from thor_tir.errors import UsageError
from thor_tir.learner.config import Schedule
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.progress import Unseen
from thor_tir.sft.config import SftConfig
from thor_tir.sft.train import SftData, batches, cold_start
from tiny_models import tiny_model, tiny_tokenizer

CONFIG = SftConfig(
    num_train_epochs=2, train_batch_size=4, learning_rate=3e-3, warmup_steps=1, lr_scheduler_type="cosine_with_min_lr"
)


def rows(count: int) -> list[TrainingSample]:
    """Random rows of 6 to 12 tokens, the first two a prompt."""
    rng = random.Random(0)
    made = []
    for number in range(count):
        length = rng.randint(6, 12)
        made.append(
            TrainingSample(
                id=str(number),
                token_ids=tuple(rng.randrange(4, 40) for _ in range(length)),
                trained=(False, False, *(True,) * (length - 2)),
                old_logprobs=(float("nan"),) * length,
                terms=(Term(name="sft", formula="nll"),),
            )
        )
    return made


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class KilledAt(Unseen):
    """Progress that kills the run after so many units of work."""

    def __init__(self, unit: int) -> None:
        self.left = unit

    def resume(self, units: int) -> None:
        self.left -= units

    def advance(self, units: int = 1) -> None:
        self.left -= units
        if self.left <= 0:
            raise Killed


def trained(folder: Path, kills: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """Weights after a run that was killed after so many further steps each time."""
    data = SftData(train=rows(10), validation=rows(3))
    for kill in kills:
        with pytest.raises(Killed):
            cold_start(tiny_model(sharpness=1.0), tiny_tokenizer(), data, CONFIG, folder, KilledAt(kill))
    model = tiny_model(sharpness=1.0)
    cold_start(model, tiny_tokenizer(), data, CONFIG, folder)
    return model.state_dict()


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "tokens_per_s"} for line in lines]


def test_every_row_is_trained_once_an_epoch_in_another_order_each_time():
    steps = batches(rows(10), CONFIG)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = ([row.id for step in half for row in step] for half in (steps[:3], steps[3:]))
    assert Counter(first) == Counter(second) == Counter(str(n) for n in range(10))
    assert first != second


def test_the_order_depends_on_the_seed_and_on_nothing_else():
    def order(seed: int) -> list[str]:
        config = SftConfig(train_batch_size=3, seed=seed)
        return [row.id for step in batches(rows(10), config) for row in step]

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_the_loss_of_what_is_trained_falls(tmp_path):
    config = SftConfig(num_train_epochs=20, train_batch_size=10, learning_rate=1e-2)
    cold_start(tiny_model(sharpness=1.0), tiny_tokenizer(), SftData(train=rows(10)), config, tmp_path)
    losses = [row["loss"] for row in metrics(tmp_path)]
    # ln 36 = 3.6 nats is the entropy of the random tokens; ten rows can be learnt by heart
    assert losses[0] > 3
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("kills", [(1,), (2, 5), (3, 4, 6)])
def test_a_run_killed_between_steps_ends_with_the_same_bits_and_the_same_record(tmp_path, kills):
    """Progress on resuming counts the steps already done, so (2, 5) kills after steps 2 and 5."""
    whole, pieces = trained(tmp_path / "whole"), trained(tmp_path / "pieces", kills)
    assert all(torch.equal(weight, pieces[name]) for name, weight in whole.items())
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "pieces")
    assert [row["step"] for row in metrics(tmp_path / "pieces")] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_that_is_started_again_trains_nothing(tmp_path):
    first = trained(tmp_path)
    again = trained(tmp_path)
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert len(metrics(tmp_path)) == 6


def test_a_step_that_was_recorded_but_not_saved_is_done_again_and_recorded_once(tmp_path, monkeypatch):
    def killed(*_: object, **__: object) -> None:
        raise Killed

    whole = trained(tmp_path / "whole")
    data = SftData(train=rows(10), validation=rows(3))
    with monkeypatch.context() as patch:
        patch.setattr("thor_tir.sft.train.CheckpointWriter.save", killed)
        with pytest.raises(Killed):
            cold_start(tiny_model(sharpness=1.0), tiny_tokenizer(), data, CONFIG, tmp_path / "pieces")
    pieces = trained(tmp_path / "pieces")
    assert all(torch.equal(weight, pieces[name]) for name, weight in whole.items())
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "pieces")


def lengthened(
    folder: Path, config: SftConfig, *lengths: int, kill: int = 0
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Weights and sentences of a run that got one length after another; the last part is killed after so many steps."""
    said: list[str] = []
    for length in lengths:
        longer, data = replace(config, num_train_epochs=length), SftData(train=rows(10))
        if kill and length == lengths[-1]:
            with pytest.raises(Killed):
                cold_start(tiny_model(sharpness=1.0), tiny_tokenizer(), data, longer, folder, KilledAt(kill))
        model = tiny_model(sharpness=1.0)
        cold_start(model, tiny_tokenizer(), data, longer, folder, say=said.append)
    return model.state_dict(), said


def test_a_run_at_a_constant_rate_that_is_extended_twice_is_the_run_that_was_begun_with_the_largest_number(tmp_path):
    constant = replace(CONFIG, lr_scheduler_type="constant", warmup_steps=0, train_batch_size=10)  # a step an epoch
    pieces, said = lengthened(tmp_path / "pieces", constant, 1, 2, 4, kill=3)
    whole, nothing = lengthened(tmp_path / "whole", constant, 4)
    assert all(torch.equal(weight, pieces[name]) for name, weight in whole.items())
    assert metrics(tmp_path / "pieces") == metrics(tmp_path / "whole")
    same = "the schedule is the same, as if the run had been begun with the larger number"
    assert said[0] == f"extended from 1 to 2 epochs after step 1: {same}"
    assert nothing == []


def test_a_run_down_a_cosine_that_is_extended_goes_on_at_the_rate_of_a_run_of_the_new_length(tmp_path):
    _, (said,) = lengthened(tmp_path, CONFIG, 1, 2)
    short, long = (Schedule.fitted(num_steps=n, warmup_steps=1, kind="cosine_with_min_lr") for n in (3, 6))
    rates = [CONFIG.learning_rate * factor for factor in (*map(short.factor, range(3)), *map(long.factor, range(3, 6)))]
    assert [row["lr"] for row in metrics(tmp_path)] == rates
    assert f"the learning rate goes from {rates[2]:.3g} at step 3 to {rates[3]:.3g} at step 4" in said
    assert rates[3] > rates[2]  # a jump up, which is why it is said


def test_a_run_is_never_made_shorter(tmp_path):
    with pytest.raises(UsageError, match="num_train_epochs was 2, is 1"):
        lengthened(tmp_path, replace(CONFIG, train_batch_size=10), 2, 1)


def test_no_rows_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no rows to train on"):
        cold_start(tiny_model(), tiny_tokenizer(), SftData(train=[]), SftConfig(), tmp_path)


def test_a_configuration_without_rows_or_epochs_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        SftConfig(num_train_epochs=0)
