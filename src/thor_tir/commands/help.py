"""The help page of a command: options by headings, what everyone needs first; `-h` stops after that."""

import ast
import inspect
import os
import shutil
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, Literal

from thor_tir.commands.config_file import Leaf, value_at, walk
from thor_tir.commands.headings import ESSENTIALS, FIRST, HEADINGS, OTHERS, heading_of
from thor_tir.commands.table import COMMANDS, members, options_of

FILES = "--config FILE takes options from a TOML, YAML or JSON file, or from the run.json of a run; later words win."
"""Sentence in the help of every command."""
WIDEST, COLUMN = 110, 30
"""Longest line, and where texts begin."""
WORDS = {str: "TEXT", int: "N", float: "NUMBER", bool: "", Path: "PATH"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as a page shows it."""

    flag: str
    """Name on the command line, without dashes; of a word without a name what it is."""
    names: str
    """The option and its value as they are typed."""
    text: str
    """Sentence that explains it, its default included."""
    record: str
    """Name of the record that it belongs to; empty for the command's own."""


def help_page(command: str, defaults: Any = None, *, is_short: bool = False) -> str:
    """The page of a command; `defaults` are its options under the preset that was named, if one was."""
    found = list(options(command, defaults))
    groups = grouped(command, found)
    kind = options_of(command)
    words = " ".join(option.names for option in found if not option.names.startswith("-"))
    lines = [f"usage: thor {command} {f'{words} ' if words else ''}[OPTIONS]"]
    for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
        lines += ["", *_wrapped(paragraph)]
    shown = {FIRST: groups[FIRST]} if is_short and FIRST in groups else groups
    for title, group in shown.items():
        lines += ["", _bold(title), *(line for option in group for line in _lines(option))]
    rest = {title: group for title, group in groups.items() if title not in shown}
    if rest:
        more = "; ".join(f"{title[0].lower()}{title[1:]} ({len(group)})" for title, group in rest.items())
        told = f"{sum(map(len, rest.values()))} further options: {more}"
        lines += ["", *_wrapped(f"`thor {command} --help` explains {told}.")]
    beside = [f"  thor {command} {name:<10} {COMMANDS[f'{command} {name}'].summary}" for name in members(command)]
    return "\n".join([*lines, "", *_wrapped(FILES), *(["", "Beside it:", *beside] if beside else [])])


MOST_TOGETHER = 12
"""Options that need no headings."""


def grouped(command: str, found: Sequence[Option]) -> Mapping[str, Sequence[Option]]:
    """The options of a command by headings, in the order of the page."""
    names = ESSENTIALS.get(command, [option.flag for option in found if not option.record])
    if command not in ESSENTIALS and len(found) <= MOST_TOGETHER:
        return {OTHERS: found}
    first = sorted((option for option in found if option.flag in names), key=lambda option: names.index(option.flag))
    rest = {option: heading_of(option.flag, option.record) for option in found if option not in first}
    order = dict.fromkeys([*(heading.title for heading in HEADINGS), *rest.values(), OTHERS])
    groups = {title: [option for option, heading in rest.items() if heading == title] for title in order}
    return {FIRST: first, **{title: members for title, members in groups.items() if members}}


def options(command: str, defaults: Any = None) -> Iterator[Option]:
    """Every option of a command, words without names first."""
    leaves = [(path, leaf) for path, leaf in walk(options_of(command)) if not leaf.is_hidden]
    for path, leaf in sorted(leaves, key=lambda found: not found[1].is_positional):
        default = _default(options_of(command), path) if defaults is None else value_at(defaults, path)
        text = " ".join((_text(leaf) + _told(default)).split())
        record = "" if issubclass(options_of(command), leaf.owner) else leaf.owner.__name__
        yield Option(flag=leaf.flag, names=_names(leaf, default), text=text, record=record)


def _names(leaf: Leaf, default: Any) -> str:
    value = _value_words(leaf)
    if leaf.is_positional:
        return f"[{leaf.flag.upper()}]" if default is not MISSING else leaf.flag.upper()
    aliases = [alias for note in leaf.notes for alias in getattr(note, "aliases", None) or ()]
    switch = _both(leaf.flag) if leaf.is_bool and default is True else [f"--{leaf.flag}"]
    return f"{', '.join([*switch, *aliases])} {value}".strip()


def _both(flag: str) -> list[str]:
    head, dot, last = flag.rpartition(".")
    return [f"--{flag}", f"--{head}{dot}no-{last}"]


def _value_words(leaf: Leaf) -> str:
    """What is typed as the value of an option."""
    given = [note.metavar for note in leaf.notes if getattr(note, "metavar", None)]
    if given:
        return str(given[-1])
    if typing.get_origin(leaf.hint) is not tuple:
        return _word(leaf.hint)
    word = _word(typing.get_args(leaf.hint)[0])
    return word if leaf.is_repeated else f"[{word} ...]"


def _word(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"{{{','.join(map(str, typing.get_args(hint)))}}}"
    args = [each for each in typing.get_args(hint) if each is not NoneType]
    return _word(args[0]) if args else WORDS.get(hint, "TEXT")


def _default(kind: type[Any], path: str) -> Any:
    """The default of an option at a place in a command's records; MISSING where it must be given."""
    name, _, rest = path.partition(".")
    found = next(field for field in fields(kind) if field.name == name)
    default = found.default if found.default_factory is MISSING else found.default_factory()
    return value_at(default, rest) if rest else default


def _told(default: Any) -> str:
    """The default as a page shows it; nothing for what is empty or off."""
    match default:
        case None | "" | () | False:
            return ""
        case True:
            return " (default: on)"
        case tuple():
            return f" (default: {' '.join(map(str, default))})"
        case float():
            return f" (default: {default:g})"
        case str() | int() | PurePath():
            return f" (default: {default})"
    return " (must be given)" if default is MISSING else ""


def _text(leaf: Leaf) -> str:
    given = [note.help for note in leaf.notes if getattr(note, "help", None)]
    if given:
        return str(given[-1])
    owner = next(kind for kind in leaf.owner.__mro__ if leaf.name in inspect.get_annotations(kind))
    text = _docstrings(owner.__module__).get(f"{owner.__qualname__}.{leaf.name}", "")
    if leaf.is_bool and text.startswith("True "):  # a switch has no value to be read
        text = text.removeprefix("True ")
        text = text[0].upper() + text[1:]
    return text


@cache
def _docstrings(module: str) -> Mapping[str, str]:
    """The sentences below the fields of the records of a module, by CLASS.FIELD."""
    found: dict[str, str] = {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    for record in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, below in zip(record.body, record.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        found[f"{record.name}.{field.target.id}"] = text
    return found


def _lines(option: Option) -> Iterator[str]:
    """An option, and its text beside or below it."""
    text = _wrapped(option.text, indent=COLUMN)
    is_long = len(option.names) > COLUMN and "{" in option.names
    *before, last = _wrapped(option.names.replace(",", ", ") if is_long else option.names, indent=6, first=2)
    yield from map(_bold, before)
    if len(last) < COLUMN - 1 and text:
        yield _bold(last) + " " * (COLUMN - len(last)) + text[0].lstrip()
        yield from text[1:]
        return
    yield _bold(last)
    yield from text


def _wrapped(text: str, *, indent: int = 0, first: int | None = None) -> list[str]:
    width = max(50, min(WIDEST, shutil.get_terminal_size().columns - 1))
    head = " " * (indent if first is None else first)
    wrapper = textwrap.TextWrapper(
        width=width, initial_indent=head, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text)


def _bold(text: str) -> str:
    is_plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if is_plain else f"\x1b[1m{text}\x1b[0m"
