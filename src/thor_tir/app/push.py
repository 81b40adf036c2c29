"""Models and data sets to a hub, with a card that is made from the record of the run: private unless asked otherwise.

The hub's own client sends the files, tries again and leaves out what is there already. Its token comes from where the
client keeps it (`hf auth login`, HF_TOKEN), never from a command line.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thor_tir.app.model_card import model_card
from thor_tir.errors import HubUnavailable, UsageError
from thor_tir.extras import need

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["model", "dataset"]
CARD = "README.md"
"""Name of a card on the hub."""
WEIGHTS = (".safetensors", ".bin")
DATA = (".parquet", ".jsonl")
"""Ends of the names of files without which there is nothing to push."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A folder that can be pushed."""

    folder: Path
    """Folder of the files."""
    kind: Kind
    """Kind of the repository."""
    files: tuple[Path, ...]
    """Files of it."""
    card: str
    """Text of the card, where the folder holds none; empty otherwise."""

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files) + len(self.card.encode())


def find_upload(folder: Path, name: str, licence: str = "") -> Upload:
    """The content of a folder to be pushed: a model, or a data set that `thor tirgen export` wrote.

    Raises UsageError where it holds neither, or several.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} to push")
    for place, run in ((folder / "model", folder), (folder, folder.parent)):
        if _is_model(place):
            card = "" if (place / CARD).is_file() else model_card(name, run, place, licence)
            return Upload(folder=place, kind="model", files=_files(place), card=card)
    for place in (folder / "export", folder):
        if (place / CARD).is_file() and any(path.suffix in DATA for path in _files(place)):
            return Upload(folder=place, kind="dataset", files=_files(place), card="")
    inner = [str(each) for each in sorted(folder.iterdir()) if each.is_dir() and _is_pushable(each)]
    if inner:
        raise UsageError(f"{folder} holds several things to push; name one of them: {', '.join(inner)}")
    if (folder / "dataset.jsonl").is_file():
        raise UsageError(
            f"{folder} holds no data set in the forms that others read: write them with `thor tirgen export {folder}`, "
            f"and the card with `thor tirgen card {folder}`"
        )
    raise UsageError(f"{folder} holds nothing to push: no weights with their config.json, and no exported data set")


def push(upload: Upload, name: str, *, is_public: bool, say: Callable[[str], None]) -> str:
    """Send a folder in one commit, and return its address. Raises UsageError or HubUnavailable, in one sentence."""
    api = _client(name)
    from huggingface_hub import CommitOperationAdd

    with _faults(name):
        repo = api.create_repo(name, repo_type=upload.kind, private=not is_public, exist_ok=True)
        name = repo.repo_id
        if not is_public and not api.repo_info(name, repo_type=upload.kind).private:
            raise UsageError(f"{name} is there already and public: give --public to push to it, or another name")
        files: list[tuple[str, Path | bytes]] = [(f.relative_to(upload.folder).as_posix(), f) for f in upload.files]
        if upload.card:
            files.append((CARD, upload.card.encode()))
        operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=source) for path, source in files]
        api.create_commit(name, operations, repo_type=upload.kind, commit_message="Pushed by thor", num_threads=2)
    seen = "public" if is_public else "private"
    made = f"; {CARD} was made from the record of the run" if upload.card else ""
    size = f"{upload.num_bytes / 1e6:,.1f} MB"
    say(f"pushed {len(files)} files ({size}) of {upload.folder} to the {seen} {upload.kind} {name}{made}")
    say(f"{repo}")
    return str(repo)


def check_push(name: str) -> None:
    """Raise UsageError where nothing could be pushed under a name: before a run, nothing is asked of the hub."""
    _client(name)


def _client(name: str) -> "HfApi":
    need("huggingface_hub", "pushing to a hub")
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{name!r} is no name on a hub ({str(error).partition(': ')[0]}); write OWNER/NAME") from error
    if constants.HF_HUB_OFFLINE:
        raise UsageError("HF_HUB_OFFLINE is set, so that nothing can be pushed; unset it")
    if get_token() is None:
        raise UsageError("no token of the hub is found: run `hf auth login` once, or set HF_TOKEN")
    return HfApi(library_name="thor-tir")


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Faults of the hub, and of the way there, as sentences, however the client wraps them."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # the client is foreign, and so are its transports
        root: BaseException = error
        while root.__cause__ is not None and not isinstance(root, HfHubHTTPError):
            root = root.__cause__
        said = str(root).strip().partition("\n")[0][:300]
        if not isinstance(root, HfHubHTTPError):
            raise HubUnavailable(f"the hub cannot be reached for {name} ({said})") from error
        status = root.response.status_code
        said = (root.server_message or said)[:300]
        if status in (401, 403):
            raise UsageError(f"the hub refuses {name} ({said}): the token must be allowed to write there") from error
        if status < 500:
            raise UsageError(f"the hub does not take {name} ({said})") from error
        raise HubUnavailable(f"the hub failed at {name} ({said})") from error


def _is_pushable(folder: Path) -> bool:
    return _is_model(folder) or _is_model(folder / "model") or (folder / "export" / CARD).is_file()


def _is_model(folder: Path) -> bool:
    config = folder / "config.json"
    if not config.is_file() or not any(path.suffix in WEIGHTS for path in folder.iterdir()):
        return False
    try:
        found: Any = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, Mapping) and "model_type" in found


def _files(folder: Path) -> tuple[Path, ...]:
    """All files but hidden ones."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
