"""Is the memory that `--dry-run` says what a process needs? The sum of the parts beside the measured peak.

    MALLOC_MMAP_THRESHOLD_=65536 python benchmarks/memory_parts.py [--model nano/actor] [--bf16]

A process of its own for each line. A step of the embedded model over rows of the same length comes first, so that the
code of torch that a first step loads (some 22 MB) counts as Python and torch. Then two steps are taken, since moments
are made at the end of the first, and the peak of the second is read from the kernel. Without that setting glibc keeps
blocks that were freed.
"""

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from subjects import subject
from thor_tir.app.memory import WEIGHTS, Shape, training_memory
from thor_tir.app.plan import resident
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.rl.config import RLConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure one model."""

    model: str = "nano/actor"
    rows: int = 16
    """Rows of a micro-batch; a step has two."""
    tokens: int = 128
    """Tokens of a row."""
    gradient_checkpointing: bool = False
    bf16: bool = False


def stepped(model: torch.nn.Module, options: Options, *, rows: int, tokens: int) -> Learner:
    """A learner of this model that has taken one step."""
    learner = Learner(
        model,
        LearnerConfig(
            learning_rate=1e-6,
            micro_batch_tokens=rows * tokens,
            shares_prefixes=False,
            bf16=options.bf16,
            gradient_checkpointing=options.gradient_checkpointing,
        ),
    )
    learner.step(rows_of(rows=rows, tokens=tokens))
    return learner


def rows_of(*, rows: int, tokens: int) -> list[TrainingSample]:
    """Rows of two micro-batches, the last three quarters of each trained."""
    trained = tuple(place >= tokens // 4 for place in range(tokens))
    return [
        TrainingSample(
            id=str(number),
            token_ids=(number % 400 + 1, *(1,) * (tokens - 1)),
            trained=trained,
            old_logprobs=(float("nan"),) * tokens,
            terms=(Term(name="memory", formula="nll"),),
        )
        for number in range(2 * rows)
    ]


def peak() -> int:
    """Bytes of the most that was resident since it was asked to begin anew."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main(options: Options) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    model, _ = subject(options.model)
    shape = Shape(rows=options.rows, tokens=options.tokens, trained=options.tokens * 3 // 4)
    training = RLConfig(bf16=options.bf16, gradient_checkpointing=options.gradient_checkpointing)
    said = training_memory(model.config, shape, training)
    stepped(subject("nano/actor")[0], options, rows=options.rows, tokens=options.tokens)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident() - said[WEIGHTS]
    learner = stepped(model, options, rows=options.rows, tokens=options.tokens)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    learner.step(rows_of(rows=options.rows, tokens=options.tokens))
    measured = peak() - before
    parts = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in said.items())
    total = sum(said.values())
    print(f"{parts}: {total / 1e6:,.1f} MB, measured {measured / 1e6:,.1f} MB, {total / measured:.2f} of it")


if __name__ == "__main__":
    main(tyro.cli(Options))
