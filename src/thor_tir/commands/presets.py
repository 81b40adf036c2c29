"""`--preset`: the defaults that the training and evaluation commands start from.

`nano` (the default) fits the embedded models, `paper` takes the paper's values, `released` those with which the
paper's code trains where they differ; single options override any.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tyro

from thor_tir.app.config import RunConfig, quickstart, released
from thor_tir.errors import UsageError

NANO = quickstart()
PRESETS: Mapping[str, RunConfig] = {"nano": NANO, "paper": RunConfig(), "released": released()}
STAGES = frozenset({"tirgen", "filter", "sft", "rl", "eval"})
_BESIDE = frozenset({"observation"})
"""What a preset also sets, for commands with such stages."""


def preset(kind: type[Any], value: str) -> Any:
    """The options of a command under one preset. Raises UsageError for an unknown one or a command without stages."""
    if value not in PRESETS:
        raise UsageError(f"--preset is one of {', '.join(PRESETS)}, found {value!r}")
    fields = {f.name for f in dataclasses.fields(kind)}
    if not fields & STAGES:
        raise UsageError("this command has no presets; tirgen, sft, rl, eval and solve have")
    required = {"question": tyro.MISSING} if "question" in fields else {}
    return kind(**required, **{name: getattr(PRESETS[value], name) for name in fields & (STAGES | _BESIDE)})
