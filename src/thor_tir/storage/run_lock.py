"""A run's folder belongs to one run at a time: its options are written down, and no second process may write there."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypedDict

from thor_tir.errors import UsageError
from thor_tir.provenance import RUN, check_record, is_same_input, note_extension, record_run, recorded_inputs
from thor_tir.storage.journal import SHARD_LOCK, WHOLE, Shard, make_folder, write_atomically
from thor_tir.storage.record_lock import held

Options = Mapping[str, Any]
"""Options by name, groups of them nested."""

CONFIG, _LOCK = "config.json", ".lock"
MOST_TOLD, MOST_CHARS = 8, 80
"""Limits of the list of options that differ, so that the message about two unlike runs stays one sentence."""

WHERE = (
    "resources.sandbox.endpoints",
    "resources.endpoint",
    "resources.engine.address",
    "resources.engine.critic_address",
    "resources.engine.folder",
    "resources.engine.gpu_memory_utilization",
    "resources.engine.python",
    "resources.engine.replicas",
    "processes",
    "rl.max_staleness",
    "rl.async_save",
    "sft.async_save",
    "rl.checkpoint_mirror",
    "sft.checkpoint_mirror",
)
"""Options that may differ when a run is continued: where, on which servers, by how many processes and how far ahead it
is worked on, what goes on while a checkpoint is written, and how long servers are waited for."""
PLACE = "output"
"""Option that names the run's folder, which may be moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The option that says how long a run is, which may grow where that is asked for."""

    option: str
    """Its name, with those of the groups that it belongs to, such as rl.num_rounds."""
    is_wanted: bool = False
    """True where the run may be made longer."""
    begun_as: Mapping[str, Any] | None = None
    """Options that a stage of a whole run was made with, whose folder has no record of its own."""

    @property
    def flag(self) -> str:
        """The option as a command line has it."""
        return f"--{self.option.rpartition('.')[2].replace('_', '-')}"


class Claimed(TypedDict, total=False):
    """What a run is made of besides its options, as `claim` and `check_claim` take it."""

    inputs: Sequence[str | Path]
    """Files and folders."""
    functions: Sequence[str]
    """Files of functions that judge what was sampled."""
    defaults: Options
    """Values of options that the run's record may lack, since they are younger than it."""
    growth: Growth
    """Option that says how long the run is."""


@contextmanager
def claim(
    folder: Path,
    options: Mapping[str, Any],
    shard: Shard = WHOLE,
    *,
    inputs: Iterable[str | Path] = (),
    functions: Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
    defaults: Options | None = None,
    growth: Growth | None = None,
) -> Iterator[None]:
    """Write a run's options and record into its folder, or make sure that options and inputs are those it began with.

    A first run that ends by the user's mistake before it wrote anything gives the folder up again. Raises UsageError
    where another run lives in the folder, whose finished units would be taken for this run's, and while another process
    works there; shards of one run may work there together. The lock goes with the process, however that ends.

    `functions` are files of functions that judge what was sampled, which may be corrected while a run stands still.

    `given` are the options as the command has them, for the record, where those that are compared are more.

    `defaults` are what options had that the run's record lacks: those that came to the program since it was begun.

    A run that is extended, where `growth` asks for that, has the new length from here on; run.json keeps the old ones.

    Nothing that is compared depends on where the run or its inputs lie: a folder that was moved is continued there, and
    an input may have another name where it holds the same.
    """
    options = {name: value for name, value in options.items() if name != PLACE}
    path = folder / CONFIG
    old = _begun_as(folder, growth)
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    with _locked(folder, is_shared=not shard.is_whole), _whole_run(folder, growth):
        is_first = old is None
        found = Compared() if old is None else _compared(folder, old, options, growth, defaults)
        record_run(folder, options if given is None else given, inputs, functions=functions, moved=found.moved)
        if found.longer is not None:
            note_extension(folder, found.longer.name, found.longer.old, found.longer.new)
        if not path.exists() or found.longer is not None:
            write_atomically(path, json.dumps(options, indent=1, default=str) + "\n")
        try:
            yield
        except UsageError:
            ours = {path, folder / RUN, folder / _LOCK, *folder.glob(f"{SHARD_LOCK}*")}
            if is_first and set(folder.iterdir()) <= ours:
                for file in ours:
                    file.unlink()
                with suppress(OSError):  # another run has begun beside it
                    for place in new:
                        place.rmdir()
            raise


def check_claim(
    folder: Path,
    options: Mapping[str, Any],
    *,
    inputs: Iterable[str | Path] = (),
    functions: Iterable[str] = (),
    defaults: Options | None = None,
    growth: Growth | None = None,
) -> None:
    """Raise UsageError where `claim` would, for the options and inputs of the run in a folder; nothing is written."""
    if (old := _begun_as(folder, growth)) is not None:
        kept = {name: value for name, value in options.items() if name != PLACE}
        moved = _compared(folder, old, kept, growth, defaults).moved
        check_record(folder, inputs, functions=functions, moved=moved)


def is_begun(folder: Path) -> bool:
    """True where a folder holds a run, finished or not."""
    return (folder / CONFIG).exists()


def _begun_as(folder: Path, growth: Growth | None) -> Any:
    """The options of the run in a folder; None where there is none. Raises UsageError where that should be extended."""
    if (folder / CONFIG).exists():
        return _read(folder / CONFIG)
    if growth is None or not growth.is_wanted:
        return None
    if growth.begun_as is None:
        raise UsageError(f"{folder} holds no run that could be extended: leave out --extend to begin one")
    return growth.begun_as


@contextmanager
def _whole_run(folder: Path, growth: Growth | None) -> Iterator[None]:
    """Hold the folder of the whole run, too, whose stage is extended."""
    if growth is None or not growth.is_wanted or growth.begun_as is None:
        yield
        return
    with _locked(folder.parent, is_shared=False):
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Differences between a run and a command that may go on with it."""

    moved: Mapping[str, str] = field(default_factory=dict)
    """The new place of each input that has another one now."""
    longer: "Change | None" = None
    """The length of the run, where it is extended."""


def _compared(folder: Path, old: Any, new: Options, growth: Growth | None, defaults: Options | None) -> Compared:
    """The differences that are allowed. Raises UsageError where there are others."""
    if old.keys() - new.keys() and new.keys() - old.keys():
        raise UsageError(
            f"{folder} holds a run of another command, or of another version of this one; give another --output"
        )
    recorded = recorded_inputs(folder)
    moved: dict[str, str] = {}
    others: list[Change] = []
    longer = None
    for change in option_changes(old, new, defaults):
        was, now = (each if isinstance(each, list) else [each] for each in (change.old, change.new))
        pairs = [pair for pair in zip(was, now, strict=False) if pair[0] != pair[1]]
        if growth is not None and change.name == growth.option:
            longer = change
        elif len(was) == len(now) and all(is_same_input(recorded, *pair) for pair in pairs):
            moved |= dict(pairs)
        elif change.name != PLACE and not f"{change.name}.".startswith(tuple(f"{name}." for name in WHERE)):
            others.append(change)
    if others or (growth is not None and longer is not None and not growth.is_wanted):
        told = [*others, *([] if longer is None else [longer])]
        more = f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
        is_longer = growth is not None and longer is not None and not others and longer.new > longer.old
        raise UsageError(
            f"{folder} holds a run with other options ({'; '.join(map(str, told[:MOST_TOLD]))}{more}): "
            f"{'add --extend to make it longer, ' if is_longer else ''}"
            "give the same options to continue it, or another --output"
        )
    if growth is not None and longer is not None and longer.new < longer.old:
        raise UsageError(
            f"{growth.flag} is {longer.new}, and the run in {folder} has {longer.old}: --extend makes a run longer, "
            "never shorter"
        )
    return Compared(moved=moved, longer=longer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One option that two runs have differently, as JSON holds it."""

    name: str
    """Name of the option, with those of the groups that it belongs to."""
    old: Any
    """Its value before."""
    new: Any
    """Its value now."""

    def __str__(self) -> str:
        return f"{self.name or 'all'} was {_short(self.old)}, is {_short(self.new)}"


def changes(old: Any, new: Any) -> list[str]:
    """Differences between two sets of options, as JSON holds them: `rl.seed was 0, is 1`."""
    return [str(change) for change in option_changes(old, new)]


def option_changes(old: Any, new: Any, defaults: Options | None = None, name: str = "") -> list[Change]:
    """The options that two sets, as JSON holds them, have differently.

    An option that the older set lacks came to the program later: it counts as its default.
    """
    new, known = _as_json(new), _as_json(defaults or {})
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [Change(name=name, old=old, new=new)]
    known = known if isinstance(known, dict) else {}
    return [
        change
        for key in sorted(old.keys() | new.keys())
        for change in option_changes(
            old.get(key, known.get(key)), new.get(key), known.get(key), f"{name}.{key}".lstrip(".")
        )
    ]


def option_defaults(record: Any) -> dict[str, Any]:
    """The defaults of a record of options, groups nested; an option without a default is left out."""
    found: dict[str, Any] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        if each.default is not MISSING:
            found[each.name] = _plain(each.default)
        elif each.default_factory is not MISSING:
            found[each.name] = _plain(each.default_factory())
        elif is_dataclass(value):
            found[each.name] = option_defaults(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}..."


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged, so nobody knows what run this is; give another --output") from error


@contextmanager
def _locked(folder: Path, *, is_shared: bool) -> Iterator[None]:
    """Hold the folder for this process."""
    with held(folder / _LOCK, is_shared=is_shared) as file:
        if file is None:
            owner = (folder / _LOCK).read_text(encoding="utf-8").strip() or "unknown"
            raise UsageError(
                f"another process (number {owner}) works in {folder}: wait until it has ended, or give another --output"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
