"""The command that shows what a preset sets."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from thor_tir.commands.config_file import options_by_flag
from thor_tir.commands.options import PRESETS, defaults
from thor_tir.errors import UsageError

SUMMARIES: Mapping[str, str] = {
    "nano": "the embedded models; the default",
    "paper": "the paper's, for models that do not reason",
    "paper-reasoning": "the paper's, for reasoning models",
    "released": "those of the paper's released code, where it differs",
}
"""A line for each preset."""
CommandName = Literal["tirgen", "sft", "rl", "eval"]


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets, or print the options of a command under one, as a file that --config takes."""

    name: tyro.conf.Positional[str] = ""
    """Name of the preset; none lists all of them."""
    command: CommandName = "rl"
    """Command whose options are printed."""

    def run(self) -> None:
        """Print to standard output."""
        if not self.name:
            for name, summary in SUMMARIES.items():
                print(f"{name:<17}{summary}")
            return
        if self.name not in PRESETS:
            raise UsageError(f"a preset is one of {', '.join(PRESETS)}, found {self.name!r}")
        from thor_tir.commands import options_of

        options = defaults(options_of(self.command), ["--preset", self.name])
        sys.stdout.write(f"# thor {self.command} --preset {self.name}\n")
        sys.stdout.writelines(_toml(options_by_flag(options)))


def _toml(values: Mapping[str, Any]) -> Iterator[str]:
    """Lines of keys and values. What is None has no spelling in TOML and stands as a comment."""
    for flag, value in values.items():
        key = json.dumps(flag) if "." in flag else flag  # `critic` is an option, and so is `critic.max-tokens`
        plain = list(value) if isinstance(value, tuple) else value
        yield f"# {key} is not set\n" if plain is None else f"{key} = {json.dumps(plain, default=str)}\n"
