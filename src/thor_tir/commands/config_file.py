"""Options from a file: `--config FILE` on every command, overridden by what stands on the command line.

A file holds options by their names on the command line, nested or dotted, with dashes or underscores; the `config.json`
and `run.json` of a run hold them too. Its values become words of the command line, so that they are read, checked and
refused as those are.
"""

import dataclasses
import difflib
import json
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from thor_tir.errors import UsageError

CONFIG = "--config"
_OF_RUNS = frozenset({"command", "options", "versions", "commit", "machine", "inputs"})
"""Keys of a run.json, whose options stand under `options`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One option of a command."""

    flag: str
    """Name on the command line, without dashes before it."""
    is_bool: bool
    """True for an option that is given or not."""
    is_positional: bool
    """True for a word without a name."""
    is_repeated: bool
    """True for an option that is given once for each of its values."""
    is_hidden: bool
    """True for a value that the command does not read and has no option for; records of runs hold it all the same."""


def with_config(kind: type[Any], args: Sequence[str]) -> list[str]:
    """The arguments with those of the files that they name put first.

    Raises UsageError for a file that cannot be read, and for a name in it that is no option of the command.
    """
    files, rest = _named_files(args)
    leaves = {} if not files else _leaves(kind)
    return [word for file in files for word in _words(Path(file), leaves)] + rest


def _named_files(args: Sequence[str]) -> tuple[list[str], list[str]]:
    files: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == CONFIG:
            if (file := next(words, None)) is None:
                raise UsageError("--config needs a file")
            files.append(file)
        elif word.startswith(f"{CONFIG}="):
            files.append(word.removeprefix(f"{CONFIG}="))
        else:
            rest.append(word)
    return files, rest


def _words(file: Path, leaves: Mapping[str, Leaf]) -> Iterator[str]:
    for name, value in _flat(_read(file)):
        leaf = leaves.get(_plain(name))
        if leaf is None:
            near = difflib.get_close_matches(_plain(name), leaves, n=1)
            hint = f"; did you mean {leaves[near[0]].flag}?" if near else ""
            raise UsageError(f"{file}: {name} is no option of this command{hint}")
        if leaf.is_hidden:
            continue
        if leaf.is_positional:
            yield str(value)
        elif leaf.is_bool and isinstance(value, bool):
            head, dot, last = leaf.flag.rpartition(".")
            yield f"--{leaf.flag}" if value else f"--{head}{dot}no-{last}"
        elif leaf.is_repeated:
            for each in value if isinstance(value, list) else [value]:
                yield from (f"--{leaf.flag}", _word(each))
        else:
            yield f"--{leaf.flag}"
            yield from map(_word, value if isinstance(value, list) else [value])


def _word(value: object) -> str:
    if isinstance(value, bool | NoneType):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        value = _parse(text, file.suffix.lower())
    except Exception as error:  # each format has errors of its own
        raise UsageError(f"{file} is no valid {file.suffix.lstrip('.').upper()}: {error}") from error
    if not isinstance(value, Mapping):
        raise UsageError(f"{file} holds no table of options but {type(value).__name__}")
    return value["options"] if value.keys() >= {"command", "options"} and value.keys() <= _OF_RUNS else value


def _parse(text: str, suffix: str) -> object:
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text)
    if suffix in (".yaml", ".yml"):
        import yaml  # type: ignore[import-untyped]

        return yaml.safe_load(text)
    raise ValueError("a file of options ends in .toml, .yaml or .json")


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _plain(name: str) -> str:
    return name.replace("_", "-").lstrip("-")


def _leaves(kind: type[Any]) -> dict[str, Leaf]:
    """Options by each spelling: as on the command line, and by the places of the records that hold them."""
    found: dict[str, Leaf] = {}
    for path, leaf in _walk(kind, "", ""):
        found[_plain(leaf.flag)] = found[_plain(path)] = leaf
    return found


def options_by_flag(options: Any) -> dict[str, Any]:
    """Values of a command's options by their names on the command line."""
    found = {}
    for path, leaf in _walk(type(options), "", ""):
        if leaf.is_hidden:
            continue
        value = options
        for name in path.split("."):
            value = getattr(value, name)
        found[leaf.flag] = value
    return found


def _walk(kind: type[Any], path: str, prefix: str) -> Iterator[tuple[str, Leaf]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        bare, notes = _unwrapped(hints[field.name])
        named = [note.name for note in notes if getattr(note, "name", None) is not None]
        name = field.name if not named else named[-1]
        place = f"{path}{field.name}"
        if dataclasses.is_dataclass(bare) and isinstance(bare, type):
            yield from _walk(bare, f"{place}.", f"{prefix}{name}." if name else prefix)
            continue
        flag = f"{prefix}{name}".replace("_", "-")
        said = " ".join(map(repr, notes)).lower()
        leaf = Leaf(
            flag=flag,
            is_bool=bare is bool,
            is_positional="positional" in said,
            is_repeated="appendaction" in said,
            is_hidden="suppress" in said,
        )
        yield place, leaf


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """A type without its notes, and the notes."""
    notes: list[Any] = []
    while typing.get_origin(hint) is typing.Annotated:
        hint, *more = typing.get_args(hint)
        notes += more
    return hint, notes
