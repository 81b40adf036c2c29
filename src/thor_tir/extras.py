"""Packages that a core installation lacks, and the extra that brings each: the one place that says so to a person.

The table is that of `pyproject.toml` (`tests/test_dependencies.py`); the reasons are in `docs/dependencies.md`.
"""

from importlib.util import find_spec

from thor_tir.errors import UsageError

EXTRAS = {
    "torch": "local",
    "transformers": "local",
    "tokenizers": "local",
    "safetensors": "local",
    "reasoning_gym": "gym",
    "peft": "lora",
    "openai": "judge",
    "datasets": "hub",
    "huggingface_hub": "hub",
    "pyarrow": "data",
    "matplotlib": "report",
    "tensorboard": "track",
    "trackio": "trackio",
    "wandb": "wandb",
    "verifiers": "verifiers",
    "ray": "ray",
}
"""Extra of each package that only some commands need, by the name under which the package is imported."""


def is_installed(package: str) -> bool:
    """True where the package can be imported, which is not tried."""
    return find_spec(package) is not None


def installation(package: str) -> str:
    """The command that installs what is missing."""
    return f"pip install '.[{EXTRAS[package]}]'"


def need(package: str, purpose: str) -> None:
    """Raise UsageError, in one sentence, where a package that `purpose` needs is not installed."""
    if not is_installed(package):
        raise UsageError(f"{purpose} needs {package}, which is not installed: {installation(package)}")


def need_of(error: ModuleNotFoundError, purpose: str) -> None:
    """The same for an import that failed. Does nothing where no extra brings what is missing."""
    package = (error.name or "").partition(".")[0]
    if package in EXTRAS:
        need(package, purpose)
