"""An HTTP transport that reads no more of a reply than allowed, whatever the server sends."""

from collections.abc import AsyncIterator

import httpx

MAX_CONNECTIONS = 4096
"""Of one client. How many requests are open at once is the policy's business."""


class ReplyTooLarge(httpx.ReadError):
    """The server sent more than a reply may hold."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Bounds the bytes of every reply, and refuses compressed ones: a small one could unpack to a huge one."""

    def __init__(self, *, max_bytes: int) -> None:
        from httpx_aiohttp import AiohttpTransport

        # No retries here: they happen at one level, in `patience.py`. aiohttp costs half of what httpx's own costs,
        # whose pool looks at every connection for every request.
        self._inner = AiohttpTransport(limits=httpx.Limits(max_connections=MAX_CONNECTIONS), retries=0)
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
