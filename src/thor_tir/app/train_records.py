"""Training on what Python holds in memory: chats, attempts or problems become the files of a run like any other.

A run's folder holds the records that it was made of, so that the same call continues it and other records are refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thor_tir.address import is_address
from thor_tir.app.config import CallConfig, RunConfig
from thor_tir.app.runtime import Runtime
from thor_tir.app.stages.sft_data import SftSource, sft_inputs
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.progress import Reporter
from thor_tir.rl.config import RLConfig
from thor_tir.rollout.sample_many import Attempt
from thor_tir.sft.config import ChatConfig, ChatFields, SftConfig
from thor_tir.storage.journal import Journal, make_folder, write_atomically
from thor_tir.storage.run_lock import claim, option_defaults
from thor_tir.tirgen.dataset import SampleFacts, to_row

RECORDS = "records.jsonl"
"""Name of the records in a run's folder."""
Learnable = Attempt | Mapping[str, Any]
"""An attempt, which is learnt token for token, or a row with a conversation in one of the usual shapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """The outcome of a training."""

    model: Path
    """Folder of the trained model, which `Thor` and every command take."""
    metrics: tuple[Mapping[str, Any], ...]
    """Figures of each step (SFT) or round (RL), as in `metrics.jsonl`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """The model that is trained, and how it is talked to."""

    model: str
    """Hub name, local folder or nano/actor."""
    reasoning: bool
    """True for a reasoning model."""
    calls: CallConfig
    """Spelling of its calls."""

    def __post_init__(self) -> None:
        if is_address(self.model):
            raise UsageError(f"{self.model} is an address: training needs the weights, a folder or a hub name")


def fine_tune_on(
    data: str | Sequence[Learnable], trainee: Trainee, config: SftConfig, folder: Path, reporter: Reporter
) -> TrainedModel:
    """Cold start on records, or on a data set by its name."""
    from thor_tir.app.stages.sft import fine_tune

    place = data if isinstance(data, str) else str(_kept(folder, [_as_row(record) for record in data]))
    options = {**asdict(trainee), "data": place, "sft": asdict(config)}
    defaults = {**option_defaults(trainee), "sft": option_defaults(config)}
    with claim(folder, options, inputs=(trainee.model, *sft_inputs(place)), defaults=defaults):
        source = SftSource(data=place, fields=ChatFields(), chats=ChatConfig())
        model = fine_tune(
            trainee.model, source, config, folder, reporter, reasoning=trainee.reasoning, calls=trainee.calls
        )
    return _trained(model, folder)


async def reinforce_on(
    problems: Sequence[Problem],
    trainee: Trainee,
    config: RLConfig,
    folder: Path,
    runtime: Runtime,
    reporter: Reporter,
) -> TrainedModel:
    """Hierarchical RL on problems."""
    from thor_tir.app.stages.rl import reinforce

    place = str(_kept(folder, [asdict(problem) for problem in problems]))
    run = RunConfig(
        problems=place,
        reasoning=trainee.reasoning,
        num_rl=len(problems),
        rl=config,
        resources=runtime.resources,
        calls=trainee.calls,
        seed=config.seed,
    )
    options = {**asdict(trainee), "problems": place, "rl": asdict(config), "resources": asdict(runtime.resources)}
    defaults = {
        **option_defaults(trainee),
        "rl": option_defaults(config),
        "resources": option_defaults(runtime.resources),
    }
    with claim(folder, options, inputs=(trainee.model, place), defaults=defaults):
        model = await reinforce(run, trainee.model, folder, runtime, reporter)
    return _trained(model, folder)


def _as_row(record: Learnable) -> Mapping[str, Any]:
    return to_row(record, SampleFacts()) if isinstance(record, Attempt) else record


def _kept(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """The file of the records. Raises UsageError where the folder holds a run on others, or there are none."""
    path = folder / RECORDS
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not text:
        raise UsageError("there is nothing to train on: no records were given")
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(f"{folder} holds a run on other records; give another output")
    make_folder(folder)
    write_atomically(path, text)
    return path


def _trained(model: Path, folder: Path) -> TrainedModel:
    journal = Journal(folder / "metrics.jsonl", is_ours=False)
    return TrainedModel(model=model, metrics=tuple(journal))
