"""A sandbox service on a loopback port, in this process or as the command."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from thor_tir.sandbox.protocol import Sandbox
from thor_tir.sandbox.remote.server import ServerConfig, Service, server_of
from thor_tir.web_service import GracefulServer
from told_sandbox import ToldSandbox, printed, raised


@asynccontextmanager
async def serving(sandbox: Sandbox, **changes: Any) -> AsyncIterator[tuple[str, GracefulServer]]:
    """A service on a loopback port, ended as by SIGTERM."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = server_of(Service(sandbox, ServerConfig(port=0, **changes)), address.set_result)
    task = asyncio.create_task(server.serve())
    try:
        yield await address, server
    finally:
        server.handle_exit(signal.SIGTERM, None)
        await task


def with_client(sandbox: Callable[[], Sandbox], work: Callable[..., Any], **changes: Any) -> Any:
    """Run `work(client, server, sandbox)` against a service."""

    async def main() -> Any:
        inner = sandbox()
        async with (
            serving(inner, **changes) as (url, server),
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
        ):
            return await work(client, server, inner)

    return asyncio.run(main())


def asks(code: str = "print(1)", **fields: Any) -> dict[str, Any]:
    return {"code": code, "language": "python", **fields}


def told() -> ToldSandbox:
    return ToldSandbox({"print(1)": printed("1"), "boom": raised()})


def command(*options: str, limit: int = 1024, **environment: str) -> subprocess.Popen[str]:
    """The command as a process that may have so many descriptors."""
    program = [
        "prlimit",
        f"--nofile={limit}:{limit}",
        sys.executable,
        "-m",
        "thor_tir",
        "sandbox",
        "serve",
        "--port",
        "0",
        "--workers",
        "1",
        *options,
    ]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **environment}
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
