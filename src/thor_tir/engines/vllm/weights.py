"""Ways by which a learner's weights get into a server: by path, or over NCCL. Both keep one order.

Pause (requests keep what they have), move the weights under a new label, forget the prefix cache, go on. Whoever dies
on the way leaves a server that is paused under its old label, so that nothing ever samples from half of the weights;
the next one to come begins again.
"""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file

from thor_tir.engines.vllm.connection import ReplicaLost
from thor_tir.engines.vllm.replica import Replica
from thor_tir.pretrained import CausalLM, ModelTokenizer, beneath, plain_weights
from thor_tir.storage.journal import write_atomically
from thor_tir.storage.scratch import in_turn

SHARD_BYTES = 2 * 2**30
"""Size of one file of weights in bytes: no more is held in memory beside the model."""


class Way(Protocol):
    """A way for weights."""

    reads_model: bool
    """True where weights in force can be moved again only while training does not move the model's."""

    async def prepare(self, label: str) -> None:
        """Make ready what all servers share, once for each label, while nothing else moves weights."""
        ...

    def holding(self, label: str) -> AbstractAsyncContextManager[None]:
        """Keep what was made ready while a server takes it. Raises ReplicaLost where it is another label's by now."""
        ...

    async def move(self, replica: Replica, label: str) -> None:
        """Put the model's weights into a paused server, under a label. Raises ReplicaLost and EngineFault."""
        ...

    def forget(self, replica: Replica) -> None:
        """The server was started again: what was agreed with it is gone."""
        ...


async def renew(replica: Replica, way: Way, label: str) -> None:
    """Give a server the weights of the model, under a label, unless another process just did; requests in flight go on
    under them."""
    if await replica.control.label(replica) == label and await replica.control.is_serving(replica):
        return
    async with way.holding(label):  # else nothing is paused: others may be asking this server
        await replica.control.pause(replica)
        await way.move(replica, label)
        await replica.control.forget_prefixes(replica)
        await replica.control.resume(replica)


class ByPath:
    """Weights in files that the servers can read: they stand in a model folder, as a server starts from it.

    Processes that share the folder write each label once: whoever comes first does, the others find it there.
    """

    reads_model = False

    def __init__(
        self, model: CausalLM, tokenizer: ModelTokenizer, folder: Path, dtype: torch.dtype | None = None
    ) -> None:
        """Weights are written in `dtype`, the server's precision; None stands for the model's."""
        self.folder = folder
        self._label = folder.with_name(f"{folder.name}.label")
        self._turn = self._label.with_suffix(".turn")
        self._dtype = dtype or model.dtype
        self._model = model
        self._tokenizer = tokenizer

    async def begin(self, label: str) -> None:
        """Write the whole model folder, whose weights have this label."""
        await self._once(label, self.write_model)

    async def prepare(self, label: str) -> None:
        """Write the weights in place of those in the folder."""
        await self._once(label, self._write_weights)

    async def move(self, replica: Replica, label: str) -> None:
        """Let the server read them."""
        await replica.control.load(replica, self.folder, label)

    @asynccontextmanager
    async def holding(self, label: str) -> AsyncIterator[None]:
        """Let nobody write other files."""
        async with in_turn(self._turn, is_shared=True):
            if not self._holds(label):
                raise ReplicaLost("another process has written newer weights, which this one will have soon")
            yield

    def forget(self, replica: Replica) -> None:
        """Nothing was agreed."""

    async def _once(self, label: str, write: Callable[[], None]) -> None:
        if self._holds(label):
            return
        async with in_turn(self._turn):
            if self._holds(label):
                return
            self._label.unlink(missing_ok=True)  # a process that dies on the way leaves files of no label
            await asyncio.to_thread(write)
            write_atomically(self._label, label)

    def _holds(self, label: str) -> bool:
        """True where the files are whole and have this label."""
        try:
            return self._label.read_text(encoding="utf-8") == label
        except FileNotFoundError:
            return False

    def write_model(self) -> None:
        """Write the whole model folder."""
        inner = beneath(self._model)
        inner.config.architectures = [type(inner).__name__]
        inner.config.save_pretrained(self.folder)
        if (generation := getattr(inner, "generation_config", None)) is not None:
            generation.save_pretrained(self.folder)
        self._tokenizer.save_pretrained(self.folder)
        self._write_weights()

    def _write_weights(self) -> None:
        draft = self.folder.with_name(f"{self.folder.name}.incoming")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        shard: dict[str, torch.Tensor] = {}
        size = number = 0
        for name, weight in plain_weights(self._model):
            shard[name] = weight.detach().to(self._dtype).cpu().contiguous()
            size += shard[name].nbytes
            if size >= SHARD_BYTES:
                save_file(shard, draft / f"model-{number:05}.safetensors", metadata={"format": "pt"})
                shard, size, number = {}, 0, number + 1
        if shard:
            save_file(shard, draft / f"model-{number:05}.safetensors", metadata={"format": "pt"})
        for old in (*self.folder.glob("*.safetensors"), *self.folder.glob("*.safetensors.index.json")):
            old.unlink()
        for file in draft.iterdir():
            file.rename(self.folder / file.name)
        draft.rmdir()


class Sender(Protocol):
    """The trainer's end of one connection to a server's workers."""

    id: bytes
    """Bytes that the workers need in order to join."""

    def join(self) -> None:
        """Wait until the workers have joined."""
        ...

    def send(self, tensors: list[torch.Tensor]) -> None:
        """Send tensors, one after another, to all workers."""
        ...


class NCCLSender:
    """A group of NCCL with this process as rank 0, from torch alone. Not run: there was no GPU to run it on."""

    def __init__(self, world_size: int) -> None:
        from torch.cuda import nccl

        self._nccl: Any = nccl
        self._world_size = world_size
        self._group: Any = None
        self.id = bytes(self._nccl.unique_id())

    def join(self) -> None:
        """Wait until the workers have joined."""
        self._group = self._nccl.init_rank(self._world_size, self.id, 0)

    def send(self, tensors: list[torch.Tensor]) -> None:
        """Send tensors, one after another, to all workers."""
        for tensor in tensors:
            self._nccl.broadcast([tensor.cuda().contiguous()], 0, comms=[self._group])
        torch.cuda.synchronize()


class OverNCCL:
    """Weights over the network of the GPUs, in vLLM's four phases; each server has a group of its own."""

    reads_model = True

    def __init__(
        self,
        model: CausalLM,
        make_sender: Callable[[int], Sender] = NCCLSender,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Weights are sent in `dtype`, the server's precision; None stands for the model's."""
        self._model = model
        self._dtype = dtype or model.dtype
        self._make_sender = make_sender
        self._senders: dict[str, Sender] = {}
        self._one = asyncio.Lock()

    async def prepare(self, label: str) -> None:
        """Nothing to write."""

    def holding(self, label: str) -> AbstractAsyncContextManager[None]:
        """Nothing to keep."""
        return nullcontext()

    async def move(self, replica: Replica, label: str) -> None:
        """Start, send while the server receives, finish under the label."""
        async with self._one:
            if replica.name not in self._senders:
                await self._join(replica)
            sender = self._senders[replica.name]
            weights = dict(plain_weights(self._model))
            if not await replica.is_taken("/start_weight_update"):  # one that never finished is still open
                await replica.is_taken("/finish_weight_update")
                await replica.post("/start_weight_update")
            info = {
                "names": list(weights),
                "dtype_names": [str(self._dtype).removeprefix("torch.")] * len(weights),
                "shapes": [list(weight.shape) for weight in weights.values()],
            }
            receiving = asyncio.create_task(replica.post("/update_weights", {"update_info": info}))
            sending = asyncio.create_task(asyncio.to_thread(self._send, sender, list(weights.values())))
            try:
                # The server may refuse before it receives anything, which must not leave us sending to nobody.
                await asyncio.wait((receiving, sending), return_when=asyncio.FIRST_EXCEPTION)
                if receiving.done():
                    receiving.result()
                await sending
                await receiving
            except BaseException:
                self.forget(replica)
                receiving.cancel()
                raise
            await replica.post("/finish_weight_update", {"weight_version": label})

    def forget(self, replica: Replica) -> None:
        """The group ends with the server."""
        self._senders.pop(replica.name, None)

    async def _join(self, replica: Replica) -> None:
        """Make a group with a server, which may still be in one with a trainer that is gone."""
        if (await replica.get("/is_paused"))["is_paused"]:
            await replica.is_taken("/finish_weight_update")  # under no label: it stays paused, and is overwritten
        await replica.is_taken("/shutdown_weight_transfer_engine")
        world_size = 1 + int((await replica.get("/get_world_size"))["world_size"])
        sender = self._make_sender(world_size)
        init = {
            "nccl_unique_id_b64": base64.b64encode(sender.id).decode(),
            "rank_offset": 1,
            "world_size": world_size,
            "packed": False,
        }
        joining = asyncio.create_task(asyncio.to_thread(sender.join))
        await replica.post("/init_weight_transfer_engine", {"init_info": init})
        await joining
        self._senders[replica.name] = sender

    def _send(self, sender: Sender, weights: list[torch.Tensor]) -> None:
        for weight in weights:  # one by one: no second copy of all of them is made
            sender.send([weight.detach().to(self._dtype)])
