"""A model by name, wherever a run takes one: embedded, a local folder, a hub name, or an address that serves it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from thor_tir.engines.attendance import Attendance
from thor_tir.engines.endpoint import EndpointPolicy, ServedModel
from thor_tir.engines.loading import is_address, load_model
from thor_tir.engines.protocol import Policy
from thor_tir.engines.transformers import EngineConfig, TransformersEngine
from thor_tir.faults import UsageError
from thor_tir.recipes.settings import Machinery


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What a user says of a model."""

    name: str
    """Hub name, local folder, embedded model, or the address of a server such as http://10.0.0.5:8000/v1."""
    served: str = ""
    """Of an address: the model as its server names it; empty where it serves one alone."""
    tokenizer: str = ""
    """Of an address: the model's tokenizer here, a folder or hub name; empty where text is all there is."""
    key_variable: str = "OPENAI_API_KEY"
    """Of an address: the environment variable that holds the key."""

    def __post_init__(self) -> None:
        if not self.is_served and (self.served or self.tokenizer):
            raise UsageError(f"{self.name!r} is no address, so it has no name on a server and brings its own tokenizer")

    @property
    def is_served(self) -> bool:
        """Whether the model is reached over a network."""
        return is_address(self.name)


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
    source: ModelSource, machinery: Machinery, *, attendance: Attendance | None = None, say: Callable[[str], None]
) -> AsyncIterator[Seat]:
    """The model for as long as it is needed. `say` tells a person that a server does not answer and is waited for.

    Raises UsageError for what cannot be loaded or is not served, EngineFault when a server does not answer at all.
    """
    if source.is_served:
        served = ServedModel(
            address=source.name, model=source.served, tokenizer=source.tokenizer, key_variable=source.key_variable
        )
        async with EndpointPolicy(served, machinery.endpoint, say) as policy:
            yield Seat(policy=policy, tokenizer=policy.tokenizer, model=None, about=lambda: policy.about)
        return
    model, tokenizer = load_model(source.name)
    async with local_engine(model, tokenizer, machinery, attendance) as engine:
        yield Seat(policy=engine, tokenizer=tokenizer, model=model, about=lambda: {"model": source.name})


def local_engine(
    model: Any, tokenizer: Any, machinery: Machinery, attendance: Attendance | None = None
) -> TransformersEngine:
    """An engine over a loaded model."""
    config = EngineConfig(
        max_rows=machinery.max_rows, num_threads=machinery.engine_threads, deterministic=machinery.deterministic
    )
    return TransformersEngine(model, tokenizer, config, attendance)
