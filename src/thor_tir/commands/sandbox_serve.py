"""The command that lets other machines use this one's sandbox."""

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError

if TYPE_CHECKING:
    from thor_tir.sandbox.remote.server import ServerConfig


@dataclass(frozen=True, kw_only=True)
class SandboxServe:
    """Run programs for other machines: SandboxFusion's HTTP API over this machine's sandbox, until SIGTERM or Ctrl-C.

    Point runs at it with --sandbox.endpoints http://HOST:PORT; docs/remote_sandbox.md tells more.
    """

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs a token."""
    port: int = 8080
    """Port to listen on; 0 lets the system choose."""
    token: str = ""
    """Clients must send it. Better set THOR_SANDBOX_TOKEN: other users of the machine can read command lines."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Programs that run at the same time."""
    queue: int = 256
    """Programs that may wait; more are turned away with 429."""
    max_timeout_s: float = 60.0
    """Most wall-clock time that a request may ask for."""
    max_memory_mb: int = 4096
    """Most memory that a request may ask for."""
    drain_s: float = 60.0
    """After SIGTERM, what runs may take that long to finish."""

    def run(self) -> None:
        """Serve, and say where."""
        try:
            from thor_tir.sandbox.remote.server import serve
        except ModuleNotFoundError as missing:
            raise UsageError(
                f"no module {missing.name}: install the service with pip install 'thor-tir[serve]'"
            ) from None
        from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig

        config = self._config()
        reporter = ConsoleReporter()

        async def work() -> None:
            async with LocalSandbox(LocalSandboxConfig(workers=self.workers)) as sandbox:
                told = f"{self.workers} workers, level {sandbox.level}"
                await serve(sandbox, config, lambda address: reporter.say(f"sandbox at {address} ({told})"))

        asyncio.run(work())
        reporter.say("sandbox ended")

    def _config(self) -> "ServerConfig":
        from thor_tir.sandbox.protocol import Limits
        from thor_tir.sandbox.remote.sandboxfusion_json import TOKEN_VARIABLE, RequestRules
        from thor_tir.sandbox.remote.server import ServerConfig

        most = Limits(timeout_s=self.max_timeout_s, memory_bytes=self.max_memory_mb * 2**20, output_bytes=2**23)
        return ServerConfig(
            host=self.host,
            port=self.port,
            token=self.token or os.environ.get(TOKEN_VARIABLE) or None,
            workers=self.workers,
            queue=self.queue,
            drain_s=self.drain_s,
            rules=RequestRules(most=most),
        )
