"""Cold start from a data set, as a stage of a run."""

from pathlib import Path

from thor_tir.app.runtime import (
    Reporter,
    dialect_of,
    load_trainable,
    publish,
)
from thor_tir.dialect.prompts import TOOLS
from thor_tir.distributed import ALONE, Ranks
from thor_tir.pretrained import copy_weights
from thor_tir.sft import train as sft
from thor_tir.sft.config import SftConfig
from thor_tir.sft.examples import sft_row, spelled_for, within
from thor_tir.tirgen.dataset import read_dataset


def fine_tune(
    model_name: str,
    dataset: Path,
    config: SftConfig,
    folder: Path,
    reporter: Reporter,
    *,
    reasoning: bool = False,
    ranks: Ranks = ALONE,
) -> Path:
    """Cold start from a data set; returns the folder of the trained model."""
    attempts = read_dataset(dataset)
    model, tokenizer = load_trainable(model_name, config.adapters, ranks)
    dialect = dialect_of(tokenizer, TOOLS, reasoning=reasoning)
    spelled = [spelled_for(a.trajectory, dialect) for a in attempts]
    if anew := sum(ours is not a.trajectory for ours, a in zip(spelled, attempts, strict=True)):
        reporter.say(
            f"{anew} of {len(spelled)} samples are not in {model_name}'s own tokens: their text is encoded anew"
        )
    rows = within(
        (
            sft_row(
                ours,
                prompt=dialect.prompt(a.problem.question),
                trains_observations=config.trains_observations,
            )
            for ours, a in zip(spelled, attempts, strict=True)
        ),
        config.max_length,
    )
    held_out = max(1, len(rows) // 20) if len(rows) > 40 else 0
    data = sft.SftData(train=rows[held_out:], validation=rows[:held_out])
    steps = len(sft.batches(data.train, config))
    with reporter.stage(f"cold-start SFT on {len(data.train)} samples", steps) as progress:
        learner = sft.cold_start(model, tokenizer, data, config, folder, progress, ranks)
    if not ranks.is_alone:
        model, _ = load_trainable(model_name, config.adapters, ranks)
        copy_weights(learner.whole_weights(), model)
    return ranks.lead(lambda: publish(model, tokenizer, folder / "model"))
