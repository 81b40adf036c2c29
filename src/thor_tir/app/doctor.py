"""What this machine offers, found by trying it."""

import os
from typing import Any

from thor_tir.engines.loading import load_model
from thor_tir.errors import MachineFault, UsageError
from thor_tir.provenance import machine, versions
from thor_tir.sandbox.local.probe import probe


def examine(reporter: Any) -> None:
    """Print one line a finding. Raises MachineFault where programs cannot be run at all."""
    reporter.say(f"machine: {machine()}")
    reporter.say("versions: " + ", ".join(f"{name} {found}" for name, found in versions().items()))
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


def _loads(name: str) -> str:
    try:
        model, _ = load_model(name)
    except UsageError as error:
        return f"NO - {error}"
    return f"loads, {model.num_parameters():,} parameters"
