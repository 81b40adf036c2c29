"""Options from a file: `--config FILE` on every command, overridden by what stands on the command line.

A file holds options by their names on the command line, nested or dotted, with dashes or underscores; the `config.json`
and `run.json` of a run hold them too. Tables named after commands (`[rl]`, `["tirgen filter"]`) hold what is for these
alone, so that one file serves a whole recipe; the presets of the package are such files. Values become words of the
command line, so that they are read, checked and refused as those are.
"""

import dataclasses
import difflib
import json
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from thor_tir.commands.table import COMMANDS, options_of
from thor_tir.errors import UsageError
from thor_tir.problems.rows import unrepeated

CONFIG = "--config"
FIRST_OR_COUNT = "--first takes the first problems of a data set, --count draws some by the seed: give one of them"
ALSO: Mapping[str, str] = {"chat": "solve"}
"""Section of another command that a command takes beside its own."""
_OF_RUNS = frozenset({"command", "options", "versions", "commit", "machine", "inputs", "mended", "extended"})
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
    owner: type[Any]
    """Record that has it as a field."""
    name: str
    """Name of that field."""
    hint: Any
    """Type of its values, without notes."""
    notes: Sequence[Any]
    """Notes on that type, for the command line."""


Leaves = Mapping[str, Leaf]
"""Options by their names."""


def with_config(command: str, args: Sequence[str]) -> list[str]:
    """The arguments of a command with those of the files that they name put first.

    Raises UsageError for a file that cannot be read, and for a name in it that is no option.
    """
    files, rest = _files_and_rest(args)
    return [word for file in files for word in words_of(Path(file), command)] + rest


def without_config(args: Sequence[str]) -> list[str]:
    """The arguments of a command without the files that they name. Raises UsageError where a name is missing."""
    return _files_and_rest(args)[1]


def _files_and_rest(args: Sequence[str]) -> tuple[list[str], list[str]]:
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


def words_of(file: Path, command: str) -> list[str]:
    """The words that a file of options stands for, on the command line of one command.

    Tables named after commands are sections: a command takes its own, one of two words also that of its first word,
    and `chat` that of `solve`.
    What stands outside of them is for every command that has such an option.
    """
    content, is_record = _read(file)
    sections = {} if is_record else {name: table for name, table in content.items() if _is_section(name, table)}
    own = leaves_of(command)
    shared = {name: value for name, value in content.items() if name not in sections}
    words = list(_words(file, shared, own, _leaves_of_all if sections else dict))
    for name, table in sections.items():
        is_ours = name in (command, command.split()[0], ALSO.get(command))
        words += _words(file, table, own if is_ours else {}, partial(leaves_of, name), section=f"{name}.")
    if not is_record and {"--first", "--count"} <= names_of(words):
        raise UsageError(f"{file}: {FIRST_OR_COUNT}")
    return words


def names_of(words: Sequence[str]) -> set[str]:
    """The options to which words of a command line give another value than None."""
    return {
        word.partition("=")[0]
        for word, value in zip_longest(words, words[1:])
        if word.startswith("--") and value != "None" and not word.endswith("=None")
    }


def _is_section(name: str, value: object) -> bool:
    return name in COMMANDS and isinstance(value, Mapping)


def leaves_of(command: str) -> Leaves:
    """Options of a command by each spelling: as on the command line, and by the places of records that hold them."""
    found: dict[str, Leaf] = {}
    for path, leaf in walk(options_of(command)):
        found[_plain(leaf.flag)] = found[_plain(path)] = leaf
    return found


def _leaves_of_all() -> Leaves:
    return {name: leaf for command in COMMANDS for name, leaf in leaves_of(command).items()}


def _words(
    file: Path, table: Mapping[str, Any], own: Leaves, others: Callable[[], Leaves], *, section: str = ""
) -> Iterator[str]:
    """The words of a table; options that only `others` have are left out. Raises UsageError for what nobody has."""
    for name, value in _flat(table):
        plain = _plain(name)
        # The record of a command may hold its options in a group of the command's own name.
        leaf = own.get(_plain(f"{section}{name}"), own.get(plain))
        if leaf is not None:
            _check(f"{file}: {section}{name}", leaf, value)
            yield from _spelled(leaf, value)
        elif not (elsewhere := others()).keys() & {plain, _plain(f"{section}{name}")}:
            known = {**elsewhere, **own}
            _check_table(file, name, known)
            near = difflib.get_close_matches(plain, known, n=1)
            hint = f"; did you mean {known[near[0]].flag}?" if near else ""
            where = f"`thor {section.rstrip('.')}`" if section else "this command"
            raise UsageError(f"{file}: {section}{name} is no option of {where}{hint}")


def _check_table(file: Path, name: str, known: Leaves) -> None:
    """Raise UsageError for an option in a table that is named after no command and no group of options."""
    table, dot, _ = name.partition(".")
    if dot and not any(each.startswith(f"{_plain(table)}.") for each in {**known, **_leaves_of_all()}):
        near = difflib.get_close_matches(table, COMMANDS, n=1)
        hint = f"; did you mean [{near[0]}]?" if near else ""
        raise UsageError(f"{file}: [{table}] is no command and no group of options{hint}")


_SPELLINGS: Mapping[Any, tuple[str, Callable[[str], Any]]] = {
    int: ("a whole number", int),
    float: ("a number", float),
    NoneType: ("None", {"None": None}.__getitem__),
}
"""Kinds of values that are checked here, since a page about the command line would not name the file."""


def _check(where: str, leaf: Leaf, value: object) -> None:
    """Raise UsageError for a value that is no number where one is wanted."""
    is_union = typing.get_origin(leaf.hint) in (typing.Union, UnionType)
    kinds = typing.get_args(leaf.hint) if is_union else (leaf.hint,)
    if leaf.is_repeated or leaf.is_hidden or not all(kind in _SPELLINGS for kind in kinds):
        return
    for kind in kinds:
        with suppress(ValueError, KeyError):
            _SPELLINGS[kind][1](_word(value))
            return
    wanted = " or ".join(_SPELLINGS[kind][0] for kind in kinds)
    raise UsageError(f"{where} is {value!r}, and {wanted} is wanted")


def _spelled(leaf: Leaf, value: Any) -> Iterator[str]:
    """One option with its value as words of the command line."""
    if leaf.is_hidden:
        return
    if leaf.is_positional:
        yield from map(_word, value if isinstance(value, list) else [value])
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


def _read(file: Path) -> tuple[Mapping[str, Any], bool]:
    """The table in a file, and True for the record of a run, whose options are those of one command."""
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
    if value.keys() >= {"command", "options"} and value.keys() <= _OF_RUNS:
        return value["options"], True
    return value, False


def _parse(text: str, suffix: str) -> object:
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=unrepeated)
    if suffix in (".yaml", ".yml"):
        return _yaml(text)
    raise ValueError("a file of options ends in .toml, .yaml or .json")


def _yaml(text: str) -> object:
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
            unrepeated([(key.value, value) for key, value in node.value if isinstance(key.value, str)])
            return dict(super().construct_mapping(node, deep))

    return yaml.load(text, Loader)


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _plain(name: str) -> str:
    return name.replace("_", "-").lstrip("-")


def options_by_flag(options: Any) -> dict[str, Any]:
    """Values of a command's options by their names on the command line."""
    return {leaf.flag: value_at(options, path) for path, leaf in walk(type(options)) if not leaf.is_hidden}


def value_at(options: Any, path: str) -> Any:
    """The value at a place in nested records."""
    for name in path.split("."):
        options = getattr(options, name)
    return options


def walk(kind: type[Any], path: str = "", prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every option of a record, those of records within it too, with the place of its value."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        bare, notes = _unwrapped(hints[field.name])
        named = [note.name for note in notes if getattr(note, "name", None) is not None]
        name = field.name if not named else named[-1]
        place = f"{path}{field.name}"
        if dataclasses.is_dataclass(bare) and isinstance(bare, type):
            yield from walk(bare, f"{place}.", f"{prefix}{name}." if name else prefix)
            continue
        flag = f"{prefix}{name}".replace("_", "-")
        said = " ".join(map(repr, notes)).lower()
        leaf = Leaf(
            flag=flag,
            is_bool=bare is bool,
            is_positional="positional" in said,
            is_repeated="appendaction" in said,
            is_hidden="suppress" in said,
            owner=kind,
            name=field.name,
            hint=bare,
            notes=notes,
        )
        yield place, leaf


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """A type without its notes, and the notes."""
    notes: list[Any] = []
    while typing.get_origin(hint) is typing.Annotated:
        hint, *more = typing.get_args(hint)
        notes += more
    return hint, notes
