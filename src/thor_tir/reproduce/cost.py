"""GPU hours that a stage takes at least on the paper's models, from what memory and arithmetic allow.

A decoding step of B sequences of mean context c takes max((2 P + B c k) / bandwidth, 2 P B / flops), with P parameters
of two bytes each and k bytes of keys and values a token; training takes 3 * 2 P operations a token, and 2 P more for
the log-probabilities that RL needs. Real software reaches a third to a half of such limits. The numbers of problems,
samples and rounds are those of the command's own options; TIRGen keeps one sample in two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from thor_tir.problems.benchmarks import BENCHMARKS, SIX_SETS
from thor_tir.reproduce.declared import Job, Subject
from thor_tir.rl.config import RLConfig

BANDWIDTH, FLOPS = 3.35e12, 989e12
"""Bytes and bf16 operations a second of one H100."""
SEQUENCES = 256
"""Sequences that are decoded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as far as its cost goes."""

    parameters: float
    """Number of parameters."""
    cache: float
    """Bytes of keys and values of a token."""

    def decode_hours(self, tokens: float, length: float) -> float:
        """Hours to sample so many tokens in sequences of that length."""
        read = (2 * self.parameters + SEQUENCES * length / 2 * self.cache) / BANDWIDTH
        return tokens / SEQUENCES * max(read, 2 * self.parameters * SEQUENCES / FLOPS) / 3600

    def train_hours(self, tokens: float, passes: int = 3) -> float:
        """Hours to train on so many tokens."""
        return passes * 2 * self.parameters * tokens / FLOPS / 3600


CRITIC = Model(parameters=32.8e9, cache=64 * 8 * 128 * 2 * 2)
"""Qwen3-32B, the paper's refiner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperModel:
    """One of the paper's models."""

    subject: Subject
    """Names and options of its stages."""
    model: Model
    """Its size."""
    length: float
    """Tokens of an attempt (paper, Table 7)."""
    samples: float
    """Samples of its cold start (paper, section D.1)."""
    repair: float
    """Tokens of a repair: L_suf, and a program."""


def _subject(name: str, actor: str, preset: str, samples: int, *words: str) -> Subject:
    """The stages of a model: TIRGen asks so many questions that the samples of its cold start are half of them."""
    problems = ("--problems", "train.jsonl")
    return Subject(
        name=name,
        actor=actor,
        critic="Qwen/Qwen3-32B",
        preset=preset,
        data="bench",
        limit="--limit",
        begins={
            "tirgen": (*problems, "--count", str(2 * samples), *words),
            "rl": (*problems, *words),
            "sft": words,
            "eval": ("--problems", "six", "--data", "{data}", *words),
        },
    )


PAPER = (
    PaperModel(
        subject=_subject("thor-7b", "Qwen/Qwen2.5-Math-7B", "paper", 29_217),
        model=Model(parameters=7.6e9, cache=56 * 1024),
        length=1019,
        samples=29_217,
        repair=300,
    ),
    PaperModel(
        subject=_subject("thor-thinking-8b", "Qwen/Qwen3-8B", "paper-reasoning", 57_598, "--reasoning"),
        model=Model(parameters=8.2e9, cache=144 * 1024),
        length=7841,
        samples=57_598,
        repair=700,
    ),
)
"""The paper's two standard models."""


def costs(paper: PaperModel, jobs: Sequence[tuple[Job, Any]]) -> list[float]:
    """Hours of one H100 for each stage by the options of its command, needed ones first; 0 for one that samples and
    trains next to nothing."""
    samples: dict[Path, float] = {}
    found = []
    for job, options in jobs:
        read = samples.get(Path(getattr(options, "data", None) or "").parent, paper.samples)
        samples[job.folder] = _kept(paper, options) if job.stage.command == "tirgen" else read
        cost = _COSTS.get(job.stage.command)
        found.append(0.0 if cost is None else cost(paper, options, samples[job.folder]))
    return found


def _kept(paper: PaperModel, options: Any) -> float:
    """Samples that are left of TIRGen's attempts: one in two, and no more than the paper has."""
    return min(paper.samples, float(options.count * options.schedule.attempts) / 2)


def _tirgen(paper: PaperModel, _: Any, samples: float) -> float:
    tokens = 2 * samples * paper.length
    return paper.model.decode_hours(tokens, paper.length) + CRITIC.decode_hours(tokens, 1024)


def _sft(paper: PaperModel, options: Any, samples: float) -> float:
    return paper.model.train_hours(options.sft.num_train_epochs * samples * paper.length)


def _rl(paper: PaperModel, options: Any, _: float) -> float:
    """Rounds until one of the run's bounds is reached, each with half of the repairs that there may be at most."""
    rl: RLConfig = options.rl
    trajectories, repairs = rl.most_samples
    whole, mended = trajectories * paper.length, repairs / 2 * paper.repair
    sampled = paper.model.decode_hours(whole, paper.length) + paper.model.decode_hours(mended, paper.length)
    trained = mended if rl.levels == "step" else whole + mended
    a_round = sampled + paper.model.train_hours(trained, passes=4)
    bounds = [rl.num_rounds]
    bounds += [ceil(rl.max_sampled_tokens / (whole + mended))] if rl.max_sampled_tokens else []
    bounds += [ceil(rl.max_seconds / 3600 / a_round)] if rl.max_seconds else []
    return min(bounds) * a_round


def _eval(paper: PaperModel, options: Any, _: float) -> float:
    names = [each for name in options.problems.split(",") for each in (SIX_SETS if name == "six" else (name,))]
    asked = sum(min(BENCHMARKS[name].size, options.limit or BENCHMARKS[name].size) for name in names)
    return paper.model.decode_hours(asked * options.eval.samples * paper.length, paper.length)


_COSTS: Mapping[str, Callable[[PaperModel, Any, float], float]] = {
    "tirgen": _tirgen,
    "sft": _sft,
    "rl": _rl,
    "eval": _eval,
}
