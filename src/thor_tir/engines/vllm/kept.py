"""Servers that one stage of a command leaves to the next: a start takes a minute, new weights a moment."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from thor_tir.engines.vllm.server import VLLMConfig, VLLMServer
from thor_tir.pretrained import CausalLM, beneath

Form = Mapping[str, Any]
"""The form of a model: a server takes weights of any model that has the same."""

_UNLIKE = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""Entries of a configuration that say nothing of the form."""
_IDLE: list[tuple[Form, VLLMServer]] = []
_keepers: list[object] = []


@asynccontextmanager
async def keeping() -> AsyncIterator[None]:
    """Within it servers that are left stay for whoever needs such a one; all end with it."""
    me = object()
    _keepers.append(me)
    try:
        yield
    finally:
        _keepers.remove(me)
        await end_idle()


def form_of(model: CausalLM) -> Form:
    """The form of a model, by its configuration."""
    inner = beneath(model)
    form: Form = inner.config.to_dict() | {"class": type(inner).__name__}
    return {name: value for name, value in form.items() if name not in _UNLIKE}


def take(form: Form, config: VLLMConfig) -> VLLMServer | None:
    """A server that was left and fits; None where there is none."""
    for place, (other, server) in enumerate(_IDLE):
        if other == form and server.config == config and server.is_alive:
            del _IDLE[place]
            server.num_starts = 1
            return server
    return None


async def leave(form: Form, server: VLLMServer) -> None:
    """Keep a server for the next stage, or end it where none is to come."""
    if _keepers and server.is_alive:
        _IDLE.append((form, server))
    else:
        await end(server)


async def end_idle() -> None:
    """End the servers that nobody has taken."""
    while _IDLE:
        await end(_IDLE.pop()[1])


async def end(server: VLLMServer) -> None:
    """End a server for good."""
    await server.stop()
    server.remove()
