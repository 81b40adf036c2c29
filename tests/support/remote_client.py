"""A client with short pauses, in front of a server that follows a script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hostile_server import Behaviour, HostileServer, hostile
from thor_tir.errors import SandboxUnavailable
from thor_tir.execution import ExecutionResult
from thor_tir.sandbox.protocol import Limits
from thor_tir.sandbox.remote.client import RemoteSandbox, RemoteSandboxConfig
from thor_tir.sandbox.remote.load_balancer import FleetRules

DEAD = "http://127.0.0.1:9"
"""Nothing listens on the discard port."""
FLEET = FleetRules(tolerance=100, ping_s=0.02, patience_s=30.0)
IMPATIENT = replace(FLEET, patience_s=0.05)
SMALL = Limits(timeout_s=0.1, output_bytes=1000)


def config(*urls: str, **changes: Any) -> RemoteSandboxConfig:
    """Short pauses between attempts, and patience with a slow test machine."""
    short: dict[str, Any] = {"fleet": FLEET, "backoff_s": 0.01, "connect_s": 5.0, "queue_s": 30.0, "limits": SMALL}
    return RemoteSandboxConfig(endpoints=urls, token=None, **(short | changes))


@asynccontextmanager
async def facing(*script: Behaviour, **changes: Any) -> AsyncIterator[tuple[RemoteSandbox, HostileServer]]:
    """A client of one server that follows a script."""
    async with hostile(*script) as server, RemoteSandbox(config(server.url, **changes)) as sandbox:
        yield sandbox, server


async def outcome(sandbox: RemoteSandbox) -> ExecutionResult | str:
    try:
        return await sandbox.run("print(6 * 7)")
    except SandboxUnavailable as fault:
        return str(fault)


def meet(*script: Behaviour, **changes: Any) -> tuple[ExecutionResult | str, int]:
    """The outcome of one program, or the fault's sentence, and how often the server was asked."""

    async def work() -> tuple[ExecutionResult | str, int]:
        async with facing(*script, **changes) as (sandbox, server):
            return await outcome(sandbox), len(server.asked)

    return asyncio.run(work())
