"""One request to a server of the OpenAI kind, and what its failures mean.

Nothing is asked twice here: `patience.py` decides about that. Replies are read as bytes, never more than allowed, never
unpacked, and parsed by `replies.py`. Why not the official client: `docs/decisions/0011-requests-without-a-client.md`.
"""

import asyncio
import json
import math
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from io import BytesIO
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

from thor_tir.engines.openai_api.responses import BrokenReply, CutReply, Expected, Gathering, Reply, parsed, whole_reply
from thor_tir.engines.openai_api.retry import BadAnswer, Refused, Transient
from thor_tir.engines.protocol import ContextFull
from thor_tir.errors import UsageError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")

_CONTEXT = re.compile(r"context.{0,20}(length|window|size)|maximum.{0,30}(context|tokens|length)|max_model_len", re.I)
_GONE = frozenset({404, 405, 501})
"""No such address, or no such model."""
IDLE_S = 2.0
"""A connection that was idle for longer is not used again: vLLM and others on uvicorn hang up after 5 s, and where they
meet requests on their way, many at once, these failures would look like a dead server's."""
BUSY_S = 1.0
"""Pause after 429 from a server that does not say how long."""
_TRANSIENT = frozenset({408, 409, 425, 429})
_JSON = (b"{", b"[")
"""First characters of a reply that is no stream."""
_AT_ONCE_BYTES = 2**19
"""A longer prompt is not handed to the operating system in one piece, for that would hold up all others."""


class NoSuchPlace(Refused):
    """The server has no such endpoint, or no such model."""


class _BadStatus(Exception):
    """The server answered, and not with what was asked for."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.reason = f"HTTP {status} {_reason(body)}".rstrip()
        if 300 <= status < 400:
            self.reason += f"; it stands at {headers.get('Location', 'another address')[:300]!r}"
        super().__init__(self.reason)


class ApiClient:
    """Connections to one server; made and used in one event loop until `close`."""

    def __init__(self, address: str, *, key_variable: str, timeout_s: float, connect_s: float, max_bytes: int) -> None:
        """Raises UsageError without the `aiohttp` package, and for a key that no request can carry."""
        self.address = address
        self._key_variable = key_variable
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._key = _key(key_variable)
        self._connect_s = connect_s
        self._session = _session(address, self._key, connect_s=connect_s)

    async def close(self) -> None:
        """End every connection."""
        await self._session.close()

    async def models(self) -> list[Mapping[str, object]]:
        """The models that the server lists; empty where it lists none. Raises Transient when nothing answers."""
        try:
            listed = await self._guarded(self._list())
        except Refused:
            return []
        except Transient as failure:
            if not isinstance(failure.__cause__, _BadStatus):
                raise
            return []  # `transformers serve` answers 500 where the hub's cache is missing, and serves all the same
        return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []

    async def whole(self, path: str, body: Mapping[str, Any], expected: Expected) -> Reply:
        """Ask for one reply in one piece.

        Raises Transient for what another try may not meet, BadAnswer for a reply that is no completion, Refused or
        NoSuchPlace for what no try changes, ContextFull when the server says that the prompt fills the model's
        context, and UsageError for a key it does not accept.
        """
        return await self._guarded(self._whole(path, body, expected))

    async def posted(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask for a reply of another kind than a completion: the JSON object that it is. Raises the same."""
        return await self._guarded(self._posted(path, body))

    async def streamed(self, path: str, body: Mapping[str, Any], expected: Expected) -> Reply:
        """Ask for one reply piece by piece and hang up at the first stop string. Raises the same."""
        return await self._guarded(self._stream(path, body, expected))

    async def _list(self) -> object:
        # In a session of its own, whose connection is never used again: some servers close it after an error, under
        # the next request's feet.
        async with (
            _session(self.address, self._key, connect_s=self._connect_s, is_for_one=True) as session,
            session.get(f"{self.address}/models", allow_redirects=False) as reply,
        ):
            return parsed(await self._body(reply)).get("data")

    async def _whole(self, path: str, body: Mapping[str, Any], expected: Expected) -> Reply:
        async with self._post(path, body) as reply:
            data = await self._body(reply)
        return whole_reply(data, expected)

    async def _posted(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._post(path, body) as reply:
            return parsed(await self._body(reply))

    async def _stream(self, path: str, body: Mapping[str, Any], expected: Expected) -> Reply:
        gathering = Gathering(expected)
        async with self._post(path, {**body, "stream": True}) as reply:
            if reply.status != 200:
                await self._body(reply)
            rest = b""
            async for chunk in self._chunks(reply):
                if (rest + chunk).lstrip()[:1] in _JSON:  # no event begins so: the server does not stream
                    rest += chunk
                    continue
                # By newlines alone: text may hold other characters that Python takes for ends of lines.
                *lines, rest = (rest + chunk).split(b"\n")
                if any(gathering.add(line.decode("utf-8", errors="replace").rstrip("\r")) for line in lines):
                    reply.close()  # an unfinished reply is hung up on, which stops a server that notices
                    break
        return whole_reply(rest, expected) if rest.lstrip()[:1] in _JSON else gathering.reply()

    def _post(self, path: str, body: Mapping[str, Any]) -> "AbstractAsyncContextManager[ClientResponse]":
        data = json.dumps(body).encode()
        sent = data if len(data) <= _AT_ONCE_BYTES else BytesIO(data)  # which aiohttp sends piece by piece
        return self._session.post(f"{self.address}{path}", data=sent, allow_redirects=False)

    async def _body(self, reply: "ClientResponse") -> bytes:
        """All of a reply. Raises as `_chunks`, and _BadStatus."""
        body = b"".join([chunk async for chunk in self._chunks(reply)])
        if not 200 <= reply.status < 300:
            raise _BadStatus(reply.status, reply.headers, body)
        return body

    async def _chunks(self, reply: "ClientResponse") -> AsyncIterator[bytes]:
        """A reply as it comes. Raises BrokenReply for one that is compressed or longer than allowed."""
        if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise BrokenReply("compressed, which was not asked for: a small one could unpack to a huge one")
        seen = 0
        async for chunk in reply.content.iter_any():
            seen += len(chunk)
            if seen > self._max_bytes:
                raise BrokenReply(f"more than {self._max_bytes} bytes")
            yield chunk

    async def _guarded(self, work: Awaitable[T]) -> T:
        import aiohttp

        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except _BadStatus as error:
            raise self._meaning(error) from error
        except CutReply as cut:
            raise Transient(f"a broken reply: {cut}") from cut
        except RecursionError as error:
            raise BadAnswer("a broken reply: it is nested too deep") from error
        except BrokenReply as broken:
            raise BadAnswer(f"a broken reply: {broken}") from broken
        except aiohttp.ServerTimeoutError as error:
            raise Transient(f"no connection: {error}") from error
        except aiohttp.ClientConnectorError as error:
            raise Transient(f"no connection: {error.os_error}") from error
        except TimeoutError as error:
            raise Transient(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"{type(error).__name__} {str(error)[:200]}".rstrip()) from error

    def _meaning(self, error: _BadStatus) -> Exception:
        said, status = error.reason, error.status
        if status in (401, 403):
            return UsageError(f"{self.address} refuses the key ({said}); put the right one into {self._key_variable}")
        if status in _TRANSIENT or status >= 500:
            pause_s = retry_after_s(error.headers)
            return Transient(said, pause_s=BUSY_S if pause_s is None and status == 429 else pause_s)
        if status in _GONE:
            return NoSuchPlace(said)
        return ContextFull(said) if _CONTEXT.search(said) else Refused(said)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause a server asks for: milliseconds, seconds, or a date; None where it asks for none."""
    try:
        if "retry-after-ms" in headers:
            pause_s = float(headers["retry-after-ms"]) / 1000
        else:
            pause_s = float(headers["retry-after"])
    except KeyError:
        return None
    except ValueError:
        try:
            pause_s = parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, pause_s) if math.isfinite(pause_s) else None


def _reason(body: bytes) -> str:
    """The server's reason for its refusal, short and on one line: `error.message`, `message`, `detail`, or all."""
    text = body[:4096].decode("utf-8", errors="replace")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = text
    if isinstance(said, dict):
        said = said.get("error") or said
    if isinstance(said, dict):
        said = said.get("message") or said.get("detail") or text
    return "".join(c if c.isprintable() else " " for c in str(said)[:300]).strip()


def _key(variable: str) -> str:
    """The key in the environment, without the line end that files and shells leave behind it."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the key in {variable} holds characters that no key has; set it again")
    return key


def _session(address: str, key: str, *, connect_s: float, is_for_one: bool = False) -> "ClientSession":
    """HTTP without cookies, proxies, retries and anything else that it would take from its surroundings.

    A session for one request says that it closes the connection, and does.
    """
    import aiohttp

    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "thor-tir",
    }
    if key:
        headers["Authorization"] = f"Bearer {key}"
    # How many requests are open at once is the policy's business.
    is_secure = address.startswith("https:")
    connector = aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=None if is_for_one else IDLE_S,
        force_close=is_for_one,
        ssl=ssl.create_default_context() if is_secure else True,
    )
    if is_for_one:
        headers["Connection"] = "close"
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
    )
