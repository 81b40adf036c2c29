"""The routes by which a trainer pauses a server, gives it weights by path, and sees what it holds: vLLM's and SGLang's.

SGLang's were read in its sources and not run: its wheels need a GPU. Its transfer over the network is not spoken.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from thor_tir.engines.vllm.abilities import Abilities
from thor_tir.errors import EngineFault


class Server(Protocol):
    """A server as its administrative routes are asked (`replica.py: Replica`)."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def abilities(self) -> Abilities | None:
        """Its routes and settings; None before it was asked."""
        ...

    async def get(self, route: str) -> Any:
        """The JSON value of a route. Raises ReplicaLost and EngineFault."""
        ...

    async def post(self, route: str, body: object = None) -> Any:
        """The same for a call that changes something."""
        ...

    async def unless_refused(self, route: str, body: object = None) -> Any:
        """The same; None where it refuses the call."""
        ...


class Control(Protocol):
    """The administrative routes of one kind of server. All methods raise ReplicaLost and EngineFault."""

    async def pause(self, replica: Server) -> None:
        """Let requests wait, with the tokens that they have."""
        ...

    async def resume(self, replica: Server) -> None:
        """Let them go on."""
        ...

    async def load(self, replica: Server, folder: Path, label: str) -> None:
        """Let a paused server read weights, under a label."""
        ...

    async def forget_prefixes(self, replica: Server) -> None:
        """Let a paused server compute all keys and values anew."""
        ...

    async def label(self, replica: Server) -> str:
        """The label of the weights that it holds."""
        ...

    async def is_serving(self, replica: Server) -> bool:
        """False while it is paused, or where it does not say."""
        ...

    async def read(self, replica: Server, ids: Sequence[int]) -> list[float]:
        """Log-probability of each id but the first, given those before it."""
        ...

    async def checksums(self, replica: Server) -> Mapping[str, str]:
        """A digest of each weight that it holds; empty where it has no such route."""
        ...

    async def sleep(self, replica: Server) -> None:
        """Let it give its memory away."""
        ...

    async def wake(self, replica: Server) -> None:
        """Let it take its memory back, where it gave it away."""
        ...


class VLLM:
    """Routes of vLLM's development mode."""

    async def pause(self, replica: Server) -> None:
        """Let requests wait, with the tokens that they have."""
        await replica.post("/pause?mode=keep")

    async def resume(self, replica: Server) -> None:
        """Let them go on."""
        await replica.post("/resume")

    async def load(self, replica: Server, folder: Path, label: str) -> None:
        """Let it read weights, by this package's extension where it has that."""
        assert replica.abilities is not None
        method = "thor_reload" if replica.abilities.repairs else "reload_weights"
        await replica.post("/collective_rpc", {"method": method, "kwargs": {"weights_path": str(folder)}})
        await replica.post("/update_weight_version", {"new_version": label})

    async def forget_prefixes(self, replica: Server) -> None:
        """Drop the prefix cache, of requests in flight as well."""
        cleared = await replica.post("/reset_prefix_cache?reset_running_requests=true")
        if not cleared.get("success"):
            raise EngineFault("vLLM kept its prefix cache, which holds what the old weights computed")

    async def label(self, replica: Server) -> str:
        """The label of the weights that it holds."""
        return str((await replica.get("/weight_info"))["weight_version"])

    async def is_serving(self, replica: Server) -> bool:
        """False while it is paused."""
        return not (await replica.get("/is_paused"))["is_paused"]

    async def read(self, replica: Server, ids: Sequence[int]) -> list[float]:
        """Log-probability of each id but the first, given those before it."""
        assert replica.abilities is not None
        body = {"prompt": list(ids), "max_tokens": 1, "prompt_logprobs": 0, "temperature": 0}
        reply = await replica.post("/v1/completions", {"model": replica.abilities.model, **body})
        rows: Sequence[Mapping[str, Mapping[str, float]]] = reply["choices"][0]["prompt_logprobs"][1:]
        return [row[str(id)]["logprob"] for row, id in zip(rows, ids[1:], strict=True)]

    async def checksums(self, replica: Server) -> Mapping[str, str]:
        """A digest of each weight that it holds; those of packed copies are left out by vLLM."""
        reply = await replica.unless_refused("/weight_checker", {"action": "checksum"})
        return {} if reply is None else reply["checksums"]

    async def sleep(self, replica: Server) -> None:
        """Let it give its memory away."""
        await replica.post("/sleep?level=1")

    async def wake(self, replica: Server) -> None:
        """Let it take its memory back, where it gave it away."""
        if (await replica.get("/is_sleeping"))["is_sleeping"]:
            await replica.post("/wake_up")


class SGLang:
    """Routes of SGLang, as its sources have them."""

    async def pause(self, replica: Server) -> None:
        """Put running requests back into the queue, with the tokens that they have."""
        await replica.post("/pause_generation", {"mode": "retract"})

    async def resume(self, replica: Server) -> None:
        """Let them go on."""
        await replica.post("/continue_generation", {})

    async def load(self, replica: Server, folder: Path, label: str) -> None:
        """Let it read weights, which forgets what the old ones computed."""
        body = {"model_path": str(folder), "weight_version": label, "flush_cache": True}
        done = await replica.post("/update_weights_from_disk", body)
        if not done.get("success"):
            raise EngineFault(f"{replica.name} did not take the weights: {str(done.get('message'))[:300]}")

    async def forget_prefixes(self, replica: Server) -> None:
        """Nothing more: loading did it."""

    async def label(self, replica: Server) -> str:
        """The label of the weights that it holds."""
        return str((await replica.get("/model_info"))["weight_version"])

    async def is_serving(self, replica: Server) -> bool:
        """False: it does not say."""
        return False

    async def read(self, replica: Server, ids: Sequence[int]) -> list[float]:
        """Log-probability of each id but the first, given those before it."""
        body = {
            "input_ids": list(ids),
            "sampling_params": {"max_new_tokens": 1, "temperature": 0},
            "return_logprob": True,
            "logprob_start_len": 0,
        }
        reply = await replica.post("/generate", body)
        return [float(entry[0]) for entry in reply["meta_info"]["input_token_logprobs"][1:]]

    async def checksums(self, replica: Server) -> Mapping[str, str]:
        """None: its digests are of another form."""
        return {}

    async def sleep(self, replica: Server) -> None:
        """Let it give its memory away."""
        await replica.post("/release_memory_occupation", {})

    async def wake(self, replica: Server) -> None:
        """Let it take its memory back."""
        await replica.post("/resume_memory_occupation", {})
