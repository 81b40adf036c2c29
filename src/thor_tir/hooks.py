"""Functions of one's own, by name: `package.module:function`, `path/to/file.py:function`, or a short name.

Every kind of function is loaded here and nowhere else. Whatever one raises, or returns against its promise, ends the
run with a sentence that names its file and line: a function that fails costs no trajectory silently.
"""

import asyncio
import importlib
import importlib.util
import inspect
import json
import math
import re
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from sysconfig import get_path
from types import MappingProxyType, ModuleType
from typing import Any, Literal, TypeVar

from thor_tir.errors import MachineFault, UsageError

T = TypeVar("T")

HookKind = Literal["reward", "step-reward", "selector", "filter", "advantage", "problems", "tool"]
"""The kinds of what can be handed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The promise of one kind."""

    group: str
    """Group of entry points, in which an installed package offers its own by a short name."""
    takes: tuple[str, ...] | None
    """Arguments that a function of the kind is called with, in this order; None for a kind that is not called so."""
    gives: str
    """Value that comes back, in words."""


CONTRACTS: Mapping[HookKind, Contract] = MappingProxyType(
    {
        "reward": Contract(
            group="thor_tir.rewards",
            takes=("problem", "trajectory", "verdict"),
            gives="a number, a dict of numbers, or None where it cannot say",
        ),
        "step-reward": Contract(
            group="thor_tir.step_rewards",
            takes=("problem", "failed", "repairs"),
            gives="a list with a number, or a dict of numbers, for each repair",
        ),
        "selector": Contract(
            group="thor_tir.selectors",
            takes=("attempt", "candidates"),
            gives="a number, or a tuple of numbers that are compared in order",
        ),
        "filter": Contract(
            group="thor_tir.filters",
            takes=("attempt",),
            gives="None to keep the attempt, or the cause for which it leaves",
        ),
        "advantage": Contract(
            group="thor_tir.advantages",
            takes=("group",),
            gives="a list with a number for each row, or a number for each token of it",
        ),
        "problems": Contract(
            group="thor_tir.problems",
            takes=("split", "count", "seed"),
            gives="problems, or dicts with question and answer",
        ),
        "tool": Contract(group="thor_tir.tools", takes=None, gives="a tool"),
    }
)
"""The promises by kind."""

_SPELLED = re.compile(r"(?P<name>.+?\.py:\w+|[^,=]+)(?:=(?P<weight>[^,]*))?(?:,(?P<parameters>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """A function as options spell it: `NAME`, `NAME=WEIGHT`, `NAME=WEIGHT,parameter=value`, `NAME,parameter=value`."""

    name: str
    """Name of the function."""
    weight: float | None = None
    """Number behind `=`; None where there is none."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the function by name: numbers, true and false as such, the rest as text."""


def spelling_of(spec: str) -> Spelling:
    """Read an option's spelling. Raises UsageError for one that cannot be read."""
    match = _SPELLED.fullmatch(spec)
    if match is None:
        raise UsageError(f"{spec!r} names no function; write NAME, NAME=WEIGHT or NAME=WEIGHT,parameter=value")
    parameters: dict[str, Any] = {}
    for part in (match["parameters"] or "").split(",") if match["parameters"] is not None else ():
        key, is_given, text = (each.strip() for each in part.partition("="))
        if not key.isidentifier() or not is_given:
            raise UsageError(f"{spec!r}: behind the name stand parameters as name=value, found {part!r}")
        if key in parameters:
            raise UsageError(f"{spec!r}: the parameter {key} is given twice")
        parameters[key] = _value(text)
    weight = None if match["weight"] is None else _weight(match["weight"], spec)
    return Spelling(name=match["name"].strip(), weight=weight, parameters=parameters)


def is_hook(name: str) -> bool:
    """True for a name that is spelled as a function of one's own."""
    return ":" in name


def hook_files(names: Iterable[str]) -> list[str]:
    """Files that such spellings name, weights and parameters left aside: they are inputs of the run."""
    found = (re.match(r"(.+?\.py):\w+", name) for name in names)
    return [match[1] for match in found if match is not None]


def offered(kind: HookKind) -> list[str]:
    """Short names that installed packages offer for a kind."""
    return sorted(entry_points(group=CONTRACTS[kind].group).names)


def load_hook(
    kind: HookKind,
    name: str,
    *,
    known: Iterable[str] = (),
    parameters: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[..., Any]:
    """The function of that name, with these parameters set; `known` are the packaged ones, for messages.

    Raises UsageError where it cannot be had or does not take the kind's arguments.
    """
    found = found_hook(kind, name, known=known)
    if not callable(found):
        raise UsageError(f"{name} is no function but {type(found).__name__}")
    if inspect.isasyncgenfunction(found) or (inspect.isgeneratorfunction(found) and kind != "problems"):
        raise UsageError(f"{name} is a generator (it has `yield`); a {kind} returns {CONTRACTS[kind].gives}")
    return with_parameters(kind, name, found, parameters)


def load_spelled(kind: HookKind, spec: str, *, known: Iterable[str] = ()) -> Callable[..., Any]:
    """The function that an option spells, of a kind that is not added up, so that a weight is refused."""
    spelled = spelling_of(spec)
    if spelled.weight is not None:
        raise UsageError(f"{spec!r}: a {kind} has no weight; parameters stand behind a comma, as NAME,parameter=value")
    return load_hook(kind, spelled.name, known=known, parameters=spelled.parameters)


def with_parameters(
    kind: HookKind, name: str, function: Callable[..., Any], parameters: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function with these parameters set. Raises UsageError where it takes others than its kind is given."""
    takes = CONTRACTS[kind].takes
    try:
        signature = inspect.signature(function)
        for parameter in parameters:
            if parameter in (takes or ()):
                raise TypeError(f"{parameter} is no parameter that a user sets")
        if takes is not None:
            signature.bind(*takes, **parameters)
    except TypeError as error:
        beside = f" beside {', '.join(parameters)}" if parameters else ""
        raise UsageError(
            f"{name} is called with {len(takes or ())} arguments ({', '.join(takes or ())}){beside} and cannot take "
            f"them: {error}"
        ) from error
    except ValueError:  # a built-in without a signature
        pass
    return partial(function, **parameters) if parameters else function


def found_hook(kind: HookKind, name: str, *, known: Iterable[str] = ()) -> Any:
    """Whatever stands under that name, unchecked: a tool may be a class. Raises UsageError where nothing does."""
    if not is_hook(name):
        points = entry_points(group=CONTRACTS[kind].group)
        places = {point.value: point for point in points.select(name=name)}
        if not places:
            short = ", ".join(dict.fromkeys([*known, *sorted(points.names)]))
            raise UsageError(
                f"unknown {kind} {name!r}; known: {short or 'none'}; your own is module:function or file.py:function"
            )
        if len(places) > 1:
            raise UsageError(f"several packages offer the {kind} {name!r}; name the one you mean: {', '.join(places)}")
        return _guarded(next(iter(places.values())).load, name)
    place, _, attribute = name.rpartition(":")
    module = _file(place, name) if place.endswith(".py") else _module(place, name)
    found = getattr(module, attribute, None)
    if found is None:
        named = ", ".join(n for n, v in vars(module).items() if _is_own(v, module, kind) and not n.startswith("_"))
        what = "functions and classes" if kind == "tool" else "functions"
        raise UsageError(f"{place} has no {attribute!r}; its {what} are: {named or 'none'}")
    return found


def _is_own(value: object, module: ModuleType, kind: HookKind) -> bool:
    """True for a function of a module, and for its classes where tools are looked for."""
    if inspect.isclass(value):
        return kind == "tool" and value.__module__ == module.__name__
    return inspect.isfunction(value)


async def answer_of(name: str, function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function, and wait where it is async.

    Faults of the machine pass through. Raises UsageError, with file and line, for whatever else it raises.
    """
    try:
        with blamed(name):
            value = function(*arguments)
            return await value if inspect.isawaitable(value) else value
    except asyncio.CancelledError as error:
        if is_stopped():
            raise
        raise hook_fault(name, error) from error


def is_stopped() -> bool:
    """True where someone stops the task that asks: a cancellation is not the function's own then."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def answer_now(name: str, function: Callable[..., Any], *arguments: object) -> Any:
    """The same for callers that cannot wait: what is async runs in a thread of its own."""
    with blamed(name):
        value = function(*arguments)
        return waited_for(value) if inspect.isawaitable(value) else value


@contextmanager
def blamed(name: str) -> Iterator[None]:
    """Say of whatever is raised which function raised it, and where; faults of the machine pass through."""
    try:
        yield
    except (MachineFault, UsageError):
        raise
    except (Exception, SystemExit) as error:
        raise hook_fault(name, error) from error


def waited_for(value: Awaitable[T]) -> T:
    """Wait for something in the one event loop beside all others: clients that a function keeps belong to a loop."""
    global _LOOP
    with _LOOP_LOCK:
        if _LOOP is None:
            _LOOP = asyncio.new_event_loop()
            threading.Thread(target=_LOOP.run_forever, name="functions of one's own", daemon=True).start()

    async def waited() -> T:
        return await value

    return asyncio.run_coroutine_threadsafe(waited(), _LOOP).result()


_LOOP: asyncio.AbstractEventLoop | None = None
_LOOP_LOCK = threading.Lock()


def number_of(value: object, name: str) -> float:
    """The value that a function returned, as a finite number. Raises UsageError for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str | bytes) or not math.isfinite(number):
        raise UsageError(f"{name} returned {str(value)[:80]!r}, which is no finite number")
    return number


@cache
def _libraries() -> tuple[str, ...]:
    """Folders of the standard library and of what is installed: a tool may fail at every call, and they stay."""
    return tuple(filter(None, map(get_path, ("stdlib", "platstdlib", "purelib", "platlib"))))


def hook_fault(name: str, error: BaseException) -> UsageError:
    """The sentence for what a function raised: the error, and the innermost line that is in no library."""
    ours = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((ours, "<"))]
    own = [f for f in frames if not f.filename.startswith(_libraries())] or frames[:1]  # a plugin may be installed
    place = (own[-1].filename, own[-1].lineno) if own else None
    if isinstance(error, SyntaxError) and error.filename:
        place = (error.filename, error.lineno)
    where = "" if place is None else f" ({place[0]}, line {place[1]})"
    said = error.msg if isinstance(error, SyntaxError) else error
    return UsageError(f"{name} raised {type(error).__name__}: {said}{where}")


def _value(text: str) -> Any:
    """A parameter as JSON reads it, else its text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _weight(number: str, spec: str) -> float:
    try:
        return number_of(float(number), spec)
    except ValueError as error:
        raise UsageError(f"{spec!r}: the weight behind = is a number, found {number!r}") from error


def _module(place: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return _guarded(lambda: importlib.import_module(place), name)


def _file(place: str, name: str) -> ModuleType:
    """The module of a file, run once a process unless it was written anew; it may import what lies beside it."""
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {place}, which {name} names")
    if path in _LOADED and _LOADED[path][0] == path.stat().st_mtime_ns:
        return _LOADED[path][1]
    module_name = f"thor_hook_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles look their module up
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    loader, written = spec.loader, path.stat().st_mtime_ns
    _guarded(lambda: loader.exec_module(module), name)
    _LOADED[path] = (written, module)
    return module


_LOADED: dict[Path, tuple[int, ModuleType]] = {}
"""Modules of files with the time at which each file was written."""


def _guarded(load: Callable[[], T], name: str) -> T:
    """Load something. What it prints goes to standard error: standard output belongs to the command."""
    try:
        with redirect_stdout(sys.stderr):
            return load()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise hook_fault(f"loading {name}", error) from error
