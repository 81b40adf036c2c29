"""A model by name, wherever a run takes one: embedded, a local folder, a hub name, or an address that serves it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from thor_tir.engines.attendance import Attendance
from thor_tir.engines.endpoint import EndpointPolicy, ServedAs
from thor_tir.engines.loading import is_address, load_model
from thor_tir.engines.protocol import Policy
from thor_tir.engines.transformers import EngineConfig, TransformersEngine
from thor_tir.faults import UsageError
from thor_tir.recipes.settings import Machinery


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A model that is ready to be sampled from."""

    policy: Policy
    tokenizer: Any
    """What a dialect for it speaks."""
    model: Any | None
    """The loaded weights; None where they are elsewhere."""
    about: Callable[[], Mapping[str, Any]]
    """How it is reached and what it cost so far, for the run's record."""


@asynccontextmanager
async def seated(
    name: str,
    served: ServedAs,
    machinery: Machinery,
    say: Callable[[str], None],
    *,
    attendance: Attendance | None = None,
    thinks: bool = False,
) -> AsyncIterator[Seat]:
    """The model for as long as it is needed.

    `served` is about addresses alone. `say` tells a person that a server does not answer and is waited for. `thinks`
    says that it thinks in turns that are interrupted, by programs for example, and go on. Raises UsageError for what
    cannot be loaded, is not served or could not think on, EngineFault when a server does not answer at all.
    """
    if is_address(name):
        if thinks and not served.tokenizer:
            raise UsageError(
                f"the thoughts of {name} could not go on after a program, because chat templates rewrite the thoughts "
                "in messages: name the model's tokenizer (--model-tokenizer, or --actor-tokenizer)"
            )
        async with EndpointPolicy(name, served, machinery.endpoint, say) as policy:
            yield Seat(policy=policy, tokenizer=policy.tokenizer, model=None, about=lambda: policy.about)
        return
    if served.model or served.tokenizer:
        raise UsageError(f"{name!r} is no address, so it has no name on a server and brings its own tokenizer")
    model, tokenizer = load_model(name)
    async with local_engine(model, tokenizer, machinery, attendance) as engine:
        yield Seat(policy=engine, tokenizer=tokenizer, model=model, about=lambda: {"model": name})


def local_engine(
    model: Any, tokenizer: Any, machinery: Machinery, attendance: Attendance | None = None
) -> TransformersEngine:
    """An engine over a loaded model."""
    config = EngineConfig(
        max_rows=machinery.max_rows, num_threads=machinery.engine_threads, deterministic=machinery.deterministic
    )
    return TransformersEngine(model, tokenizer, config, attendance)
