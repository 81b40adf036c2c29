"""Loss and gradient against an independent implementation: TRL's GRPO on the same rows, in one process on the CPU."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from thor_tir.learner.forward import row_logprobs
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.objective import Clip, Objective, constant_mean, sequence_mean, sequence_ratio, token_mean
from thor_tir.learner.sample import Term, TrainingSample
from tiny_models import tiny_model, tiny_tokenizer
from tiny_rows import NAN, episode_terms

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore"),  # of TRL and what it imports
]

MAX_TOKENS = 12
ADVANTAGES = (1.2, -0.7, 0.4, -1.5, 0.0)
NUMBER = 4  # tokens of a prompt


def rows_of(model: Any, *, num_calls: int = 0, reach: float = 0.9) -> list[TrainingSample]:
    """Rows of one length of prompt and several of response, whose ratios reach out of every clip.

    With a call, two tokens in the middle of each response are the environment's.
    """
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number, advantage in enumerate(ADVANTAGES):
        length = 5 + number
        ids = torch.randint(5, 60, (NUMBER + length,), generator=generator).tolist()
        observed = {NUMBER + 2, NUMBER + 3} if num_calls else set()
        trained = tuple(t >= NUMBER and t not in observed for t in range(len(ids)))
        row = TrainingSample(
            id=f"row-{number}",
            token_ids=tuple(ids),
            trained=trained,
            old_logprobs=tuple(0.0 if m else NAN for m in trained),
            terms=episode_terms(advantage, nll_weight=0.0)[:1],
        )
        rows.append(row)
    scores = row_logprobs(model, rows, micro_batch_tokens=10_000)
    moved = []
    for row in rows:
        by = (reach * (2 * torch.rand(len(row.token_ids), generator=generator) - 1)).tolist()
        old = tuple(lp - d for lp, d in zip(scores[row.id], by, strict=True))
        moved.append(replace(row, old_logprobs=old))
    return moved


def ours(rows: list[TrainingSample], objective: Objective) -> tuple[float, torch.Tensor]:
    learner = Learner(tiny_model(sharpness=1.0), LearnerConfig(objective=objective, micro_batch_tokens=20))
    loss = learner.accumulate(rows).loss
    return loss, torch.cat([p.grad.flatten() for p in learner.model.parameters()])


def theirs(
    rows: list[TrainingSample], tmp_path: Any, reference: Any = None, **options: Any
) -> tuple[float, torch.Tensor]:
    trl = pytest.importorskip("trl", reason="TRL is not installed (pip install '.[reference]')")
    from datasets import Dataset

    config = trl.GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=len(rows),
        num_generations=len(rows),
        steps_per_generation=1,
        gradient_accumulation_steps=1,
        max_completion_length=MAX_TOKENS,
        epsilon=0.2,
        epsilon_high=0.28,
        **options,
    )
    model = tiny_model(sharpness=1.0)
    model.save_pretrained(tmp_path / "start")
    model.config._name_or_path = str(tmp_path / "start")  # a KL makes TRL load its reference from there
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["x"] * len(rows)}),
        processing_class=tiny_tokenizer(),
    )
    trainer.current_gradient_accumulation_steps = 1
    model = trainer.model.train()
    loss = trainer._compute_loss(model, batch_of(rows, reference))
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


def batch_of(rows: list[TrainingSample], reference: Any) -> dict[str, torch.Tensor]:
    width = max(len(row.token_ids) for row in rows) - NUMBER

    def padded(values: list[Any], filler: Any) -> list[Any]:
        return [*values, *[filler] * (width - len(values))]

    batch = {
        "prompt_ids": torch.tensor([row.token_ids[:NUMBER] for row in rows]),
        "prompt_mask": torch.ones(len(rows), NUMBER, dtype=torch.int64),
        "completion_ids": torch.tensor([padded(list(row.token_ids[NUMBER:]), 0) for row in rows]),
        "completion_mask": torch.tensor([padded([1] * (len(row.token_ids) - NUMBER), 0) for row in rows]),
        "tool_mask": torch.tensor([padded(list(map(int, row.trained[NUMBER:])), 0) for row in rows]),
        "advantages": torch.tensor([row.terms[0].advantage for row in rows]),
        "old_per_token_logps": torch.tensor([padded(known(row.old_logprobs), 0.0) for row in rows]),
        "num_items_in_batch": torch.tensor(float(sum(row.num_trained for row in rows))),
    }
    if reference is not None:
        batch["ref_per_token_logps"] = torch.tensor([padded(known(reference[row.id]), 0.0) for row in rows])
    return batch


def known(logprobs: tuple[float, ...]) -> list[float]:
    return [0.0 if math.isnan(lp) else lp for lp in logprobs[NUMBER:]]


CASES = {
    "dapo": (Objective(mean=token_mean()), {"loss_type": "dapo", "delta": 3.0}),
    "dr_grpo": (Objective(mean=constant_mean(MAX_TOKENS)), {"loss_type": "dr_grpo", "delta": 3.0}),
    "eq-4": (Objective(mean=sequence_mean()), {"loss_type": "grpo", "delta": 3.0}),
    "gspo": (
        Objective(ratio=sequence_ratio, clip=Clip(low=0.2, high=0.28, dual=1e6), mean=sequence_mean()),
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    ),
}


@pytest.mark.parametrize("num_calls", [0, 1], ids=["single turn", "with an observation"])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_trl(case, num_calls, tmp_path):
    objective, options = CASES[case]
    rows = rows_of(tiny_model(sharpness=1.0), num_calls=num_calls)
    loss, gradient = ours(rows, objective)
    expected, expected_gradient = theirs(rows, tmp_path, **options)
    assert abs(expected) > 1e-3  # otherwise nothing would be compared
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_the_kl_to_a_reference_is_that_of_trl(tmp_path):
    model = tiny_model(sharpness=1.0)
    rows = rows_of(model)
    reference = row_logprobs(tiny_model(seed=1, sharpness=1.0), rows, micro_batch_tokens=10_000)
    kl = Term(name="episode_kl", formula="kl", weight=0.3)
    with_kl = [replace(row, terms=(*row.terms, kl), reference_logprobs=reference[row.id]) for row in rows]
    loss, gradient = ours(with_kl, Objective(mean=token_mean()))
    expected, expected_gradient = theirs(
        rows, tmp_path, reference, loss_type="dapo", delta=3.0, beta=0.3, use_bias_correction_kl=False
    )
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
