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
        limits = aiohttp.ClientTimeout(total=within_s, sock_connect=10.0)
        session = self._open()
        try:
            try:
                status, text = await _reply(session, method, self.address + route, body, limits)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if session is not self._session:
                    raise
                # A server that ended an idle connection at this instant is there; one that died refuses the next.
                status, text = await _reply(session, method, self.address + route, body, limits)
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


async def _reply(
    session: aiohttp.ClientSession, method: str, url: str, body: object, limits: aiohttp.ClientTimeout
) -> tuple[int, str]:
    async with session.request(method, url, json=body, timeout=limits) as reply:
        return reply.status, await reply.text()
