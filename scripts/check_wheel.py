"""Compares the installed package with its source tree: every module and data file must have come along.

Run by scripts/check with the interpreter into which the wheel was installed. Exits with one sentence per fault.
"""

import sys
from fnmatch import fnmatch
from pathlib import Path

import thor_tir

REQUIRED = (
    "py.typed",
    "engines/vllm/in_server/thor_weights.py",
    "view/page/index.html",
    "nano/actor/model.safetensors",
    "nano/actor/tokenizer.json",
    "nano/critic/model.safetensors",
    "nano/critic/tokenizer.json",
    "nano/thinker/model.safetensors",
    "nano/thinker/tokenizer.json",
)
"""Data without which an installed package cannot run its own quickstart; relative to the package."""

MADE_BY_PYTHON = ("*.pyc", "*.egg-info/*")
"""Files that appear beside sources and belong to no wheel."""


def files(package: Path) -> set[str]:
    """Relative posix paths of everything below a package folder that a wheel should carry."""
    paths = (p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file())
    return {p for p in paths if not any(fnmatch(p, pattern) for pattern in MADE_BY_PYTHON)}


def faults(source: Path, installed: Path) -> list[str]:
    """What is wrong with the installed package, one sentence each; empty when it is whole."""
    if source.resolve() == installed.resolve():
        return [f"the source tree {source} was imported instead of the wheel"]
    in_source, in_wheel = files(source), files(installed)
    missing = [f"{path} is in the source tree but not in the wheel" for path in sorted(in_source - in_wheel)]
    absent = [f"{path} is required and is nowhere" for path in REQUIRED if path not in in_source | in_wheel]
    return missing + absent


def main() -> None:
    """Compare the folder named on the command line with the imported package."""
    found = faults(Path(sys.argv[1]), Path(thor_tir.__file__).parent)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
