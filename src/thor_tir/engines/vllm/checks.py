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
    return (*_program(found), *_routes(found), *_weights(found), *_state(found))


def _program(found: Abilities) -> Sequence[Finding]:
    version = found.version or "not said"
    return (
        _finding("version", version, f"written against vLLM {' and '.join(TRIED)}", is_good=version.startswith(TRIED)),
        _finding("model", found.model, f"context {found.max_model_len}"),
        _finding(
            "precision",
            found.precision or "not said",
            "that of runs: float32 on a CPU, bfloat16 with --bf16 or --engine.bf16; `thor engine up --dtype`",
        ),
    )


def _routes(found: Abilities) -> Sequence[Finding]:
    return (
        _finding(
            "administrative routes",
            _open(found.admin),
            "new weights, pausing; VLLM_SERVER_DEV_MODE=1, on loopback or a private network alone",
            is_good=found.admin,
            blocks=True,
        ),
        _finding(
            "token ids in and out",
            _open(found.tokens),
            "weight versions for each token, updates under requests; --enable-scale-out",
            is_good=found.tokens,
        ),
        _finding(
            "log-probabilities",
            found.logprobs_mode or "not said",
            "of the distribution sampled from; --logprobs-mode processed_logprobs",
            is_good=found.logprobs_mode in ("processed_logprobs", ""),
            blocks=True,
        ),
    )


def _weights(found: Abilities) -> Sequence[Finding]:
    return (
        _finding(
            "weights by path",
            "with the extension" if found.repairs else "plain" if found.admin else "no",
            "on a CPU plain reloading leaves a tied output head behind; `thor engine up` brings the extension",
            is_good=found.repairs,
        ),
        _finding(
            "weights over the network",
            found.transfer or "no",
            "--engine.weights nccl needs nccl here: `thor engine up --weights nccl`",
        ),
        _finding("weights now", found.label or "not said", "`default` until a run puts its own there"),
    )


def _state(found: Abilities) -> Sequence[Finding]:
    return (
        _finding(
            "sleep",
            "no" if found.is_sleeping is None else "asleep" if found.is_sleeping else "awake",
            "--engine.placement colocated; a server that sleeps answers nothing",
            is_good=not found.is_sleeping,
        ),
        _finding(
            "paused",
            "not said" if found.is_paused is None else "yes" if found.is_paused else "no",
            "a run that died while weights moved leaves it so; the next run goes on from there",
            is_good=not found.is_paused,
        ),
    )


def _finding(name: str, found: str, advice: str, *, is_good: bool = True, blocks: bool = False) -> Finding:
    return Finding(name=name, found=found, is_good=is_good, blocks=blocks, advice=advice)


def _open(is_open: bool) -> str:
    return "open" if is_open else "closed"
