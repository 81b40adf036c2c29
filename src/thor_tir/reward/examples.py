"""Examples for a reward model: the tokens that a policy read and wrote, with their verdict as label.

The files of a run are found by their names: `rollouts.jsonl` of RL, the attempts of its validation, and of a folder
that is an evaluation its attempts; where there is none of these, TIRGen's `raw.jsonl`. The evaluations of a quickstart
are left alone, since its test problems are for testing.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from thor_tir.errors import UsageError
from thor_tir.rollout.sample_many import DROPPED
from thor_tir.storage.journal import JsonObject
from thor_tir.storage.trajectory_json import trajectory_from_json
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Outcome

Labels = Literal["outcome", "process"]
"""Labels of a reward model. `outcome`: one for each response, good where its answer is right. `process`: one for each
step, read with all before it: good where the answer is right in the end and the step's own call, if any, succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardExample:
    """A response, or its beginning, with its label."""

    problem_id: str
    """Id of the problem: examples of one problem stay together when some are held out."""
    token_ids: tuple[int, ...]
    """Prompt and response, as they were read and written."""
    is_good: bool
    """Label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardData:
    """Examples of runs, and what was left out."""

    examples: tuple[RewardExample, ...]
    """All examples, in the order of the files."""
    counts: Counter[str]
    """Attempts that were read, `unscored` ones, those `lost` to faults of the machine, and `damaged` lines."""


def attempt_files(run: Path) -> list[Path]:
    """The files of a run whose attempts are trained on. Raises UsageError where there are none."""
    if (run / "manifest.json").is_file():
        found = sorted(run.glob("attempts/*.jsonl"))
    else:
        found = [path for place in (run, run / "rl") for path in sorted(place.glob("rollouts*.jsonl"))]
        found += [path for place in (run, run / "rl") for path in sorted(place.glob("validation/*/attempts/*.jsonl"))]
        found = found or [path for place in (run, run / "tirgen") for path in sorted(place.glob("raw*.jsonl"))]
    if not found:
        raise UsageError(f"{run} holds no attempts with verdicts; give the folder of `thor rl`, `eval` or `quickstart`")
    return found


def read_examples(files: Sequence[Path], labels: Labels) -> RewardData:
    """The examples of these files. Repairs of single calls have no verdict and are none."""
    counts: Counter[str] = Counter()
    examples: list[RewardExample] = []
    for row in _rows(files, counts):
        if DROPPED in row:
            counts["lost"] += 1
        elif "outcome" in row and "trajectory" in row:
            outcome = Outcome(row["outcome"])
            counts["unscored" if outcome is Outcome.UNSCORED else "attempts"] += 1
            if outcome is not Outcome.UNSCORED:
                whole = trajectory_from_json(row["trajectory"])
                examples += _examples(whole, is_right=outcome is Outcome.CORRECT, labels=labels)
    return RewardData(examples=tuple(examples), counts=counts)


def _examples(trajectory: Trajectory, *, is_right: bool, labels: Labels) -> Iterator[RewardExample]:
    ids = list(trajectory.prompt.token_ids)
    for number, step in enumerate(trajectory.steps, 1):
        ids += [i for span in step.spans for i in span.token_ids]
        if labels == "process" or number == len(trajectory.steps):
            is_good = is_right and not (labels == "process" and step.failed)
            yield RewardExample(problem_id=trajectory.problem_id, token_ids=tuple(ids), is_good=is_good)


def _rows(files: Sequence[Path], counts: Counter[str]) -> Iterator[JsonObject]:
    for path in files:
        for line in path.read_bytes().split(b"\n")[:-1]:  # what a kill left of a last line is no row
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise TypeError
            except (ValueError, TypeError):
                counts["damaged"] += 1
                continue
            yield row


def split(
    examples: Sequence[RewardExample], share: float, seed: int
) -> tuple[list[RewardExample], list[RewardExample]]:
    """Examples for training and those held out, a problem with all its examples on one side.

    The side depends on the seed and the problem alone. Raises UsageError where a side lacks one of the labels.
    """
    sides: tuple[list[RewardExample], list[RewardExample]] = ([], [])
    for example in examples:
        sides[_place(example.problem_id, seed) < share].append(example)
    for name, side in zip(("trained on", "held out"), sides, strict=True):
        good = sum(example.is_good for example in side)
        if good in (0, len(side)):
            raise UsageError(
                f"of {len(side)} examples that are {name} {good} are good, and a reward model needs good and bad ones: "
                "give more --runs, or another --held-out"
            )
    return sides


def _place(problem_id: str, seed: int) -> float:
    """A number from 0 to 1 that a problem has in every run of that seed."""
    digest = blake2b(f"{seed}\x1f{problem_id}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
