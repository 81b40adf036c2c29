"""Abilities of a server, found by asking it: `thor engine check` shows them, and a run decides by them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from thor_tir.engines.vllm.connection import Connection, ReplicaLost
from thor_tir.errors import EngineFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """One server, as it answers."""

    kind: Literal["vllm", "sglang"]
    """Whose routes it has."""
    version: str
    """Version of the server's program; empty where it does not say."""
    model: str
    """Name of the model that it serves."""
    max_model_len: int
    """Tokens that a prompt and its completion may have together."""
    tokens: bool
    """True where `/inference/v1/generate` is open: ids in, ids out, with weight versions (--enable-scale-out)."""
    admin: bool
    """True where the administrative routes are open: pausing, weights, sleep (VLLM_SERVER_DEV_MODE=1)."""
    repairs: bool
    """True where its workers have this package's extension, which loads weights on a CPU as well."""
    is_paused: bool | None
    """True while it takes requests and answers none; None where it does not say."""
    is_sleeping: bool | None
    """True while it has given its memory away; None where it does not say."""
    label: str
    """Label of the weights that it holds; empty where it does not say."""
    precision: str
    """Type of its weights, such as float32; empty where it does not say."""
    logprobs_mode: str
    """Distribution of its log-probabilities, as the server says; empty where it does not."""
    transfer: str
    """Backend that takes weights from a trainer over the network; empty for none."""


async def abilities_of(connection: Connection) -> Abilities:
    """Ask a server for what it can do. Raises ReplicaLost where nothing answers, EngineFault without a model."""

    async def found(method: str, route: str, body: object = None) -> Any:
        status, value = await connection.call(method, route, body, within_s=60.0)
        return value if status == 200 else None

    async def said(route: str, field: str) -> Any:
        value = await found("GET", route)
        return value.get(field) if isinstance(value, Mapping) else None

    listed = await found("GET", "/v1/models")
    models = listed.get("data") if isinstance(listed, Mapping) else None
    if not models:
        raise EngineFault(f"{connection.address} lists no model at /v1/models: it is no server of the OpenAI kind")
    model, longest = str(models[0]["id"]), int(models[0].get("max_model_len") or 0)
    if (info := await found("GET", "/model_info")) and "weight_version" in info:
        return await _of_sglang(connection, model, longest, info)
    paused, sleeping = await said("/is_paused", "is_paused"), await said("/is_sleeping", "is_sleeping")
    label = await said("/weight_info", "weight_version")
    config = await said("/server_info?config_format=json", "vllm_config")
    signs = await found("POST", "/collective_rpc", {"method": "thor_version"}) if paused is not None else None
    return Abilities(
        kind="vllm",
        version=str(await said("/version", "version") or ""),
        model=model,
        max_model_len=longest,
        tokens=await _is_open(connection, "/inference/v1/generate"),
        admin=paused is not None,
        repairs=signs is not None,
        is_paused=paused,
        is_sleeping=sleeping,
        label=str(label or ""),
        precision=str(_at(config, "model_config", "dtype") or "").removeprefix("torch."),
        logprobs_mode=str(_at(config, "model_config", "logprobs_mode") or ""),
        transfer=str(_at(config, "weight_transfer_config", "backend") or ""),
    )


async def _of_sglang(connection: Connection, model: str, longest: int, info: Mapping[str, Any]) -> Abilities:
    """A server of SGLang, whose administrative routes are always open."""
    _, about = await connection.call("GET", "/server_info", within_s=60.0)
    return Abilities(
        kind="sglang",
        version=str(_at(about, "version") or ""),
        model=model,
        max_model_len=longest,
        tokens=True,
        admin=True,
        repairs=False,
        is_paused=None,
        is_sleeping=None,
        label=str(info["weight_version"]),
        precision="",
        logprobs_mode="",
        transfer="",
    )


async def _is_open(connection: Connection, route: str) -> bool:
    """True where a request without a prompt is refused for that, and not because the route is closed."""
    return (await connection.call("POST", route, {}, within_s=60.0))[0] not in (403, 404)


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


async def is_healthy(connection: Connection, *, within_s: float = 5.0) -> bool:
    """True where a server answers that it is well; False where it does not answer, or not yet."""
    try:
        return (await connection.call("GET", "/health", within_s=within_s))[0] == 200
    except ReplicaLost:
        return False
