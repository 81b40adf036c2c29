"""GPU hours that a stage takes at least on the paper's models, from what memory and arithmetic allow.

A decoding step of B sequences of mean context c takes max((2 P + B c k) / bandwidth, 2 P B / flops), with P parameters
of two bytes each and k bytes of keys and values a token; training takes 3 * 2 P operations a token, and 2 P more for
the log-probabilities that RL needs. Real software reaches a third to a half of such limits. The numbers of attempts are
the paper's where it says them; where it does not (rounds of RL, attempts at a question), those of our presets and one
kept sample in two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from thor_tir.reproduce.declared import Subject

BANDWIDTH, FLOPS = 3.35e12, 989e12
"""Bytes and bf16 operations a second of one H100."""
SEQUENCES = 256
"""Sequences that are decoded at once."""
ROUNDS, PROMPTS, GROUP = 40, 128, 16
"""Rounds of RL, prompts a round, trajectories a prompt, as `--preset paper` has them."""
ASKED = 1547
"""Problems of the paper's six sets."""


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


_WORDS = ("--problems", "train.jsonl")


def _subject(name: str, actor: str, preset: str, *words: str) -> Subject:
    asked = ("--problems", "six", "--data", "{data}", *words)
    return Subject(
        name=name,
        actor=actor,
        critic="Qwen/Qwen3-32B",
        preset=preset,
        data="bench",
        words={"tirgen": (*_WORDS, *words), "rl": (*_WORDS, *words), "sft": words, "eval": asked},
    )


PAPER = (
    PaperModel(
        subject=_subject("thor-7b", "Qwen/Qwen2.5-Math-7B", "paper"),
        model=Model(parameters=7.6e9, cache=56 * 1024),
        length=1019,
        samples=29_217,
        repair=300,
    ),
    PaperModel(
        subject=_subject("thor-thinking-8b", "Qwen/Qwen3-8B", "paper-reasoning", "--reasoning"),
        model=Model(parameters=8.2e9, cache=144 * 1024),
        length=7841,
        samples=57_598,
        repair=700,
    ),
)
"""The paper's two standard models."""


def _tirgen(paper: PaperModel, _samples: int) -> float:
    tokens = 2 * paper.samples * paper.length
    return paper.model.decode_hours(tokens, paper.length) + CRITIC.decode_hours(tokens, 1024)


def _sft(paper: PaperModel, _samples: int) -> float:
    return paper.model.train_hours(paper.samples * paper.length)


def _rl(paper: PaperModel, _samples: int) -> float:
    """Half of the queries of the step level that there may be at most, one for each prompt."""
    whole = ROUNDS * PROMPTS * GROUP * paper.length
    repairs = ROUNDS * PROMPTS / 2 * GROUP * paper.repair
    sampled = paper.model.decode_hours(whole, paper.length) + paper.model.decode_hours(repairs, paper.length)
    return sampled + paper.model.train_hours(whole + repairs, passes=4)


def _eval(paper: PaperModel, samples: int) -> float:
    return paper.model.decode_hours(ASKED * samples * paper.length, paper.length)


_COSTS: Mapping[str, Callable[[PaperModel, int], float]] = {"tirgen": _tirgen, "sft": _sft, "rl": _rl, "eval": _eval}


def hours(paper: PaperModel, command: str, words: tuple[str, ...]) -> float:
    """Hours of one H100 for a stage of that command; 0 for one that samples and trains next to nothing."""
    samples = int(words[words.index("--samples") + 1]) if "--samples" in words else 1
    cost = _COSTS.get(command)
    return 0.0 if cost is None else cost(paper, samples)
