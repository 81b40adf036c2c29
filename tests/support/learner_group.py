"""Two processes that really train together, over gloo, without torchrun, see `forks.py`."""

import json
from pathlib import Path
from typing import Any

from forks import Forks, serve


class Groups:
    """Starts groups of processes, each of which calls one function of `group_cases` and says what it returned."""

    def __init__(self) -> None:
        self._forks = Forks(Path(__file__))
        self._started = 0
        self.close = self._forks.close

    def run(self, case: str, folder: Path, *, size: int = 2) -> list[Any]:
        """What each process returned, in the order of ranks; fails if one raised, with its traceback on stderr."""
        folder.mkdir(exist_ok=True)
        self._started += 1
        self._forks.start(case, folder, size, f"{folder}/meet-{self._started}", processes=size)
        codes = self._forks.codes()
        assert codes == [0] * size, f"processes of {case} ended with {codes}"
        return [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in range(size)]


def _be(rank: int, case: str, folder: str, size: int, port: str) -> None:
    """One process of a group."""
    from torch import distributed

    import group_cases
    from thor_tir.distributed import ALONE, Ranks

    if size > 1:
        distributed.init_process_group("gloo", init_method=f"file://{port}", rank=rank, world_size=size)
    ranks = Ranks(rank=rank, size=size) if size > 1 else ALONE
    answer = getattr(group_cases, case)(ranks, Path(folder))
    (Path(folder) / f"{case}-{rank}.json").write_text(json.dumps(answer))
    if size > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    import group_cases  # noqa: F401 - so that children need not

    serve(_be)
