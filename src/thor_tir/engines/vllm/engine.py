"""vLLM as a `TrainablePolicy`: ids in, ids and log-probabilities out, and weights that a learner moves.

After every update a probe is read by each server and by the model here; what differs ends the run, since a policy that
is not the trained one makes every ratio wrong.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import Path
from types import TracebackType

import torch

from thor_tir.chat_template import sampled_ends
from thor_tir.engines.figures import united
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.engines.vllm.abilities import abilities_of, is_healthy
from thor_tir.engines.vllm.addresses import refuse_two_models
from thor_tir.engines.vllm.connection import Connection, ReplicaLost
from thor_tir.engines.vllm.devices import give_back
from thor_tir.engines.vllm.fleet import PAUSES_S, Fleet
from thor_tir.engines.vllm.kept import end, end_idle, form_of, leave, take
from thor_tir.engines.vllm.probe import Probe, check_alike
from thor_tir.engines.vllm.replica import Counts, Replica, State
from thor_tir.engines.vllm.server import VLLMConfig, VLLMServer
from thor_tir.engines.vllm.token_routes import Answer, Ask
from thor_tir.engines.vllm.weights import ByPath, Way, renew
from thor_tir.errors import EngineFault, UsageError
from thor_tir.pretrained import CausalLM, ModelTokenizer, copy_weights
from thor_tir.storage.journal import JsonObject
from thor_tir.storage.scratch import Scratch, in_turn
from thor_tir.trajectory import Author, Completion, Span

MAX_STARTS = 6
"""Starts of a server within one run; one that keeps dying is given up."""
CHECKED_BYTES = 2 * 2**30
"""Size of the largest model whose weights are compared among servers, digest by digest, at every update."""
_TAKEN: dict[str, str] = {}
"""Addresses that engines of this process put their weights into, with the name of these."""


async def _nothing() -> None:
    pass


def _at_address(address: str, number: int) -> Replica:
    return Replica(key=address, name=f"engine {number} at {address}", connection=Connection(address))


def silent(text: str) -> None:
    """Say nothing."""


class VLLMEngine:
    """A policy on vLLM servers, usable between `async with` and its end, from one event loop.

    The servers are its own, or run at addresses; then their weights are those of this run from the beginning on, and no
    run with other weights may use them at the same time. Engines of several processes that have the same weights under
    the same name of the run may: whichever comes first moves a version, for all.
    """

    def __init__(
        self,
        model: CausalLM,
        tokenizer: ModelTokenizer,
        config: VLLMConfig | None = None,
        *,
        num_replicas: int = 1,
        addresses: Sequence[str] = (),
        devices: Sequence[Sequence[str]] = (),
        anew: Callable[[], Sequence[str]] | None = None,
        way: Way | None = None,
        folder: Path | None = None,
        run: str = "",
        first: int = 0,
        rests: bool = False,
        pauses_s: Sequence[float] = PAUSES_S,
        say: Callable[[str], None] = silent,
    ) -> None:
        """`anew` gives the addresses once more: one that was lost may be elsewhere now, others may have come or gone.

        `devices` are the GPUs of each server; none leaves the choice to the servers. `run` is the name of the weights
        that all versions have in common, by default one of its own, and `first` the number of its first own server.
        """
        self.policy_version = 0
        self._anew, self._say = anew or (lambda: addresses), say
        self._unread = ""
        self._model = model
        self._end_ids = sorted(sampled_ends(model, tokenizer))
        self._run = run or uuid.uuid4().hex[:8]
        self._scratch = Scratch("thor-weights-", folder, name=self._run)
        config = config or VLLMConfig(dtype=str(model.dtype).removeprefix("torch."))
        dtype = getattr(torch, config.dtype, model.dtype)  # "auto" is the model's own
        self._precision = str(dtype).removeprefix("torch.")
        self._files = ByPath(model, tokenizer, self._scratch.path / "model", dtype)
        self._way: Way = way or self._files
        self._rests = rests
        self._probe = Probe(model, len(tokenizer), dtype)
        self._devices = devices
        configs = [config.on(each) for each in devices] or [config] * num_replicas
        self._form = form_of(model)
        servers = [] if addresses else [self._server(each) for each in configs]
        replicas = [
            Replica(key=str(n), name=f"engine {n}", connection=s.connection(), server=s)
            for n, s in enumerate(servers, first)
        ]
        replicas += [_at_address(address, number) for number, address in enumerate(addresses)]
        self._fleet = Fleet(
            replicas,
            look=self._look,
            start=self._start,
            renew=self._renew,
            is_current=self._is_current,
            pauses_s=pauses_s,
            say=say,
        )
        self._max_model_len = 0
        self._claimed: dict[str, str] = {}
        self._is_training = False

    async def __aenter__(self) -> "VLLMEngine":
        """Bring the servers up with the model's weights and compare both. Raises UsageError and EngineFault."""
        try:
            self._claim({each.connection.address for each in self._fleet.replicas if each.server is None})
            await self._files.begin(self._label)
            await end_idle()  # what this engine could not take nobody needs now
            await self._probe.read()
            await self._fleet.open()
            lengths = [each.abilities.max_model_len for each in self._fleet.replicas if each.abilities is not None]
            self._max_model_len = min(lengths)  # for good: no answer is cut short by a server that comes later
            await self._check_alike()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back(set(self._claimed))
        give_back(self._devices)
        await self._fleet.close()
        for replica in self._fleet.replicas:
            if replica.server is not None and self._devices:  # the next stage may need other GPUs
                await end(replica.server)
            elif replica.server is not None:
                await leave(self._form, replica.server)
        self._scratch.cleanup()

    def _server(self, config: VLLMConfig) -> VLLMServer:
        """A server that an earlier stage left, or one that is not started yet."""
        folder = str(self._files.folder)
        server = take(self._form, config)
        if server is None:
            return VLLMServer(folder, config)
        server.model = folder
        return server

    def _claim(self, addresses: set[str]) -> None:
        if both := {address for address in addresses if _TAKEN.get(address, self._run) != self._run}:
            refuse_two_models(min(both))
        for address in addresses:
            _TAKEN[address] = self._run
            self._claimed[address] = self._run

    def _give_back(self, addresses: set[str]) -> None:
        for address in addresses:
            _TAKEN.pop(address, None)
            self._claimed.pop(address, None)

    @property
    def max_model_len(self) -> int:
        """Tokens that a prompt and its completion may have together."""
        return self._max_model_len

    @property
    def server_pids(self) -> list[int | None]:
        """Process ids of the servers that this engine started; None for one that does not run."""
        return [replica.server.pid for replica in self._fleet.replicas if replica.server is not None]

    def take_figures(self) -> Mapping[str, JsonObject]:
        """Requests, losses and prefix hits of each replica since they were last taken, by its address or number."""
        asked = [each for each in self._fleet.replicas if not each.has_left or each.counts != Counts()]
        taken = united([{replica.key: replica.counts.as_json()} for replica in asked])
        for replica in asked:
            replica.counts = Counts()
        return taken

    def attend(self) -> AbstractContextManager[None]:
        """No effect: a server batches requests as they come."""
        return nullcontext()

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue `token_ids`; see `Policy.sample`. A completion also ends, with LENGTH, where the context is full.

        Raises ContextFull, ValueError for ids that are no prompt of this model, RequestFault where a server refuses
        this request, and EngineFault where all keep dying.
        """
        if not token_ids:
            raise ValueError("a prompt has at least one token, found none")
        room = self._max_model_len - len(token_ids)
        if room < 1:
            raise ContextFull(
                f"the prompt has {len(token_ids)} tokens, which fill the context of {self._max_model_len}"
            )
        if min(token_ids) < 0 or max(token_ids) >= self._model.config.vocab_size:
            raise ValueError(f"the prompt has ids outside the model's vocabulary of {self._model.config.vocab_size}")
        ask = Ask(
            id=uuid.uuid4().hex,
            token_ids=token_ids,
            sampling=sampling,
            max_tokens=min(sampling.max_tokens, room),
            end_ids=self._end_ids,
        )
        return self._completion(await self._fleet.ask(ask))

    async def update_weights(self, named_parameters: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Serve these weights, forget the cached prefixes of the old ones, and stamp tokens with `version`.

        The model here takes them over too. Requests in flight keep their tokens and go on under the new weights, where
        the servers say which weights sampled which token; else ValueError is raised while there are any. Raises
        EngineFault where a server's log-probabilities are not those of the model afterwards.
        """
        if any(replica.in_flight and not replica.route.has_labels for replica in self._fleet.replicas):
            raise ValueError(f"{self._fleet.num_active} requests are active; let them finish first")

        async def prepare() -> None:
            copy_weights(named_parameters, self._model)
            self.policy_version = version
            await self._way.prepare(self._label)
            await self._probe.read()
            self._is_training = False

        await self._fleet.renew_all(prepare)
        await self._check_alike()

    async def rest(self) -> None:
        """Let the servers give their memory away until weights are renewed, where they share a device with training."""
        is_free = self._rests and not self._fleet.num_active
        await self._fleet.each(lambda replica: replica.control.sleep(replica) if is_free else _nothing())
        self._is_training = True

    async def _check_alike(self) -> None:
        ready = [replica for replica in self._fleet.replicas if replica.state is State.READY]
        if len(ready) > 1 and sum(weight.nbytes for weight in self._model.parameters()) <= CHECKED_BYTES:
            try:
                await check_alike(ready)
            except ReplicaLost:
                return  # the next request to it finds that out

    async def _start(self, replica: Replica) -> None:
        """Bring a server up, or see whether it is up. Raises ReplicaLost where one at an address is not there."""
        if replica.server is None:
            await self._follow(replica)
        is_up = await is_healthy(replica.connection)
        if replica.server is not None and not (is_up and replica.server.is_alive):
            if replica.server.num_starts >= MAX_STARTS:
                words = replica.server.last_words()
                raise EngineFault(f"the vLLM server died {replica.server.num_starts} times: {words}")
            await replica.server.start()
        elif not is_up:
            raise ReplicaLost(f"nothing answers at {replica.connection.address}")
        self._way.forget(replica)
        replica.abilities = found = await abilities_of(replica.connection)
        if not found.admin:
            raise UsageError(
                f"{replica.name} takes no weights: its administrative routes are closed; start it by `thor engine up`"
            )
        if found.precision not in ("", self._precision):
            raise UsageError(
                f"{replica.name} computes in {found.precision}, and this run in {self._precision}: start it with "
                f"--dtype {self._precision}, or change --bf16 of training, --engine.bf16 elsewhere"
            )
        if (length := found.max_model_len) < self._max_model_len:
            raise UsageError(
                f"{replica.name} has a context of {length} tokens, and this run samples with {self._max_model_len}: "
                f"start it with --max-model-len {self._max_model_len}"
            )

    async def _follow(self, replica: Replica) -> None:
        """Speak to a server at its present address. Raises ReplicaLost where it has none."""
        try:
            named = self._anew()
        except UsageError as error:  # the file of addresses is not there
            raise ReplicaLost(str(error)) from error
        old = replica.connection.address
        if old in named:
            return
        if not (free := [each for each in named if each not in self._addresses]):
            raise ReplicaLost(f"{old} is named no more")
        (address, *_) = free
        self._claim({address})
        self._give_back({old})
        self._way.forget(replica)
        left, replica.connection = replica.connection, Connection(address)
        replica.key, replica.name = address, replica.name.replace(old, address)
        await left.close()

    @property
    def _addresses(self) -> set[str]:
        """The addresses of the servers that are asked, or will be once they are back."""
        return {each.connection.address for each in self._fleet.replicas if not each.has_left}

    def _look(self) -> list[Replica]:
        """The servers that are named since the last look; those that are named no more are let go."""
        try:
            named = self._anew()
        except UsageError as error:  # a file that is being written, or a slip in it
            if str(error) != self._unread:
                self._say(f"the servers stay those that were named: {error}")
            self._unread = str(error)
            return []
        self._unread = ""
        ours = [each for each in self._fleet.replicas if each.server is None and not each.has_left]
        if not ours:
            return []
        fresh = [each for each in named if each not in self._addresses and _TAKEN.get(each, self._run) == self._run]
        for replica in ours:
            if replica.connection.address in named:
                continue
            if replica.state is State.AWAY and fresh:
                fresh.pop(0)  # it is followed there
                continue
            self._fleet.let_go(replica)
            self._give_back({replica.connection.address})
        self._claim(set(fresh))
        first = len(self._fleet.replicas)
        return [_at_address(address, number) for number, address in enumerate(fresh, first)]

    async def _renew(self, replica: Replica) -> None:
        """Give a server the weights in force, and see that it holds them."""
        if self._is_training and self._way.reads_model:
            raise ReplicaLost("the model is being trained")
        if self._rests:
            torch.cuda.empty_cache()  # what training has freed is the server's while it samples
            await replica.control.wake(replica)
        lock = sha256(replica.key.encode()).hexdigest()[:16]
        async with in_turn(self._scratch.path / f"{lock}.turn"):
            await renew(replica, self._way, self._label)
        await self._probe.compare(replica)

    @property
    def _label(self) -> str:
        """The weights in force, as servers name them: no other run's have that name."""
        return f"{self._run}:{self.policy_version}"

    async def _is_current(self, replica: Replica, answer: Answer) -> bool:
        """False for an answer of a server that was started again behind our back."""
        labels = set(answer.labels) or {await replica.control.label(replica)}
        return all(label.startswith(f"{self._run}:") for label in labels)

    def _completion(self, answer: Answer) -> Completion:
        versions = tuple(int(label.partition(":")[2]) for label in answer.labels)
        span = Span(token_ids=answer.token_ids, author=Author.MODEL, logprobs=answer.logprobs)
        return Completion(
            span=span,
            stop=answer.stop,
            policy_version=versions[-1] if versions else self.policy_version,
            versions=versions if len(set(versions)) > 1 else None,
        )
