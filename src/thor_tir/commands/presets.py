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

CommandName = Literal["tirgen", "tirgen filter", "sft", "rl", "eval", "solve", "chat", "serve"]


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets, or print one: the file that ships with the package, or all options of a command under it.

    What is printed is a file that --config takes.
    """

    name: tyro.conf.Positional[str] = ""
    """Name of the preset; none lists all of them."""
    command: CommandName | None = None
    """Command of which every option is printed; without it the preset's own file is."""

    def run(self) -> None:
        """Print to standard output."""
        if not self.name:
            for name, file in PRESETS.items():
                print(f"{name:<19}{file.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
        elif self.name not in PRESETS:
            raise UsageError(f"a preset is one of {', '.join(PRESETS)}, found {self.name!r}")
        elif self.command is None:
            sys.stdout.write(PRESETS[self.name].read_text(encoding="utf-8"))
        else:
            sys.stdout.write(f"# thor {self.command} --preset {self.name}\n")
            sys.stdout.writelines(_toml(options_by_flag(defaults(self.command, ["--preset", self.name]))))


def _toml(values: Mapping[str, Any]) -> Iterator[str]:
    """Lines of keys and values. None stands as text, and what has no value yet is left out."""
    for flag, value in values.items():
        key = json.dumps(flag) if "." in flag else flag  # `critic` is an option, and so is `critic.max-tokens`
        plain = list(value) if isinstance(value, tuple) else value
        if plain is not tyro.MISSING:
            yield f"{key} = {json.dumps(str(plain) if plain is None else plain, default=str)}\n"
