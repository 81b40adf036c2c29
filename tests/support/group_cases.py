"""What the processes of a group are asked to do. Each case is called in every process and returns a JSON value."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from thor_tir.distributed import Ranks
from thor_tir.learner import trainable
from thor_tir.learner.checkpoint import CheckpointWriter, load_checkpoint, newest_checkpoint, save_checkpoint
from thor_tir.learner.config import AdapterConfig
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.learner.trainable import whole, with_adapters
from thor_tir.pretrained import copy_weights
from thor_tir.progress import Unseen
from thor_tir.rl.config import LossConfig
from thor_tir.rl.logprob_correction import Scorer, frozen_reference
from thor_tir.sft.config import SftConfig
from thor_tir.sft.train import SftData
from thor_tir.sft.train import cold_start as train
from tiny_models import tiny_model, tiny_tokenizer
from tiny_rows import episode_terms, mixed_rows, random_row, step_terms

SFT = [Term(name="sft", formula="nll")]


def learner_of(ranks: Ranks, *, adapters: int = 0, inspection: Path | None = None, **changes: Any) -> Learner:
    """Over the same float64 model every time: AdamW makes a whole step of the rounding error of a gradient near 0."""
    model = with_adapters(tiny_model(sharpness=1.0), AdapterConfig(lora_r=adapters)).double()
    options = {"learning_rate": 1e-3, "micro_batch_tokens": 30, **changes}
    return Learner(model, LearnerConfig(**options), ranks, inspection=inspection)


def sft_rows() -> list[TrainingSample]:
    return [random_row(seed, SFT) for seed in range(9)]


def thirteen_rows() -> list[TrainingSample]:
    """Both levels, so short a budget that each process accumulates over several chunks."""
    episodes = [random_row(seed, episode_terms((-1.0) ** seed * (0.5 + seed / 10))) for seed in range(8)]
    return episodes + [random_row(20 + seed, step_terms(0.7 - 0.4 * seed)) for seed in range(5)]


def outcome(learner: Learner, losses: list[float]) -> dict[str, Any]:
    """Losses, and every trained weight put together."""
    return {"losses": losses, "weights": {n: whole(p.detach()).flatten().tolist() for n, p in learner.weights.items()}}


def trained(learner: Learner, batches: list[list[TrainingSample]]) -> dict[str, Any]:
    steps = [learner.step(rows) for rows in batches]
    assert [step.num_rows for step in steps] == [len(rows) for rows in batches]
    return outcome(learner, [step.loss for step in steps] + [step.gradient_norm for step in steps])


def everything(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """All cases in one meeting of the processes; those that go on from checkpoints also read other groups'."""
    thirteen = [thirteen_rows(), thirteen_rows()]
    told = {
        "sft": trained(learner_of(ranks), [sft_rows()[:5], sft_rows()[5:]]),
        "rl": trained(learner_of(ranks), thirteen),
        "recomputed": trained(learner_of(ranks, gradient_checkpointing=True), thirteen),
        "adapters": trained(learner_of(ranks, adapters=4), thirteen),
        "kl": with_reference(ranks, folder),
        "one row": one_row(ranks),
        "bfloat16": bfloat16(ranks),
        "skipped": skipped(ranks, folder),
        "copied": copied(ranks),
        "saved": save(ranks, folder),
        "saved beside": saved_beside(ranks, folder / "beside"),
        "hosts": hosts(ranks, folder / f"host{ranks.rank}"),
        "cold start": cold_start(ranks, folder / "sft"),
    }
    places = sorted(path.parent for path in folder.parent.glob("*/checkpoints"))
    return told | {f"resumed from {place.name}": resume(ranks, place) for place in places}


def in_parts(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The same of a model that is spread over the processes, small as it is."""
    trainable.WHOLE_UP_TO = 0
    return everything(ranks, folder)


def whole_in_each(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """What is done in another way where each process holds all of the model; the checkpoints are those of others."""
    thirteen = [thirteen_rows(), thirteen_rows()]
    told = {
        "rl": trained(learner_of(ranks), thirteen),
        "adapters": trained(learner_of(ranks, adapters=4), thirteen),
        "kl": with_reference(ranks, folder),
        "one row": one_row(ranks),
        "bfloat16": bfloat16(ranks),
        "skipped": skipped(ranks, folder),
        "saved": save(ranks, folder),
        "saved beside": saved_beside(ranks, folder / "beside"),
        "hosts": hosts(ranks, folder / f"host{ranks.rank}"),
    }
    return told | {f"resumed from {place}": resume(ranks, folder.parent / place) for place in ("pair", "whole")}


def from_others(ranks: Ranks, folder: Path) -> dict[str, Any]:
    return resume(ranks, folder.parent / "pair")


def from_three(ranks: Ranks, folder: Path) -> dict[str, Any]:
    return resume(ranks, folder.parent / "three")


def from_whole(ranks: Ranks, folder: Path) -> dict[str, Any]:
    return resume(ranks, folder.parent / "whole")


def by_three(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """From a checkpoint of two, of widths that three do not divide, and one of their own for whoever comes next."""
    trainable.WHOLE_UP_TO = 0
    told = resume(ranks, folder.parent / "pair")
    save(ranks, folder)
    return told


def with_reference(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """A step away from the weights of the beginning, then one over rows that know these and the trainer's own."""
    loss = LossConfig(beta=0.5, importance_sampling_cap=2.0)
    model = tiny_model(sharpness=1.0).double()
    reference = frozen_reference(model, loss, ranks)
    learner = Learner(model, LearnerConfig(learning_rate=1e-2, micro_batch_tokens=30), ranks)
    learner.step(thirteen_rows())
    scorer = Scorer.begin(
        model, loss, folder / "scores.jsonl", hold=False, micro_batch_tokens=30, reference=reference, ranks=ranks
    )
    rows = scorer.score(thirteen_rows()[:-1])
    told = trained(learner, [rows])
    told["losses"] += [lp for row in rows for lp in (*row.reference_logprobs, *row.correction) if lp == lp]
    return told


def one_row(ranks: Ranks) -> dict[str, Any]:
    """Fewer rows than processes, then none at all, then an evaluation of one."""
    learner = learner_of(ranks)
    told = trained(learner, [[random_row(0, episode_terms(1.0))], []])
    return told | {"nll": learner.evaluate([random_row(1, SFT)])["sft"]}


def cold_start(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """A whole run of SFT, stopped after its first step and continued."""
    config = SftConfig(num_train_epochs=2, train_batch_size=5, learning_rate=1e-3, micro_batch_tokens=30)
    data = SftData(train=sft_rows(), validation=[random_row(50, SFT), random_row(51, SFT)])

    def model() -> Any:
        return tiny_model(sharpness=1.0).double()

    with suppress(Stopped):
        train(model(), tiny_tokenizer(), data, config, folder, StopsAtOnce(), ranks)
    return outcome(train(model(), tiny_tokenizer(), data, config, folder, ranks=ranks), [])


class Stopped(Exception):
    """In place of a kill."""


class StopsAtOnce(Unseen):
    """Progress that ends the run when the first step is done."""

    def advance(self, units: int = 1) -> None:
        if units:
            raise Stopped


def bfloat16(ranks: Ranks) -> dict[str, Any]:
    model = tiny_model(sharpness=1.0)
    return trained(Learner(model, LearnerConfig(bf16=True), ranks), [thirteen_rows()])


def skipped(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """A loss that is no number skips the update in every process, and is written down once."""
    learner = learner_of(ranks, inspection=folder / "nonfinite")
    before = outcome(learner, [])["weights"]
    bad = random_row(5, [Term(name="sft", formula="nll", weight=float("nan"))])
    step = learner.step([*sft_rows(), bad])
    return {"is_updated": step.is_updated, "same": outcome(learner, [])["weights"] == before}


def copied(ranks: Ranks) -> bool:
    """Whether a whole model that was given the parts has the weights of the one that learnt."""
    learner, replica = learner_of(ranks), tiny_model(sharpness=1.0, seed=1).double()
    learner.step(mixed_rows())
    copy_weights(learner.whole_weights(), replica)
    return all(torch.equal(whole(p.detach()), dict(replica.named_parameters())[n]) for n, p in learner.weights.items())


def save(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Two steps, a checkpoint, a third step."""
    learner = learner_of(ranks)
    trained(learner, [thirteen_rows(), sft_rows()])
    learner.evaluate(sft_rows())
    save_checkpoint(folder / "checkpoints", learner, extra={"round": 2})
    return trained(learner, [mixed_rows()])


def saved_beside(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """As `save`, while the third step is taken; then that step again from what was written."""
    learner = learner_of(ranks)
    trained(learner, [thirteen_rows(), sft_rows()])
    with CheckpointWriter(folder / "checkpoints", learner, is_beside=True) as writer:
        writer.save({"round": 2})
        told = trained(learner, [mixed_rows()])
    again = resume(ranks, folder)
    assert again == told
    return told


def hosts(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """As `save`, where each process has a disk of its own; then the third step from there."""
    learner = learner_of(ranks)
    trained(learner, [thirteen_rows(), sft_rows()])
    save_checkpoint(folder / "checkpoints", learner, extra={"round": 2})
    assert (newest_checkpoint(folder / "checkpoints") is not None) == ranks.leads
    return resume(ranks, folder)


def resume(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The third step from the checkpoint, in a learner that has done another one."""
    learner = learner_of(ranks)
    learner.step(sft_rows()[:3])
    learner.evaluate(sft_rows())
    place = ranks.lead(lambda: newest_checkpoint(folder / "checkpoints"))
    assert load_checkpoint(place, learner) == {"round": 2}
    return trained(learner, [mixed_rows()])
