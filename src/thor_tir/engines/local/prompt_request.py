"""A request whose bytes go out as soon as it is made, on every version of Python.

Before Python 3.12, aiohttp leaves writing to a task that begins at the event loop's next turn. All requests of one turn
then go out together, are answered together, and keep one another waiting again, for as long as the run lasts.
"""

import sys
from collections.abc import Coroutine, Generator
from typing import Any

from aiohttp import ClientRequest
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection


class PromptRequest(ClientRequest):
    """As aiohttp's own, but written at once."""

    if sys.version_info < (3, 12):

        def write_bytes(
            self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
        ) -> Coroutine[Any, Any, None]:
            """Write what can be written now; the coroutine is the rest."""
            return begun(super().write_bytes(writer, conn, content_length))


def begun(work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """Run `work` up to where it first has to wait; the coroutine is what follows, or the error that was met."""
    try:
        awaited = work.send(None)
    except StopIteration:
        return _done()
    except Exception as error:
        return _failed(error)
    return _resumed(work, awaited)


async def _done() -> None:
    pass


async def _failed(error: Exception) -> None:
    raise error


async def _resumed(work: Coroutine[Any, Any, None], awaited: Any) -> None:
    await _Rest(work, awaited)


class _Rest:
    def __init__(self, work: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._work = work
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._awaited
        except BaseException:
            self._work.close()
            raise
        yield from self._work.__await__()
