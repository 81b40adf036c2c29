"""The command that shows run folders in a browser."""

import asyncio
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import tyro

from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError
from thor_tir.view import DEFAULT_MOST

TOKEN_VARIABLE = "THOR_VIEW_TOKEN"


@dataclass(frozen=True, kw_only=True)
class ViewRuns:
    """Show run folders in a browser, while they grow and after: curves, results and every trajectory.

    Prints an address with a token; see docs/view.md. Nothing is written into the folders.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, of any command; several are compared."""
    host: str = "127.0.0.1"
    """Address to listen on. On anything but loopback the token is all that protects what the runs hold."""
    port: int = 8765
    """Port to listen on; 0 lets the system choose."""

    export: Path | None = None
    """HTML file to write instead, which shows the runs without a server."""
    trajectories: int = DEFAULT_MOST
    """Most trajectories of each run in that file."""

    def run(self) -> None:
        """Serve until Ctrl-C, and say where. Set THOR_VIEW_TOKEN for addresses that stay the same."""
        from thor_tir.view.run import open_runs

        if not self.folders:
            raise UsageError("give the folder of a run, such as runs/quickstart")
        runs = open_runs(list(self.folders))
        if self.export is not None:
            from thor_tir.view.export import export

            done = export(runs, self.export, most=self.trajectories)
            ConsoleReporter().say(f"{done.path}: {done.shown:,} of {done.total:,} trajectories")
            return
        from thor_tir.view.server import View, ViewConfig, serve

        token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(16)
        reporter = ConsoleReporter()
        view = View(runs, ViewConfig(host=self.host, port=self.port, token=token))
        asyncio.run(serve(view, lambda address: reporter.say(f"{', '.join(run.name for run in runs)}: {address}")))
