"""Needs of a run, held against the abilities of a server: the rows of the table of `thor engine check`."""

from collections.abc import Sequence
from dataclasses import dataclass

from thor_tir.engines.vllm.abilities import Abilities

TRIED = ("0.32", "0.33")
"""Versions of vLLM whose routes this package was written against: 0.32 was run, 0.33 read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """Thing that was looked at."""
    found: str
    """State of it."""
    is_good: bool
    """False where something does not work."""
    blocks: bool
    """True where RL does not work without it."""
    advice: str
    """Sentence that says what it is for, and what to do where it is not there."""


def findings(found: Abilities) -> Sequence[Finding]:
    """The rows about a server, in the order in which they matter."""
    version = found.version or "not said"
    return (
        Finding(
            name="version",
            found=version,
            is_good=version.startswith(TRIED),
            blocks=False,
            advice=f"written against vLLM {' and '.join(TRIED)}",
        ),
        Finding(name="model", found=found.model, is_good=True, blocks=False, advice=f"context {found.max_model_len}"),
        Finding(
            name="administrative routes",
            found=_open(found.admin),
            is_good=found.admin,
            blocks=True,
            advice="new weights, pausing; VLLM_SERVER_DEV_MODE=1, on loopback or a private network alone",
        ),
        Finding(
            name="token ids in and out",
            found=_open(found.tokens),
            is_good=found.tokens,
            blocks=False,
            advice="weight versions for each token, updates under requests; --enable-scale-out",
        ),
        Finding(
            name="log-probabilities",
            found=found.logprobs_mode or "not said",
            is_good=found.logprobs_mode in ("processed_logprobs", ""),
            blocks=True,
            advice="of the distribution sampled from; --logprobs-mode processed_logprobs",
        ),
        Finding(
            name="weights by path",
            found="with the extension" if found.repairs else "plain" if found.admin else "no",
            is_good=found.repairs,
            blocks=False,
            advice="on a CPU plain reloading leaves a tied output head behind; `thor engine up` brings the extension",
        ),
        Finding(
            name="weights over the network",
            found=found.transfer or "no",
            is_good=True,
            blocks=False,
            advice="--engine.weights nccl needs nccl here: `thor engine up --weights nccl`",
        ),
        Finding(
            name="weights now",
            found=found.label or "not said",
            is_good=True,
            blocks=False,
            advice="`default` until a run puts its own there",
        ),
        Finding(
            name="sleep",
            found="no" if found.is_sleeping is None else "asleep" if found.is_sleeping else "awake",
            is_good=not found.is_sleeping,
            blocks=False,
            advice="--engine.placement colocated; a server that sleeps answers nothing",
        ),
        Finding(
            name="paused",
            found="not said" if found.is_paused is None else "yes" if found.is_paused else "no",
            is_good=not found.is_paused,
            blocks=False,
            advice="a run that died while weights moved leaves it so; the next run goes on from there",
        ),
    )


def _open(is_open: bool) -> str:
    return "open" if is_open else "closed"
