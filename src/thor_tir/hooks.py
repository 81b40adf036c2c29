"""Functions of one's own, by name: `package.module:function` or `path/to/file.py:function`.

Whatever such a function raises, or returns against its promise, ends the run with a sentence that names its file and
line: a reward that fails costs no trajectory silently.
"""

import importlib
import importlib.util
import inspect
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from thor_tir.errors import UsageError

T = TypeVar("T")

HookKind = Literal["reward", "selector"]
"""The kinds of functions that can be handed in."""
GROUPS: Mapping[HookKind, str] = {"reward": "thor_tir.rewards", "selector": "thor_tir.selectors"}
"""Groups of entry points, in which an installed package offers its own by a short name."""
PARAMETERS: Mapping[HookKind, tuple[str, ...]] = {
    "reward": ("problem", "trajectory", "verdict"),
    "selector": ("attempt", "candidates"),
}
"""Arguments that a function of each kind is called with, in this order."""


def is_hook(name: str) -> bool:
    """True for a name that is spelled as a function of one's own."""
    return ":" in name


def hook_files(names: Iterable[str]) -> list[str]:
    """Files that such names are spelled with, weights behind `=` left aside: they are inputs of the run."""
    found = (re.match(r"(.+\.py):\w+", name) for name in names)
    return [match[1] for match in found if match is not None]


def load_hook(kind: HookKind, name: str, *, known: Iterable[str] = ()) -> Callable[..., Any]:
    """The function of that name; `known` are the packaged ones, for messages.

    Raises UsageError where it cannot be had or does not take the kind's arguments.
    """
    if is_hook(name):
        place, _, attribute = name.rpartition(":")
        module = _file(place, name) if place.endswith(".py") else _module(place, name)
        found = getattr(module, attribute, None)
        if found is None:
            offered = ", ".join(n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_"))
            raise UsageError(f"{place} has no {attribute!r}; its functions are: {offered or 'none'}")
    else:
        points = entry_points(group=GROUPS[kind])
        if name not in points.names:
            offered = ", ".join([*known, *sorted(points.names)])
            raise UsageError(
                f"unknown {kind} {name!r}; known: {offered or 'none'}; your own is module:function or file.py:function"
            )
        found = _guarded(lambda: points[name].load(), name)
    if not callable(found):
        raise UsageError(f"{name} is no function but {type(found).__name__}")
    _check_parameters(kind, name, found)
    function: Callable[..., Any] = found
    return function


def number_of(value: object, name: str) -> float:
    """The value that a function returned, as a finite number. Raises UsageError for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        raise UsageError(f"{name} returned {str(value)[:80]!r}, which is no finite number")
    return number


def hook_fault(name: str, error: BaseException) -> UsageError:
    """The sentence for what a function raised: the innermost line of user code, and the error."""
    ours = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return UsageError(f"{name} raised {type(error).__name__}: {error}{where}")


def _check_parameters(kind: HookKind, name: str, found: Callable[..., Any]) -> None:
    wanted = PARAMETERS[kind]
    try:
        inspect.signature(found).bind(*wanted)
    except TypeError as error:
        raise UsageError(
            f"{name} is called with {len(wanted)} arguments ({', '.join(wanted)}) and cannot take them: {error}"
        ) from error
    except ValueError:  # a built-in without a signature
        return


def _module(place: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return _guarded(lambda: importlib.import_module(place), name)


def _file(place: str, name: str) -> ModuleType:
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {place}, which {name} names")
    module_name = f"thor_hook_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles look their module up
    loader = spec.loader
    _guarded(lambda: loader.exec_module(module), name)
    return module


def _guarded(load: Callable[[], T], name: str) -> T:
    try:
        return load()
    except UsageError:
        raise
    except Exception as error:
        raise hook_fault(f"loading {name}", error) from error
