"""RL runs in processes that may be killed. As a program: runs each `kind folder` line in a child.

The children are forks of one process that has imported everything and computed nothing, so a restart costs no imports.
"""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Runs:
    """Starts runs and kills them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self._server.communicate()

    def run(self, kind: str, folder: Path, *, killed_after_s: float | None = None) -> bool:
        """Run until the end, or kill when it is time; whether it was killed."""
        print(kind, folder, file=self._server.stdin, flush=True)
        pid = int(self._server.stdout.readline())
        if not select.select([self._server.stdout], [], [], killed_after_s)[0]:
            os.kill(pid, signal.SIGKILL)  # its parent has not waited for it yet, so the id is still its own
        code = int(self._server.stdout.readline())
        assert code in (0, -signal.SIGKILL), f"the run in {folder} ended with {code}; its traceback is on stderr"
        return code != 0

    def seconds(self, kind: str, folder: Path) -> float:
        """How long a run takes that is left alone."""
        began = time.perf_counter()
        assert not self.run(kind, folder)
        return time.perf_counter() - began


def prime(folder: Path) -> None:
    """The toy task's weights, computed in a process of their own: its children could not train after it had."""
    import torch
    from toy_task import BREAKS, OTHER, RIGHT, primed_weights

    torch.save(primed_weights(RIGHT, OTHER, BREAKS), folder / "primed.pt")


def toy(folder: Path) -> None:
    """Six rounds of three out of four problems, so that epochs end within rounds; a real engine, a told sandbox."""
    import torch
    from toy_task import LIMITS, run

    from thor_tir.claim import claim
    from thor_tir.rl.episode import EpisodeConfig
    from thor_tir.rl.step import StepConfig
    from thor_tir.rl.train import RLConfig
    from tiny_models import tiny_model

    config = RLConfig(
        num_rounds=6,
        problems_per_round=3,
        updates_per_round=2,
        rollout=LIMITS,
        episode=EpisodeConfig(group_size=6),
        step=StepConfig(group_size=4, suffix_tokens=4),
        learning_rate=5e-4,
    )
    model = tiny_model(sharpness=1.0)
    model.load_state_dict(torch.load(folder.parent / "primed.pt"))
    with claim(folder, asdict(config)):
        run(model, config, folder)
        model.save_pretrained(folder / "model")


def nano(folder: Path) -> None:
    """What `thor rl` does with the embedded model: real engine, sandbox and grader, and epochs that end in rounds."""
    from thor_tir.claim import claim
    from thor_tir.console import ConsoleReporter
    from thor_tir.recipes.settings import quickstart
    from thor_tir.recipes.stages import bench, reinforce

    whole = quickstart(deterministic=True)
    rl = replace(
        whole.rl,
        num_rounds=4,
        problems_per_round=4,
        updates_per_round=2,
        validate_every=0,
        episode=replace(whole.rl.episode, group_size=4),
        step=replace(whole.rl.step, group_size=4),
    )
    config = replace(whole, num_rl=6, rl=rl, machinery=replace(whole.machinery, concurrency=8))

    async def work() -> None:
        async with bench(config.machinery) as tools:
            await reinforce(config, "nano/actor", folder, tools, ConsoleReporter(is_silent=True))

    with claim(folder, asdict(config)):
        asyncio.run(work())


def _serve() -> None:
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    import toy_task  # noqa: F401 - so that children need not

    kinds: dict[str, Any] = {"prime": prime, "toy": toy, "nano": nano}
    for line in sys.stdin:
        kind, _, folder = line.strip().partition(" ")
        pid = os.fork()
        if not pid:
            code = 1
            try:
                sys.stdin.close()
                os.dup2(2, 1)
                kinds[kind](Path(folder))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
