"""An HTTP transport that reads no more of a reply than allowed, whatever the server sends."""

from collections.abc import AsyncIterator

import httpx


class ReplyTooLarge(httpx.ReadError):
    """The server sent more than a reply may hold."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Bounds the bytes of every reply, and refuses compressed ones: a small one could unpack to a huge one."""

    def __init__(self, *, max_bytes: int) -> None:
        # No retries here: they happen at one level, in `patience.py`.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
        self._inner = httpx.AsyncHTTPTransport(limits=limits, retries=0)
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and watch what comes."""
        request.headers["Accept-Encoding"] = "identity"
        reply = await self._inner.handle_async_request(request)
        if "content-encoding" in reply.headers:
            await reply.aclose()
            raise httpx.DecodingError("a compressed reply, which was not asked for", request=request)
        assert isinstance(reply.stream, httpx.AsyncByteStream)
        reply.stream = _Bounded(reply.stream, self._max_bytes, request)
        return reply

    async def aclose(self) -> None:
        """End every connection."""
        await self._inner.aclose()


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, max_bytes: int, request: httpx.Request) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self._stream:
            seen += len(chunk)
            if seen > self._max_bytes:
                raise ReplyTooLarge(f"a reply of more than {self._max_bytes} bytes", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
