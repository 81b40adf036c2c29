"""One request to a server of the OpenAI kind through the official client, and what its failures mean.

Nothing is asked twice here: the client's own retries are off, `patience.py` decides. Bodies are read as bytes, bounded,
and parsed by `replies.py`.
"""

import asyncio
import math
import os
import re
from collections.abc import Awaitable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from thor_tir.engines.bounded_http import BoundedTransport
from thor_tir.engines.patience import Refused, Transient
from thor_tir.engines.protocol import ContextFull
from thor_tir.engines.replies import BrokenReply, Gathering, Reply, parsed, whole_reply
from thor_tir.faults import UsageError

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")

_CONTEXT = re.compile(r"context.{0,20}(length|window|size)|maximum.{0,30}(context|tokens|length)|max_model_len", re.I)
_GONE = frozenset({404, 405, 501})
"""No such address, or no such model."""
BUSY_S = 1.0
"""Pause after 429 from a server that does not say how long."""
_TRANSIENT = frozenset({408, 409, 425, 429})


class NoSuchPlace(Refused):
    """The server has no such endpoint, or no such model."""


class Asker:
    """A connection to one server; usable from one event loop until `close`."""

    def __init__(self, address: str, *, key_variable: str, timeout_s: float, connect_s: float, max_bytes: int) -> None:
        self.address = address
        self._key_variable = key_variable
        self._timeout_s = timeout_s
        self._client = _client(address, key_variable, timeout_s=timeout_s, connect_s=connect_s, max_bytes=max_bytes)

    async def close(self) -> None:
        """End every connection."""
        await self._client.close()

    async def models(self) -> list[Mapping[str, object]]:
        """What the server says it serves; empty where it does not say. Raises Transient when nothing answers."""
        import openai

        try:
            listed = await self._guarded(self._list())
        except Refused:
            return []
        except Transient as failure:
            if not isinstance(failure.__cause__, openai.APIStatusError):
                raise
            return []  # `transformers serve` answers 500 where the hub's cache is missing, and serves all the same
        return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []

    async def whole(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Ask for one reply in one piece.

        Raises Transient for what another try may not meet, Refused or NoSuchPlace for what it will, ContextFull when
        the server says that the prompt fills the model's context, and UsageError for a key it does not accept.
        """
        return await self._guarded(self._read(path, body))

    async def streamed(self, path: str, body: Mapping[str, Any], stop: Sequence[str]) -> Reply:
        """Ask for one reply piece by piece and hang up at the first stop string. Raises the same."""
        return await self._guarded(self._stream(path, body, stop))

    async def _list(self) -> object:
        return parsed(await self._whole("/models", None)).get("data")

    async def _read(self, path: str, body: Mapping[str, Any]) -> Reply:
        data = await self._whole(path, body)
        return whole_reply(data, stop=body.get("stop", ()), max_tokens=body["max_tokens"])

    async def _whole(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        if body is None:
            # On a connection of its own: some servers close it after an error, under the next request's feet.
            reply = await self._client.get(path, cast_to=httpx.Response, options={"headers": {"Connection": "close"}})
        else:
            reply = await self._client.post(path, cast_to=httpx.Response, body=dict(body))
        return reply.content

    async def _stream(self, path: str, body: Mapping[str, Any], stop: Sequence[str]) -> Reply:
        from openai import AsyncStream

        gathering = Gathering(stop=stop, max_tokens=body["max_tokens"])
        stream = await self._client.post(
            path, cast_to=object, body={**body, "stream": True}, stream=True, stream_cls=AsyncStream[object]
        )
        try:
            rest = b""
            async for chunk in stream.response.aiter_raw():
                # By newlines alone: text may hold other characters that Python takes for ends of lines.
                *lines, rest = (rest + chunk).split(b"\n")
                if any(gathering.add(line.decode("utf-8", errors="replace").rstrip("\r")) for line in lines):
                    break
        finally:
            await stream.close()  # an unfinished reply is hung up on, which stops a server that notices
        return gathering.reply()

    async def _guarded(self, work: Awaitable[T]) -> T:
        import openai

        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except openai.APIStatusError as error:
            raise self._meaning(error) from error
        except BrokenReply as broken:
            raise Transient(f"a broken reply: {broken}") from broken
        except TimeoutError as error:
            raise Transient(f"no answer within {self._timeout_s:g} s") from error
        except (openai.APIError, httpx.HTTPError) as error:
            raise Transient(_root(error)) from error

    def _meaning(self, error: "APIStatusError") -> Exception:
        said = f"HTTP {error.status_code} {_told(error)}"
        if error.status_code in (401, 403):
            return UsageError(f"{self.address} refuses the key ({said}); put the right one into {self._key_variable}")
        if error.status_code in _TRANSIENT or error.status_code >= 500:
            pause_s = retry_after_s(error.response.headers)
            if pause_s is None and error.status_code == 429:
                pause_s = BUSY_S
            return Transient(said, pause_s=pause_s)
        if error.status_code in _GONE:
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


def _root(error: BaseException) -> str:
    """What was wrong in the first place: each layer of HTTP has a word of its own for it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__} {str(error)[:200]}".rstrip()


def _told(error: "APIStatusError") -> str:
    """What the server says about its refusal, short and on one line."""
    body = error.body
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    return "".join(c if c.isprintable() else " " for c in str(message or error.message))[:300].strip()


def _client(address: str, key_variable: str, *, timeout_s: float, connect_s: float, max_bytes: int) -> "AsyncOpenAI":
    """The official client, without retries, proxies and anything else that it would take from its surroundings."""
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise UsageError("models behind an address need `pip install thor-tir[endpoints]`") from error
    timeout = httpx.Timeout(timeout_s, connect=connect_s, pool=None)
    return AsyncOpenAI(
        base_url=address,
        api_key=os.environ.get(key_variable) or "none",
        max_retries=0,
        timeout=timeout,
        http_client=httpx.AsyncClient(
            transport=BoundedTransport(max_bytes=max_bytes), timeout=timeout, trust_env=False
        ),
    )
