"""The wire to one server: JSON over HTTP, through a private socket or at an address."""

import json
from pathlib import Path
from typing import Any

import aiohttp

from thor_tir.engines.openai_api.client import IDLE_S


class ReplicaLost(Exception):
    """A server hung up, or is not there. Whoever asked asks another one."""


class Connection:
    """Connections to one server; made and used in one event loop. After `close` a call opens new ones."""

    def __init__(self, address: str, socket: Path | None = None) -> None:
        self.address = address.rstrip("/")
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, method: str, route: str, body: object = None, *, within_s: float | None = None
    ) -> tuple[int, Any]:
        """Status and JSON value of the reply; one that is no JSON is its text. Raises ReplicaLost."""
        timeout = aiohttp.ClientTimeout(total=within_s, sock_connect=10.0)
        try:
            async with self._open().request(method, self.address + route, json=body, timeout=timeout) as reply:
                text = await reply.text()
                status = reply.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ReplicaLost(f"{type(error).__name__} {str(error)[:200]}".rstrip()) from error
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text[:500]

    async def close(self) -> None:
        """End every connection; requests on their way fail with ReplicaLost."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # How many requests are open at once is the caller's business.
            connector: aiohttp.BaseConnector
            if self._socket is None:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
            else:
                connector = aiohttp.UnixConnector(path=str(self._socket), limit=0, keepalive_timeout=IDLE_S)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session
