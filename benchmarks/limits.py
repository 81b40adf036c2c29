"""How near decoding and training come to what this machine's matrix products allow.

    python benchmarks/limits.py [--model nano/actor]

  product   the limit: tokens/s if nothing were done but the products of the weights, at the rate of a large square one
            through the faster of torch's libraries, which is measured beside; six operations a parameter and token when
            training, two when decoding, attention not counted; the output head counts for trained tokens alone
  memory    for decoding, the limit that binds a small model: the keys and values of all rows, and the weights, read
            once a step at the rate at which a large buffer is summed up

`of product` is the measured rate over the first limit, `of both` over what both take one after the other. Decoding is
timed without reading the prompts: the time of the same work with one token a row is taken off.
"""

import asyncio
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rounds import Clock, machine, now, save
from scaling import rows_of
from subjects import subject
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.protocol import Sampling
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.products import quick_products


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure throughput beside the limits."""

    model: str = "nano/actor"
    batches: tuple[int, ...] = (1, 8, 32, 64, 128)
    """Rows decoded together."""
    prompt: int = 64
    new: int = 64
    """Tokens written by every row."""
    train_rows: int = 64
    train_length: int = 128
    micro_batch_tokens: int = 2048
    rounds: int = 3
    threads: int = 1
    clock: Clock = "wall"
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One measured rate and its limits, tokens a second."""

    name: str
    rate: float
    product: float
    memory: float | None
    """None where it does not bind."""

    @property
    def both(self) -> float:
        """The limit if products and reading take turns."""
        return self.product if self.memory is None else 1 / (1 / self.product + 1 / self.memory)


def rate_of(work: Any, amount: float, options: Options) -> float:
    """Median over the rounds of an amount over its seconds; a first one is not counted."""
    rates = []
    for number in range(options.rounds + 1):
        began = now(options.clock)
        work()
        if number:
            rates.append(amount / (now(options.clock) - began))
    return median(rates)


def product_rate(options: Options, size: int = 1024, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a large square product, by the faster library."""
    a, b = torch.randn(2, size, size).to(dtype)
    usual = rate_of(lambda: a @ b, 2.0 * size**3, options)
    with quick_products():
        return max(usual, rate_of(lambda: a @ b, 2.0 * size**3, options))


def memory_rate(options: Options, megabytes: int = 128) -> float:
    """Bytes a second of summing up a buffer larger than any cache that one core has to itself."""
    buffer = torch.ones(megabytes * 2**18)
    return rate_of(buffer.sum, 4.0 * buffer.numel(), options)


def weights_in_products(model: Any, *, head_share: float = 1.0) -> float:
    """Parameters that a token is multiplied with: all matrices, the output head by the share of tokens that need it."""
    head = model.get_output_embeddings().weight
    body = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    return body + head_share * head.numel()


def decoding(model: Any, tokenizer: Any, rows: int, options: Options, flops: float, bandwidth: float) -> Reached:
    """All rows write as many tokens from prompts that have nothing in common."""
    draw = random.Random(rows)
    prompts = [[draw.randrange(len(tokenizer)) for _ in range(options.prompt)] for _ in range(rows)]

    async def run(new: int) -> None:
        config = EngineConfig(max_num_seqs=rows, num_threads=options.threads)
        async with TransformersEngine(model, tokenizer, config) as engine:
            asks = (engine.sample(p, Sampling(max_tokens=new, seed=n)) for n, p in enumerate(prompts))
            await asyncio.gather(*asks)

    def seconds(new: int) -> float:
        return 1 / rate_of(lambda: asyncio.run(run(new)), 1.0, options)

    c, width = model.config, model.dtype.itemsize
    a_token = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * width
    a_step = weights_in_products(model) * width + rows * (options.prompt + options.new / 2) * a_token
    return Reached(
        name=f"decode, {rows} rows",
        rate=rows * (options.new - 1) / (seconds(options.new) - seconds(1)),
        product=flops / (2 * weights_in_products(model)),
        memory=rows * bandwidth / a_step,
    )


def training(model: Any, tokenizer: Any, options: Options, flops: float, *, bf16: bool) -> Reached:
    """An optimiser step over rows of one length, of which half is trained."""
    rows = rows_of(options.train_rows, options.train_length, len(tokenizer))
    config = LearnerConfig(learning_rate=1e-6, micro_batch_tokens=options.micro_batch_tokens, bf16=bf16)
    learner = Learner(model, config)
    return Reached(
        name=f"train, rows of {options.train_length}{', bfloat16' if bf16 else ''}",
        rate=rate_of(lambda: learner.step(rows), sum(len(row.token_ids) for row in rows), options),
        product=flops / (6 * weights_in_products(model, head_share=0.5)),
        memory=None,
    )


def main(options: Options) -> None:
    """Measure and print."""
    torch.set_num_threads(options.threads)
    model, tokenizer = subject(options.model)
    flops, bandwidth = product_rate(options), memory_rate(options)
    reached = [decoding(model, tokenizer, rows, options, flops, bandwidth) for rows in options.batches]
    half = product_rate(options, dtype=torch.bfloat16)
    reached += [training(model, tokenizer, options, f, bf16=f is half) for f in (flops, half)]
    table = Table(title=f"Limits, {options.model}", title_justify="left", box=SIMPLE)
    for column in ("", "tokens/s", "product limit", "memory limit", "of product", "of both"):
        table.add_column(column, justify="right")
    for r in reached:
        memory = f"{r.memory:,.0f}" if r.memory is not None else ""
        shares = (f"{r.rate / r.product:.0%}", f"{r.rate / r.both:.0%}")
        table.add_row(r.name, f"{r.rate:,.0f}", f"{r.product:,.0f}", memory, *shares)
    console = Console(width=140)
    console.print(table)
    found = f"products {flops / 1e9:.0f} GFLOP/s, in bfloat16 {half / 1e9:.0f}, reading {bandwidth / 1e9:.1f} GB/s"
    console.print(f"{found}; {machine()}", highlight=False)
    save(options.out, {"options": asdict(options), "flops": flops, "bandwidth": bandwidth, "reached": reached})


if __name__ == "__main__":
    main(tyro.cli(Options))
