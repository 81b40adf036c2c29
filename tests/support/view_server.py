"""The server of `thor view` in a thread of the test."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from thor_tir.view.run import open_runs
from thor_tir.view.server import View, ViewConfig, serve

TOKEN = "0123456789abcdefghij"


@contextmanager
def viewing(*folders: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """The address of the page over some run folders."""
    view = View(open_runs(list(folders)), ViewConfig(host=host, port=0, token=TOKEN))
    said: list[str] = []
    thread = Thread(target=lambda: asyncio.run(serve(view, said.append)))
    thread.start()
    try:
        until = time.monotonic() + 10
        while not said:
            assert time.monotonic() < until, "the server never listened"
            time.sleep(0.01)
        yield said[0]
    finally:
        view.is_draining = True
        thread.join(20)
        assert not thread.is_alive()
