"""The card of a trained model, from the record of its run alone; of places on this machine it says the last part."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thor_tir.provenance import RUN

MOST_FIGURES = 24


def model_card(name: str, run: Path, folder: Path, licence: str = "") -> str:
    """The card of the model in `folder`, which the run in the folder `run` trained, in the form of the hub."""
    record = _read(run / RUN)
    options = record.get("options", {})
    base = str(options.get("model", ""))
    is_named = (
        bool(base) and base.count("/") == 1 and not base.startswith((".", "/", "nano/")) and not Path(base).exists()
    )
    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base} if is_named else {}),
        **({"license": licence} if licence else {}),
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items())]
    lines += ["tags:", "- thor", "- mathematics", "- tool-use", "---", "", f"# {name}", ""]
    command = str(record.get("command", "")).split(" --")[0] or "thor"
    versions = record.get("versions", {})
    lines += [
        f"Trained by `{command}` of [THOR](https://arxiv.org/abs/2509.13761)"
        f"{f' from `{_short(base)}`' if base else ''}: the model reasons in words and lets Python compute.",
        "",
        "```python",
        "from thor_tir import Thor",
        "",
        f"with Thor({json.dumps(name)}) as thor:",
        '    thor.rollout("What is the sum of all primes below 20?").show()',
        "```",
        "",
        "Programs that a model writes are foreign code: run them in a sandbox, as THOR does.",
        "",
    ]
    lines += _table("Figures of its training", "the last row of `metrics.jsonl`", _figures(run / "metrics.jsonl"))
    lines += _table("Data", "SHA-256", [(_short(p), f"`{d}`") for p, d in record.get("inputs", {}).items()])
    lines += _table("Options", "value", sorted(_flat(options)))
    lines += _table("Versions", "version", sorted(versions.items()))
    if record.get("commit"):
        lines.append(f"Commit of THOR: `{record['commit']}`.")
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, column: str, rows: Any) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield from (f"## {title}", "", f"| | {column} |", "|---|---|")
        yield from (f"| {_cell(key)} | {_cell(value)} |" for key, value in rows)
        yield ""


def _figures(path: Path) -> Iterator[tuple[str, str]]:
    """The numbers of the last row."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    last = json.loads(lines[-1]) if lines else {}
    numbers = [(k, v) for k, v in _flat(last) if isinstance(v, int | float) and not isinstance(v, bool) and k != "key"]
    yield from (
        (key, f"{value:.4g}" if isinstance(value, float) else str(value)) for key, value in numbers[:MOST_FIGURES]
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif value not in ("", [], {}, None):
        yield name, _short(value) if isinstance(value, str) else value


def _short(text: str) -> str:
    """The last part of a path of this machine, and every other text as it is."""
    is_place = text.startswith(("/", "~", ".")) or ("/" in text and Path(text).exists())
    return Path(text).name if is_place else text


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
