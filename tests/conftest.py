"""Sets what must be set before torch is imported. What tests share is in `support/`: `from tiny_models import ...`."""

import os
from functools import partial
from importlib import import_module

import pytest
from hypothesis import settings

from thor_tir.sandbox.local.sandbox import LocalSandboxConfig

pytest_plugins = ("processors",)

# Two spinning threads a process make tiny models many times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# transformers logs to the stderr of its first import, which must not be one that a single test captures and closes.
import_module("transformers.utils.logging")

settings.register_profile("project", deadline=None)  # a wall-clock limit would fail on a busy machine
settings.load_profile("project")


@pytest.fixture(autouse=True)
def light_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands start a sandbox whose template imports next to nothing: programs import the rest, and nobody waits.

    A module whose tests are about programs of large libraries has a fixture of this name that does nothing.
    """
    runtime = import_module("thor_tir.app.runtime")
    light = partial(LocalSandboxConfig, modules=("json",), heavy_modules=())
    monkeypatch.setattr(runtime, "LocalSandboxConfig", light)
