"""Many programs at once on any sandbox: every one is answered exactly once, and no more wait inside it than it can use.

`run_batch` and `stream` are for code with an event loop, `BlockingSandbox` for code without one.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from thor_tir.errors import SandboxLost, SandboxUnavailable
from thor_tir.execution import ExecutionResult
from thor_tir.sandbox.protocol import Limits, Sandbox, Snippet

T = TypeVar("T")

CONCURRENCY = 64
"""Programs of one batch that are inside the sandbox at once: enough to keep a large pool busy."""


async def run_batch(
    sandbox: Sandbox, snippets: Sequence[Snippet], *, concurrency: int = CONCURRENCY
) -> list[ExecutionResult]:
    """Results in the order of the snippets. Raises the first SandboxUnavailable when all others have been answered."""
    results = dict([answer async for answer in stream(sandbox, snippets, concurrency=concurrency)])
    ordered = [results[index] for index in range(len(snippets))]
    for fault in (result for result in ordered if isinstance(result, SandboxUnavailable)):
        raise fault
    return [result for result in ordered if isinstance(result, ExecutionResult)]


async def stream(
    sandbox: Sandbox, snippets: Iterable[Snippet], *, concurrency: int = CONCURRENCY
) -> AsyncGenerator[tuple[int, ExecutionResult | SandboxUnavailable], None]:
    """Yield (position, result) as programs end; a fault of the machine stands in its program's place.

    Raises SandboxLost where no further program can be run.

    The snippets are drawn only as fast as they are run, so an endless or a very long iterable is fine. Closing the
    iterator stops what runs.
    """
    numbered = enumerate(snippets)
    running: set[asyncio.Task[tuple[int, ExecutionResult | SandboxUnavailable]]] = set()
    try:
        while True:
            while len(running) < concurrency and (item := next(numbered, None)) is not None:
                running.add(asyncio.create_task(_answer(sandbox, *item)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                answer = task.result()
                if isinstance(answer[1], SandboxLost):
                    raise answer[1]
                yield answer
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _answer(sandbox: Sandbox, index: int, snippet: Snippet) -> tuple[int, ExecutionResult | SandboxUnavailable]:
    try:
        return index, await sandbox.run(snippet.code, snippet.limits, stdin=snippet.stdin, seed=snippet.seed)
    except SandboxUnavailable as fault:
        return index, fault


class OpenableSandbox(Sandbox, Protocol):
    """A sandbox that is started and ended by `async with`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlockingSandbox:
    """A sandbox for code without an event loop, from any thread, between `with` and its end.

    with BlockingSandbox(LocalSandbox()) as sandbox:
        results = sandbox.run_batch([Snippet(code="print(6 * 7)")])
    """

    def __init__(self, sandbox: OpenableSandbox) -> None:
        self._sandbox = sandbox
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        """Start the sandbox. Raises SandboxUnavailable."""
        self._thread.start()
        try:
            self._wait(self._stack.enter_async_context(self._sandbox))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait(self._stack.aclose())
        finally:
            self._stop()

    @property
    def level(self) -> str:
        """See `Sandbox.level`."""
        return self._sandbox.level

    def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        """See `Sandbox.run`."""
        return self._wait(self._sandbox.run(code, limits, stdin=stdin, seed=seed))

    def run_batch(self, snippets: Sequence[Snippet], *, concurrency: int = CONCURRENCY) -> list[ExecutionResult]:
        """See `run_batch`."""
        return self._wait(run_batch(self._sandbox, snippets, concurrency=concurrency))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._wait(self._loop.shutdown_default_executor())  # closing the loop would not wait for its threads
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
