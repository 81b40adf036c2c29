"""Commands for one stored trajectory and one machine."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from thor_tir.console import ConsoleReporter
from thor_tir.engines.loading import EMBEDDED
from thor_tir.extras import installation, is_installed


@dataclass(frozen=True, kw_only=True)
class Show:
    """Look at stored trajectories of a run of tirgen, rl, eval or quickstart: one a line, or one with its repairs.

    Filters may be combined. `thor view RUN` shows the same in a browser.
    """

    folder: tyro.conf.Positional[Path]
    """Folder of a run."""
    id: tyro.conf.Positional[str] = ""
    """Id of the trajectory that is printed, or the beginning of several that are listed; without it all are listed."""
    failed: bool = False
    """Those with a call that failed."""
    repaired: bool = False
    """Those with a call that was written again, by training or by self-correction."""
    wrong: bool = False
    """Those whose answer is wrong."""
    round: str = ""
    """Those of one round of training, counted from 1, or of the `last`."""
    limit: int = 100
    """Most lines of the list; 0 for all."""

    def run(self) -> None:
        """Print one transcript, or a list."""
        from thor_tir.view.selection import Selection
        from thor_tir.view.terminal import Asked, show

        selection = Selection.of(
            {
                "call": "failed" if self.failed else "",
                "repaired": "yes" if self.repaired else "",
                "outcome": "wrong" if self.wrong else "",
                "round": self.round,
            }
        )
        show(self.folder, Asked(id=self.id, selection=selection, most=self.limit), ConsoleReporter())


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Facts about this machine: cores, torch, sandbox layers, embedded models. Exit status 0 if THOR can run."""

    def run(self) -> None:
        """Look and print, one line a finding. Raises MachineFault where programs cannot be run at all."""
        from thor_tir.errors import MachineFault
        from thor_tir.provenance import machine, versions
        from thor_tir.sandbox.local.probe import probe

        say = ConsoleReporter().say
        say(f"machine: {machine()}")
        say("versions: " + ", ".join(f"{name} {found}" for name, found in versions().items()))
        threads, waits = (os.environ.get(name, "not set") for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"))
        say(f"threads: OMP_NUM_THREADS={threads}, OMP_WAIT_POLICY={waits}")
        for name in EMBEDDED:
            say(f"{name}: {_how_it_loads(name)}")
        finding = probe()
        for layer in finding.layers:
            say(f"sandbox {layer.name}: {'yes' if layer.is_available else 'NO'} - {layer.detail}")
        for reason in finding.missing:
            say(f"sandbox, why not more: {reason}")
        say(f"sandbox level: {finding.level or 'none'}")
        if not finding.level:
            raise MachineFault(f"programs cannot be confined here: {'; '.join(finding.missing)}")
        for line in _abilities():
            say(line)


def _abilities() -> Iterator[str]:
    """What can be done here and what cannot, as far as it hangs on what is installed."""
    here = {
        "models on this machine (solve, chat, sft, rl, tirgen and eval without an address)": "torch",
        "generated problems (quickstart, --problems reasoning_gym)": "reasoning_gym",
    }
    lacks = {work: package for work, package in here.items() if not is_installed(package)}
    can = ["grading, programs, data, and models behind addresses", *(work for work in here if work not in lacks)]
    yield f"THOR can run here: {'; '.join(can)}." if not lacks else f"THOR can run here in part: {'; '.join(can)}."
    for work, package in lacks.items():
        yield f"NOT here: {work}: {installation(package)}"


def _how_it_loads(name: str) -> str:
    from thor_tir.engines.loading import load_model
    from thor_tir.errors import UsageError

    try:
        model, _ = load_model(name)
    except UsageError as error:
        return f"NO - {error}"
    return f"loads, {model.num_parameters():,} parameters"
