"""RL runs in processes that may be killed, see `forks.py`."""

import asyncio
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from forks import Forks, serve


class Runs:
    """Starts runs and kills them."""

    def __init__(self) -> None:
        self._forks = Forks(Path(__file__))
        self.close = self._forks.close

    def run(self, kind: str, folder: Path, *, killed_after_s: float | None = None) -> bool:
        """Run until the end, or kill when it is time; whether it was killed."""
        (pid,) = self._forks.start(kind, folder)
        if not self._forks.have_ended(within_s=killed_after_s):
            os.kill(pid, signal.SIGKILL)
        return self._forks.were_killed(folder)

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


def ahead(folder: Path) -> None:
    """The toy's rounds, sampled ahead of training."""
    toy(folder, max_staleness=2)


def toy(folder: Path, **changes: Any) -> None:
    """Six rounds of three out of four problems, so that epochs end within rounds; a real engine, a told sandbox."""
    import torch

    from thor_tir.rl.config import EpisodeConfig, RLConfig, StepConfig
    from thor_tir.storage.run_lock import claim
    from tiny_models import tiny_model
    from toy_task import LIMITS, run

    config = RLConfig(
        num_rounds=6,
        problems_per_round=3,
        updates_per_round=2,
        rollout=LIMITS,
        episode=EpisodeConfig(num_generations=6),
        step=StepConfig(num_generations=4, suffix_tokens=4),
        learning_rate=5e-4,
        **changes,
    )

    def primed() -> Any:
        model = tiny_model(sharpness=1.0)
        model.load_state_dict(torch.load(folder.parent / "primed.pt"))
        return model

    model = primed()
    fields = {"replica": primed(), "deterministic": False} if changes else {}
    with claim(folder, asdict(config)):
        run(model, config, folder, **fields)
        model.save_pretrained(folder / "model")


def beside(folder: Path) -> None:
    """Two checkpoints beside training: once a step has been taken meanwhile, the second is killed before its end."""
    from threading import Event

    from thor_tir.learner import checkpoint
    from thor_tir.learner.learner import Learner, LearnerConfig
    from tiny_models import tiny_model
    from tiny_rows import mixed_rows

    has_stepped, seal = Event(), checkpoint._seal

    def killed(draft: Path, final: Path, *more: Any) -> None:
        if final.name.startswith("000002"):
            has_stepped.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        seal(draft, final, *more)

    checkpoint._seal = killed
    learner = Learner(tiny_model(sharpness=1.0), LearnerConfig())
    with checkpoint.CheckpointWriter(folder, learner, is_beside=True) as writer:
        for save in (1, 2):
            learner.step(mixed_rows())
            writer.save({"save": save})
        learner.step(mixed_rows())
        (folder / "stepped").touch()
        has_stepped.set()


def nano(folder: Path) -> None:
    """What `thor rl` does with the embedded model: real engine, sandbox and grader, and epochs that end in rounds."""
    from thor_tir.app.config import quickstart
    from thor_tir.app.runtime import open_runtime
    from thor_tir.app.stages.rl import reinforce
    from thor_tir.console import ConsoleReporter
    from thor_tir.storage.run_lock import claim

    whole = quickstart(deterministic=True)
    rl = replace(
        whole.rl,
        num_rounds=4,
        problems_per_round=4,
        updates_per_round=2,
        validate_every=0,
        episode=replace(whole.rl.episode, num_generations=4),
        step=replace(whole.rl.step, num_generations=4),
    )
    config = replace(whole, num_rl=6, rl=rl, resources=replace(whole.resources, concurrency=8))

    async def work() -> None:
        async with open_runtime(config.resources) as tools:
            await reinforce(config, "nano/actor", folder, tools, ConsoleReporter(is_silent=True))

    with claim(folder, asdict(config)):
        asyncio.run(work())


def _run(_: int, kind: str, folder: str) -> None:
    {"prime": prime, "toy": toy, "ahead": ahead, "beside": beside, "nano": nano}[kind](Path(folder))


if __name__ == "__main__":
    import toy_task  # noqa: F401 - so that children need not

    serve(_run)
