"""Work in processes that may be killed, without paying for imports: each is a fork of one that has imported everything.

A file whose functions are to run so calls `serve` where it is a program, and is started with `Forks`.
"""

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


class Forks:
    """Starts processes of one program and kills them."""

    def __init__(self, program: Path) -> None:
        places = [str(program.parent)]
        if inherited := os.environ.get("PYTHONPATH"):
            places.append(inherited)
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(program)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that is read early would not be seen by select
        )

    def close(self) -> None:
        self._server.communicate()

    def start(self, *arguments: Any, processes: int = 1) -> list[int]:
        """Begin; returns the ids of the processes, which are their own until `codes` has been asked."""
        self._server.stdin.write(json.dumps([processes, *arguments], default=str).encode() + b"\n")
        return json.loads(self._server.stdout.readline())

    def have_ended(self, within_s: float | None) -> bool:
        """Whether what was started comes to its end in this time; None waits for it."""
        return bool(select.select([self._server.stdout], [], [], within_s)[0])

    def codes(self) -> list[int]:
        """Wait for the end: exit codes, or a signal's number below zero. A traceback is on stderr."""
        return json.loads(self._server.stdout.readline())

    def were_killed(self, folder: Path) -> bool:
        """Wait for the end of what works in `folder`: whether it was killed. It must not have failed."""
        codes = self.codes()
        assert set(codes) <= {0, -signal.SIGKILL}, f"the run in {folder} ended with {codes}; its traceback is on stderr"
        return any(codes)


def serve(run: Callable[..., None]) -> None:
    """Be the program: for each line from `Forks`, call `run(rank, *arguments)` in so many children."""
    for line in sys.stdin:
        processes, *arguments = json.loads(line)
        pids = []
        for rank in range(processes):
            pids.append(os.fork())
            if not pids[-1]:
                _be(run, rank, *arguments)
        print(json.dumps(pids), flush=True)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


def _be(run: Callable[..., None], *arguments: Any) -> NoReturn:
    code = 1
    try:
        sys.stdin.close()
        os.dup2(2, 1)
        run(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
