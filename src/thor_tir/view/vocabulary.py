"""The text of token ids, for reading: from a tokenizer's file, which loads in a moment and needs no torch."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from thor_tir.address import is_address
from thor_tir.engines.loading import EMBEDDED
from thor_tir.view.run import ViewedFile, ViewedRun

FILE = "tokenizer.json"
MODEL_FOLDERS = ("rl/model", "model", "sft/model")
"""Folders of trained models in a run; all stages of one run share a tokenizer."""


class Vocabulary:
    """A tokenizer that is only read from."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(path))

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        return str(self._tokenizer.decode([id for id in ids if id < 2**32], skip_special_tokens=False))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each id adds. A character of several tokens stands at the last of them."""
        shown: list[str] = []
        held: list[int] = []
        for id in ids:
            held.append(id)
            text = self.text(held)
            if text.endswith("\N{REPLACEMENT CHARACTER}") and len(held) < 5:
                shown.append("")
                continue
            shown.append(text)
            held = []
        if held:
            shown[-1] = self.text(held)
        return shown


def vocabulary_of(run: ViewedRun, file: ViewedFile) -> Vocabulary | None:
    """The tokenizer of a journal's trajectories; None where the machine has none of that model."""
    for path in _candidates(run, file):
        if path.is_file():
            return _loaded(path, path.stat().st_mtime_ns)
    return None


def _candidates(run: ViewedRun, file: ViewedFile) -> list[Path]:
    manifest, config = run.json_above(file, "manifest.json"), run.json_above(file, "config.json")
    names = [manifest.get("model"), config.get("actor"), config.get("model"), *_options(config)]
    here = [folder / name / FILE for folder in (file.path.parent, run.folder) for name in MODEL_FOLDERS]
    asked = [
        place for name in names if isinstance(name, str) and name and not is_address(name) for place in _places(name)
    ]
    # A journal of an evaluation was made with the model it names; one of training with what lies beside it.
    return [*asked, *here] if manifest else [*here, *asked]


def _options(config: Mapping[str, Any]) -> list[object]:
    options = config.get("options")
    return [options.get("model"), options.get("actor")] if isinstance(options, Mapping) else []


def _places(name: str) -> list[Path]:
    """Folders in which the tokenizer of a model of that name may lie."""
    if name in EMBEDDED:
        return [EMBEDDED[name] / FILE]
    found = [Path(name).expanduser() / FILE]
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, FILE)
        found += [Path(cached)] if isinstance(cached, str) else []
    return found


@lru_cache(maxsize=8)
def _loaded(path: Path, changed: int) -> Vocabulary | None:
    try:
        return Vocabulary(path)
    except Exception:  # whatever the tokenizers library makes of a damaged file: it raises Exception itself
        return None
