"""Two processes that really train together, over gloo, without torchrun. As a program: forks a group a line.

The children are forks of one process that has imported everything and computed nothing, so a group costs no imports.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Groups:
    """Starts groups of processes, each of which calls one function of `group_cases` and says what it returned."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self._server.communicate()

    def run(self, case: str, folder: Path, *, size: int = 2) -> list[Any]:
        """What each process returned, in the order of ranks; fails if one raised, with its traceback on stderr."""
        folder.mkdir(exist_ok=True)
        print(json.dumps([case, str(folder), size]), file=self._server.stdin, flush=True)
        codes = json.loads(self._server.stdout.readline())
        assert codes == [0] * size, f"processes of {case} ended with {codes}"
        return [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in range(size)]


def _serve() -> None:
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "rl")]
    import group_cases

    for number, line in enumerate(sys.stdin):
        case, folder, size = json.loads(line)
        pids = []
        for rank in range(size):
            pids.append(os.fork())
            if not pids[-1]:
                _be(group_cases, case, Path(folder), rank, size, port=f"{folder}/meet-{number}")
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


def _be(cases: Any, case: str, folder: Path, rank: int, size: int, *, port: str) -> None:
    """One process of a group; never returns."""
    from torch import distributed

    from thor_tir.learner.ranks import ALONE, Ranks

    code = 1
    try:
        os.dup2(2, 1)
        if size > 1:
            distributed.init_process_group("gloo", init_method=f"file://{port}", rank=rank, world_size=size)
        ranks = Ranks(rank=rank, size=size) if size > 1 else ALONE
        answer = getattr(cases, case)(ranks, folder)
        (folder / f"{case}-{rank}.json").write_text(json.dumps(answer))
        if size > 1:
            distributed.destroy_process_group()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
