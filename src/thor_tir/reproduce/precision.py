"""The precision of stages: bfloat16 where a preset asks for it and this machine has such products, else float32."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from thor_tir.errors import UsageError
from thor_tir.reproduce.declared import Job, Subject
from thor_tir.storage.run_lock import CONFIG

HALVES = ("smollm2-135m",)
"""Presets that ask for bfloat16, as far as their models are run on a CPU."""

IN_FLOAT32 = {
    "tirgen": "--engine.no-bf16",
    "sft": "--no-bf16",
    "rl": "--no-bf16",
    "eval": "--engine.no-bf16",
    "eval authors": "--engine.no-bf16",
}
"""Options of commands that take back a preset's bfloat16."""


def here(subject: Subject, say: Callable[[str], None]) -> Subject:
    """The subject in float32, which is said, where its preset asks for bfloat16 and this machine has no products in it:
    they would take several times as long.
    """
    if subject.preset not in HALVES:
        return subject
    from thor_tir.products import multiplies_halves

    if multiplies_halves():
        return subject
    say(f"in float32: this processor has no products in bfloat16, which --preset {subject.preset} asks for")
    return replace(subject, words=in_float32(subject))


def in_float32(subject: Subject) -> Mapping[str, tuple[str, ...]]:
    """The further options of a subject's commands, with those that take back bfloat16."""
    words = {command: (*subject.words.get(command, ()), option) for command, option in IN_FLOAT32.items()}
    return {**subject.words, **words}


def as_begun(job: Job) -> tuple[str, ...]:
    """The words of a stage, which goes on in the precision in which it was begun, perhaps on another machine."""
    option = IN_FLOAT32.get(job.stage.command)
    if option is None or not set(HALVES) & set(job.words) or not (job.folder / CONFIG).is_file():
        return job.words
    words = tuple(word for word in job.words if word != option)
    try:
        is_half = any(_begun_with(job))
    except ValueError:  # the command itself says that it is damaged
        return job.words
    return words if is_half else (option, *words)


def _begun_with(job: Job) -> list[object]:
    """Values of every option `bf16` that a stage was begun with, none before that. Raises ValueError for damage."""
    record = job.folder / CONFIG
    return list(_halves(json.loads(record.read_text(encoding="utf-8")))) if record.is_file() else []


def _halves(options: object) -> Iterator[object]:
    """Values of every option `bf16` in a record of options, at whatever depth."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            yield from [value] if name == "bf16" else _halves(value)


def precisions(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """Names of finished stages by the precision of their matrix products; one of which it is not known is in none.

    Without bfloat16 named a model is sampled in float32 on a CPU, and as the engine chooses on a GPU. Raises UsageError
    for a damaged record.
    """
    import torch

    found: dict[str, list[str]] = {}
    for job in jobs:
        try:
            asked = _begun_with(job)
        except ValueError as error:
            raise UsageError(f"{job.folder / CONFIG} is damaged: {error}") from error
        is_chosen = torch.cuda.is_available() and job.stage.command not in ("sft", "rl")
        if any(asked) or (asked and not is_chosen):
            found.setdefault("bfloat16" if any(asked) else "float32", []).append(job.name)
    return found
