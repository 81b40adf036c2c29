"""`--preset`: the values that the options of training and evaluation begin from; single options override any."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import tyro

from thor_tir.app.config import RunConfig, quickstart, released
from thor_tir.errors import UsageError

PresetName = Literal["nano", "paper", "released"]
PresetOption = Annotated[
    PresetName,
    tyro.conf.arg(
        help="Values that the options begin from: `nano` for the embedded models (the defaults shown here), `paper` "
        "the paper's, `released` those of the paper's code where it differs."
    ),
]
"""The option `--preset` of every command that has one."""
NANO = quickstart()
PRESETS: Mapping[str, RunConfig] = {"nano": NANO, "paper": RunConfig(), "released": released()}

_BESIDE = frozenset({"observation"})
"""Set by a preset, too, in commands that take one."""
_OF_EVALUATION = frozenset({"rollout", "correction"})
"""Set as an evaluation has them, in a command that answers one question."""
_STAGES = frozenset({"tirgen", "filter", "sft", "rl", "eval"})


def preset_in(args: Sequence[str]) -> str | None:
    """The last preset that the arguments name, as `--preset NAME` or `--preset=NAME`; None where they name none."""
    found = None
    for place, word in enumerate(args):
        if word == "--preset":
            found = args[place + 1] if place + 1 < len(args) else ""
        elif word.startswith("--preset="):
            found = word.removeprefix("--preset=")
    return found


def defaults(kind: type[Any], args: Sequence[str]) -> Any:
    """The options of a command under the preset that its arguments name; None where they name none.

    Raises UsageError for an unknown preset, or for a command that has none.
    """
    name = preset_in(args)
    if name is None:
        return None
    fields = {f.name for f in dataclasses.fields(kind)}
    if "preset" not in fields:
        raise UsageError("this command has no --preset; tirgen, sft, rl, eval and solve have")
    if (config := PRESETS.get(name)) is None:
        raise UsageError(f"--preset is one of {', '.join(PRESETS)}, found {name!r}")
    required = {"question": tyro.MISSING} if "question" in fields else {}
    values = {field: getattr(config, field) for field in fields & (_STAGES | _BESIDE)}
    values |= {field: getattr(config.eval, field) for field in fields & _OF_EVALUATION}
    return kind(**required, **values, preset=name)
