"""What this machine offers, found by trying it."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thor_tir.app.stages.quickstart import machine
from thor_tir.engines.loading import load_model
from thor_tir.errors import MachineFault, UsageError
from thor_tir.sandbox.local.probe import probe

PACKAGES = ("torch", "transformers", "tokenizers", "math-verify", "sympy", "reasoning-gym")


def examine(reporter: Any) -> None:
    """Print one line a finding. Raises MachineFault where programs cannot be run at all."""
    reporter.say(f"machine: {machine()}")
    reporter.say("versions: " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    waits = os.environ.get("OMP_WAIT_POLICY", "not set")
    reporter.say(f"threads: OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}, OMP_WAIT_POLICY={waits}")
    for name in ("nano/actor", "nano/critic"):
        reporter.say(f"{name}: {_loads(name)}")
    finding = probe()
    for layer in finding.layers:
        reporter.say(f"sandbox {layer.name}: {'yes' if layer.is_available else 'NO'} - {layer.detail}")
    for reason in finding.missing:
        reporter.say(f"sandbox, why not more: {reason}")
    reporter.say(f"sandbox level: {finding.level or 'none'}")
    if not finding.level:
        raise MachineFault(f"programs cannot be confined here: {'; '.join(finding.missing)}")
    reporter.say("THOR can run here.")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _loads(name: str) -> str:
    try:
        model, _ = load_model(name)
    except UsageError as error:
        return f"NO - {error}"
    return f"loads, {model.num_parameters():,} parameters"
