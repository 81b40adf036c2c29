"""Origin of results: the command, the options, versions, the machine's class, and what the input files held.

Every run folder holds one such record, `run.json`. It is written when the run begins; a run that is continued compares
its inputs with it, so that no run is made half of one problem file and half of another.
"""

import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.storage.journal import write_atomically

_LOG = logging.getLogger(__name__)

RUN = "run.json"
"""Name of the record in a run's folder."""
LIBRARIES = ("thor-tir", "torch", "transformers", "tokenizers", "math-verify", "sympy", "reasoning-gym", "numpy")
"""Packages whose version may move a sample, a score or an update."""
WHOLE_BYTES = 256 * 2**20
"""Files above this size are known by their size and both ends: weights of a large model would take minutes."""
END_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The facts that are needed to repeat a run."""

    command: str
    """Command line that began the run, as a shell would take it."""
    options: Mapping[str, Any]
    """Resolved options, defaults included."""
    versions: Mapping[str, str]
    """Versions of Python, of this package and of the libraries that results depend on."""
    commit: str | None
    """Commit of the source tree, with `+` for uncommitted changes; None for an installed package."""
    machine: str
    """Class of the machine: system, processor, cores; nothing that names it."""
    inputs: Mapping[str, str]
    """SHA-256 of each input file, by the path that the command named; folders file by file."""


def versions(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Versions of Python and of some packages, those that are not installed named as such."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> str:
    """The class of this machine, without anything that names it; the GPU is named where torch is loaded already."""
    torch = sys.modules.get("torch")
    has_gpu = torch is not None and torch.cuda.is_available()
    gpu = [torch.cuda.get_device_name(0)] if torch is not None and has_gpu else []
    parts = [f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}"]
    return ", ".join([*parts, f"{os.cpu_count()} cores", *gpu])


def commit() -> str | None:
    """The commit of the source tree that this package is imported from; None where it is installed, or without git."""
    folder = Path(__file__).parent
    if not (folder.parents[1] / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; `SIZE:DIGEST` over both ends of one that is larger than WHOLE_BYTES."""
    size = path.stat().st_size
    found = sha256()
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            while block := file.read(END_BYTES):
                found.update(block)
            return found.hexdigest()
        found.update(file.read(END_BYTES))
        file.seek(size - END_BYTES)
        found.update(file.read(END_BYTES))
    return f"{size}:{found.hexdigest()}"


def input_digests(names: Iterable[str | Path]) -> dict[str, str]:
    """Digests of those inputs that are local: files, and the files of folders. Hub names and addresses are left out."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(map(str, names)):
        path = Path(name)
        if name and path.is_file():
            found[name] = file_digest(path)
        elif name and path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            found |= {f"{name}/{p.relative_to(path).as_posix()}": file_digest(p) for p in files}
    return found


def record_run(
    folder: Path,
    options: Mapping[str, Any],
    inputs: Iterable[str | Path] = (),
    *,
    functions: Iterable[str] = (),
    moved: Mapping[str, str] | None = None,
) -> None:
    """Write a run's record into its folder, or make sure that its inputs are still those it was begun with.

    `functions` are files of functions that judge what was sampled: one may be corrected, which is said and recorded.
    `moved` says where inputs stand now, by their names in the record. Raises UsageError where an input has changed
    since, or where the record is damaged.
    """
    inputs, functions = list(inputs), list(functions)
    path = folder / RUN
    if path.exists():
        if mended := check_record(folder, inputs, functions=functions, moved=moved):
            _note_functions(path, input_digests([*inputs, *functions]), mended)
        return
    record = RunRecord(
        command=_command(),
        options=options,
        versions=versions(),
        commit=commit(),
        machine=machine(),
        inputs=input_digests([*inputs, *functions]),
    )
    write_atomically(path, json.dumps(asdict(record), indent=1, default=str) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A file of functions that was changed before a run went on."""

    file: str
    """Name of the file."""
    before: str
    """Digest with which the run went until then."""
    now: str
    """Digest with which it goes on."""


def check_record(
    folder: Path,
    inputs: Iterable[str | Path] = (),
    *,
    functions: Iterable[str] = (),
    moved: Mapping[str, str] | None = None,
) -> list[Mended]:
    """The functions that were corrected since the run in a folder was begun, as `record_run` compares them.

    Raises UsageError where an input has changed since, or where the record is damaged. Nothing is written.
    """
    inputs, functions = list(inputs), list(functions)
    path = folder / RUN
    if not path.exists():
        return []
    mendable = set(functions) - set(map(str, inputs))
    return _mended(path, input_digests([*inputs, *functions]), moved or {}, mendable=mendable)


def note_extension(folder: Path, option: str, was: int, now: int) -> None:
    """Record that a run is made longer: its options have the new length, and `extended` says what they were."""
    path = folder / RUN
    record = json.loads(path.read_text(encoding="utf-8"))
    *groups, name = option.split(".")
    options = record["options"]
    for group in groups:
        options = options[group]
    options[name] = now
    entry = {"option": option, "was": was, "now": now, "command": _command()}
    before = record.get("extended", [])
    if [e for e in before[-1:] if (e["was"], e["now"]) == (was, now)]:  # a kill came before the options were written
        before = before[:-1]
    write_atomically(path, json.dumps(record | {"extended": [*before, entry]}, indent=1) + "\n")


def note_schedule(folder: Path, facts: Mapping[str, Any]) -> None:
    """Record what a longer run means for its learning rate, where the run in a folder was extended."""
    path = folder / RUN
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if extended := record.get("extended"):
        extended[-1] |= facts
        write_atomically(path, json.dumps(record, indent=1) + "\n")


def extensions(folder: Path) -> list[Mapping[str, Any]]:
    """What the record of a run says about its extensions, in their order."""
    path = folder / RUN
    return json.loads(path.read_text(encoding="utf-8")).get("extended", []) if path.exists() else []


def _command() -> str:
    return shlex.join(["thor", *sys.argv[1:]])


def recorded_inputs(folder: Path) -> dict[str, str]:
    """Digests of the inputs that a run began with; nothing where there is no record. Raises UsageError for damage."""
    path = folder / RUN
    if not path.exists():
        return {}
    try:
        return {str(name): str(found) for name, found in json.loads(path.read_text(encoding="utf-8"))["inputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged, so nobody knows what this run was made of; give another --output"
        ) from error


def is_same_input(recorded: Mapping[str, str], old: object, new: object) -> bool:
    """True where `new` names what `old` held when it was recorded: the same files, perhaps at another place."""
    if not (isinstance(old, str) and isinstance(new, str)):
        return False
    before = {name.removeprefix(old): found for name, found in recorded.items() if name == old or _lies_in(name, old)}
    return bool(before) and before == {name.removeprefix(new): found for name, found in input_digests([new]).items()}


def _note_functions(path: Path, inputs: Mapping[str, str], mended: Sequence[Mended]) -> None:
    """Let a run go on with functions that were corrected: it is said, and stands in its record."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record |= {"inputs": {**record["inputs"], **inputs}, "mended": [*record.get("mended", ()), *map(asdict, mended)]}
    write_atomically(path, json.dumps(record, indent=1) + "\n")
    for each in mended:
        _LOG.warning(
            "%s changed since the run in %s began: what it gave before is kept, and it is asked from here on as it is "
            "now (%s says so)",
            each.file,
            path.parent,
            path.name,
        )


def _lies_in(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")


def _mended(path: Path, digests: Mapping[str, str], moved: Mapping[str, str], *, mendable: Set[str]) -> list[Mended]:
    before = recorded_inputs(path.parent)
    for old, new in moved.items():
        before = {
            new + name.removeprefix(old) if name == old or _lies_in(name, old) else name: found
            for name, found in before.items()
        }
    changed = sorted(name for name in before.keys() | digests.keys() if before.get(name) != digests.get(name))
    if set(changed) <= (mendable & before.keys() & digests.keys()):
        return [Mended(file=name, before=before[name], now=digests[name]) for name in changed]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise UsageError(
        f"{', '.join(changed[:3])}{more} changed since the run in {path.parent} began: put back what was there, or "
        "give another --output"
    )
