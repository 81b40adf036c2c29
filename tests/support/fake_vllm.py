"""A server that answers as vLLM 0.32 does, over a model in this process: real sockets, no process of its own.

It keeps vLLM's order and refusals: a paused server takes requests and answers none; weights are received only between
start and finish; what it was started with is all that it knows after it was killed.
"""

import asyncio
import base64
import copy
from collections.abc import Awaitable, Callable
from glob import glob
from hashlib import sha256
from typing import Any

import torch
from aiohttp import web
from safetensors.torch import load_file

START_LABEL = "default"


class FakeVLLM:
    """One server; usable between `async with` and its end, and killed or started again in between."""

    def __init__(self, model: Any, tokenizer: Any, *, is_open: bool = True, is_administrable: bool = True) -> None:
        self._initial, self._tokenizer = copy.deepcopy(model).eval(), tokenizer
        self.is_open, self.is_administrable = is_open, is_administrable
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.seen_prompts: list[list[int]] = []
        self.port = 0
        self.token_s = 0.0
        self.max_model_len = 256
        self.precision = "torch.float32"
        self.is_dead = False
        self.loading = asyncio.Event()
        """Cleared while calls to workers hang."""
        self.loading.set()
        self.keeps_weights = False
        """True for a server whose reload does nothing, as if it read another folder."""
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "FakeVLLM":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start, or start again, with the weights that it was made with; one that runs goes on."""
        if self._runner is not None:
            return
        self.model = copy.deepcopy(self._initial)
        self.label, self.is_paused, self.is_sleeping, self.is_updating = START_LABEL, False, False, False
        self.group: Any = None
        self.resumed = asyncio.Event()
        self.resumed.set()
        self.in_flight = 0
        self.cached: set[tuple[int, ...]] = set()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{route:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def kill(self) -> None:
        """Gone at once, as by SIGKILL: connections break, and everything is forgotten."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        for connection in list(runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        route = "/" + request.match_info["route"]
        self.calls.append(route)
        body = await request.json() if request.can_read_body else {}
        self.bodies.append(body)
        if route not in OPEN and not self.is_administrable:
            return web.json_response({"error": "no such route"}, status=404)
        if self.is_dead:  # as vLLM's web server without its engine
            return web.json_response({"error": "EngineDeadError"}, status=503 if route == "/health" else 500)
        handler: Callable[..., Awaitable[Any]] | None = self.handler(route)
        if handler is None:
            return web.json_response({"error": f"no route {route}"}, status=404)
        try:
            return web.json_response(await handler(self, body, request.query))
        except Refused as refusal:
            return web.json_response({"error": str(refusal)}, status=refusal.status)

    def handler(self, route: str) -> Any:
        return ROUTES.get(route)

    # What a client may ask.

    async def health(self, body: Any, query: Any) -> Any:
        return {}

    async def models(self, body: Any, query: Any) -> Any:
        return {"data": [{"id": "policy", "max_model_len": self.max_model_len}]}

    async def version(self, body: Any, query: Any) -> Any:
        return {"version": "0.32.0"}

    async def generate(self, body: Any, query: Any) -> Any:
        if not self.is_open:
            raise Refused(403, "start with --enable-scale-out")
        if not body.get("token_ids"):
            raise Refused(400, "token_ids: too short")
        drawn = await self._sample(body["token_ids"], body["sampling_params"])
        content = [{"token_id": i, "logprob": lp} for i, lp in zip(drawn["ids"], drawn["logprobs"], strict=True)]
        choice = {
            "token_ids": drawn["ids"],
            "logprobs": {"content": content},
            "weight_versions": drawn["spans"],
            "finish_reason": drawn["finish"],
            "stop_reason": drawn["reason"],
        }
        return {"choices": [choice], "usage": {"prompt_tokens_details": {"cached_tokens": drawn["cached"]}}}

    async def completions(self, body: Any, query: Any) -> Any:
        if body.get("prompt_logprobs") is not None:
            await self._until_resumed()
            return {"choices": [{"prompt_logprobs": self._read(body["prompt"])}]}
        drawn = await self._sample(body["prompt"], body)
        choice = {
            "token_ids": drawn["ids"],
            "logprobs": {"token_logprobs": drawn["logprobs"]},
            "finish_reason": drawn["finish"],
            "stop_reason": drawn["reason"],
        }
        return {"choices": [choice], "usage": {"prompt_tokens_details": {"cached_tokens": drawn["cached"]}}}

    # What a trainer may ask.

    async def pause(self, body: Any, query: Any) -> Any:
        self.is_paused = True
        self.resumed.clear()
        return {"status": "paused"}

    async def resume(self, body: Any, query: Any) -> Any:
        self.is_paused = False
        self.resumed.set()
        return {"status": "resumed"}

    async def paused(self, body: Any, query: Any) -> Any:
        return {"is_paused": self.is_paused}

    async def sleep(self, body: Any, query: Any) -> Any:
        self.is_sleeping = True
        self.resumed.clear()
        return {"status": "sleeping"}

    async def wake_up(self, body: Any, query: Any) -> Any:
        self.is_sleeping = False
        self.resumed.set()
        return {"status": "awake"}

    async def sleeping(self, body: Any, query: Any) -> Any:
        return {"is_sleeping": self.is_sleeping}

    async def weight_info(self, body: Any, query: Any) -> Any:
        return {"weight_version": self.label}

    async def new_label(self, body: Any, query: Any) -> Any:
        self.label = body["new_version"]
        return {"success": True}

    async def reset_cache(self, body: Any, query: Any) -> Any:
        self.cached.clear()
        return {"success": not self.in_flight or query.get("reset_running_requests") == "true"}

    async def world_size(self, body: Any, query: Any) -> Any:
        return {"world_size": 1}

    async def rpc(self, body: Any, query: Any) -> Any:
        await self.loading.wait()
        method = body["method"]
        if method == "thor_version":
            return {"results": ["1"]}
        if method == "thor_sums":
            return {"results": [{n: float(w.detach().double().sum()) for n, w in self.model.named_parameters()}]}
        if method != "thor_reload":
            raise Refused(500, f"no method {method}")
        if not self.keeps_weights:
            for file in sorted(glob(f"{body['kwargs']['weights_path']}/*.safetensors")):
                self.load(load_file(file))
        return {"results": [""]}

    async def checksums(self, body: Any, query: Any) -> Any:
        assert body == {"action": "checksum"}
        weights = {n: w.detach().numpy().tobytes() for n, w in self.model.named_parameters()}
        return {"checksums": {f"tp0:{n}": sha256(w).hexdigest() for n, w in weights.items()}}

    async def server_info(self, body: Any, query: Any) -> Any:
        return {"vllm_config": {"model_config": {"logprobs_mode": "processed_logprobs", "dtype": self.precision}}}

    async def init_transfer(self, body: Any, query: Any) -> Any:
        info = body["init_info"]
        assert base64.b64decode(info["nccl_unique_id_b64"], validate=True)
        assert (info["rank_offset"], info["world_size"], info["packed"]) == (1, 2, False)
        self.group = GROUPS[base64.b64decode(info["nccl_unique_id_b64"])]
        self.group.joined.set()
        return {"message": "Weight transfer initialized"}

    async def shutdown_transfer(self, body: Any, query: Any) -> Any:
        if self.is_updating:
            raise Refused(500, "Cannot release a trainer connection during a weight update")
        self.group = None
        return {}

    async def start_update(self, body: Any, query: Any) -> Any:
        if self.is_updating:
            raise Refused(500, "start_weight_update called while a weight update is already active")
        self.is_updating = True
        return {}

    async def receive(self, body: Any, query: Any) -> Any:
        if not self.is_updating:
            raise Refused(500, "start_weight_update must be called before update_weights.")
        info = body["update_info"]
        assert len(info["names"]) == len(info["dtype_names"]) == len(info["shapes"])
        for name, dtype, shape in zip(info["names"], info["dtype_names"], info["shapes"], strict=True):
            weight = await asyncio.to_thread(self.group.wire.get)
            if weight is None:
                self.is_updating = False
                raise Refused(500, "the group broke")
            assert (list(weight.shape), str(weight.dtype)) == (shape, f"torch.{dtype}")
            self.load({name: weight})
        return {}

    async def finish_update(self, body: Any, query: Any) -> Any:
        if not self.is_updating:
            raise Refused(500, "finish_weight_update called without a matching start_weight_update.")
        self.is_updating = False
        self.label = (body or {}).get("weight_version") or self.label
        return {}

    # How it does it.

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                own[name].copy_(weight)

    async def _until_resumed(self) -> None:
        while not self.resumed.is_set():
            await self.resumed.wait()

    def _read(self, ids: list[int]) -> list[Any]:
        with torch.no_grad():
            logp = torch.log_softmax(self.model(torch.tensor([ids])).logits[0].float(), -1)
        return [None, *({str(i): {"logprob": float(logp[at, i])}} for at, i in enumerate(ids[1:]))]

    async def _sample(self, prompt: list[int], asked: Any) -> Any:
        self.in_flight += 1
        self.seen_prompts.append(list(prompt))
        cached = max((len(p) for p in self.cached if tuple(prompt[: len(p)]) == p), default=0)
        self.cached.add(tuple(prompt))
        try:
            return await self._draw(prompt, asked) | {"cached": cached}
        finally:
            self.in_flight -= 1

    async def _draw(self, prompt: list[int], asked: Any) -> Any:
        ids, logprobs, spans = list(prompt), [], []
        generator = torch.Generator().manual_seed(asked["seed"] % 2**62)
        finish, reason = "length", None
        for number in range(asked["max_tokens"]):
            await asyncio.sleep(self.token_s)
            await self._until_resumed()
            temperature = asked["temperature"] or 1.0
            with torch.no_grad():
                logp = torch.log_softmax(self.model(torch.tensor([ids])).logits[0, -1].float() / temperature, -1)
            drawn = logp.argmax() if not asked["temperature"] else torch.multinomial(logp.exp(), 1, generator=generator)
            token = int(drawn)
            ids.append(token)
            logprobs.append(float(logp[token]))
            if not spans or spans[-1]["version"] != self.label:
                spans.append({"version": self.label, "start": number, "end": number})
            spans[-1]["end"] = number + 1
            text = self._tokenizer.decode(ids[len(prompt) :])
            if token in asked["stop_token_ids"] or (hit := next((s for s in asked["stop"] if s in text), None)):
                finish, reason = "stop", token if token in asked["stop_token_ids"] else hit
                break
        return {"ids": ids[len(prompt) :], "logprobs": logprobs, "spans": spans, "finish": finish, "reason": reason}


class Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


OPEN = {"/health", "/v1/models", "/v1/completions", "/inference/v1/generate", "/version"}
ROUTES: dict[str, Any] = {
    "/health": FakeVLLM.health,
    "/v1/models": FakeVLLM.models,
    "/version": FakeVLLM.version,
    "/inference/v1/generate": FakeVLLM.generate,
    "/v1/completions": FakeVLLM.completions,
    "/pause": FakeVLLM.pause,
    "/resume": FakeVLLM.resume,
    "/is_paused": FakeVLLM.paused,
    "/sleep": FakeVLLM.sleep,
    "/wake_up": FakeVLLM.wake_up,
    "/is_sleeping": FakeVLLM.sleeping,
    "/weight_info": FakeVLLM.weight_info,
    "/update_weight_version": FakeVLLM.new_label,
    "/reset_prefix_cache": FakeVLLM.reset_cache,
    "/get_world_size": FakeVLLM.world_size,
    "/collective_rpc": FakeVLLM.rpc,
    "/server_info": FakeVLLM.server_info,
    "/weight_checker": FakeVLLM.checksums,
    "/init_weight_transfer_engine": FakeVLLM.init_transfer,
    "/shutdown_weight_transfer_engine": FakeVLLM.shutdown_transfer,
    "/start_weight_update": FakeVLLM.start_update,
    "/update_weights": FakeVLLM.receive,
    "/finish_weight_update": FakeVLLM.finish_update,
}

GROUPS: dict[bytes, Any] = {}
"""Groups of NCCL by their ids: what stands for the network."""
