"""A round of RL on GPUs that are not here: memory of each, time of each part, and what to change where it does not fit.

Times are `max(bytes / bandwidth, operations / rate)` over the share of the chip's limits that is reached; the formulas
stand beside each function and in docs/scaling.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from thor_tir.app import memory
from thor_tir.app.chips import A_HOST, CHIPS, NETWORK, Chip, ClusterOptions
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError
from thor_tir.learner.config import AdapterConfig
from thor_tir.rl.config import RLConfig

DISK = 2e9
"""Bytes a second that a host writes to its disk, or reads from it: one NVMe drive."""
A_CALL = 200
"""Tokens of a repaired call beside the part of its thought that is written again."""
LEFT_FREE = 0.06
"""Share of a GPU's memory that CUDA, the allocator's gaps and NCCL's buffers take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A model as one replica of vLLM decodes it, in bfloat16."""

    size: int
    """Parameters."""
    token_bytes: int
    """Bytes of a token's keys and values."""
    vocabulary: int
    """Tokens of the vocabulary."""
    gpus: int
    """GPUs that hold it together."""
    chip: Chip
    """Their kind."""
    rows: int
    """Most sequences that are decoded together."""
    efficiency: float
    """Share of the chip's limits that is reached."""
    share: float = 0.9
    """Share of a GPU's memory that it fills."""

    @property
    def weights(self) -> int:
        """Bytes of weights on each GPU."""
        return memory.HALF * self.size // self.gpus

    @property
    def logits(self) -> int:
        """Bytes of logits and of their copy while tokens are drawn, on each GPU."""
        return 2 * memory.FULL * self.rows * self.vocabulary // self.gpus

    def cached(self, held: int) -> int:
        """Tokens of the cache where each GPU holds so many further bytes; none where the weights already do not fit."""
        room = self.share * self.chip.memory - held - self.weights - self.logits
        return max(0, int(room * self.gpus / self.token_bytes))

    def step_seconds(self, rows: int, context: int) -> float:
        """One step: weights and the rows' keys and values are read once, and each row is multiplied with the weights.

        max((2 P + B c k) / bandwidth, 2 P B / rate) over the GPUs of a replica.
        """
        read = (memory.HALF * self.size + rows * context * self.token_bytes) / self.chip.bandwidth
        computed = 2 * self.size * rows / self.chip.flops
        return max(read, computed) / (self.gpus * self.efficiency)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """Memory and time of a round."""

    parts: Mapping[str, Mapping[str, int]]
    """Bytes of each part on a GPU, by what the GPU does."""
    chip: Chip
    """Kind of the GPUs."""
    seconds: Mapping[str, float]
    """Seconds of each part of a round."""
    assumed: tuple[str, ...]
    """Sentences that say what the times rest on."""
    rounds: int
    """Rounds of the run."""
    gpus: int
    """GPUs in all."""
    is_ahead: bool = False
    """True where sampling goes on while others train, so that a round takes as long as the longer of both."""

    @property
    def fits(self) -> bool:
        """True where each kind of GPU holds its parts."""
        return all(sum(parts.values()) <= self.chip.memory for parts in self.parts.values())

    def memory_rows(self, role: str) -> list[tuple[str, str]]:
        """The parts on a GPU of this role, their sum and its memory."""
        parts = self.parts[role]
        total = sum(parts.values())
        verdict = "" if total <= self.chip.memory else "  does NOT fit"
        rows = [(name, _gb(size)) for name, size in parts.items()]
        return [*rows, ("together", _gb(total) + verdict), ("the GPU has", _gb(self.chip.memory))]

    @property
    def time_rows(self) -> list[tuple[str, str]]:
        """Seconds of each part of a round, of all, and GPU hours of the run."""
        total = sum(self.seconds.values())
        if self.is_ahead:
            total -= min(self.seconds["training"], total - self.seconds["training"])
        rows = [(name, f"{s:,.0f} s, {s / total:.0%}" if s >= 1 else f"{s:.2f} s") for name, s in self.seconds.items()]
        hours = total * self.rounds / 3600
        run = f"{hours:,.1f} h, {hours * self.gpus:,.0f} GPU hours"
        return [*rows, ("a round", f"{total:,.0f} s"), (f"the run, {self.rounds:,} rounds", run)]


def plan_cluster(
    architecture: Any, rl: RLConfig, cluster: ClusterOptions, engine: EngineOptions, *, prompt: int, limit: int
) -> ClusterPlan:
    """A round of RL: `prompt` and `limit` are the tokens of the longest prompt and response.

    Raises UsageError for GPUs that the run would refuse, or would use in another way.
    """
    if engine.name == "local":  # then it is planned for vLLM as it is meant here
        engine = replace(engine, name="vllm", placement="apart" if cluster.engine_gpus else "colocated")
    _check_places(rl, cluster, engine)
    chip = CHIPS[cluster.gpu]
    shape = memory.Shape.within(rl.micro_batch_tokens, tokens=prompt + limit, trained=limit)
    trained = training_parts(architecture, rl, shape, cluster.learners)
    free = {"CUDA, gaps and buffers": int(LEFT_FREE * chip.memory)}
    pace = pace_of(architecture, rl, cluster, engine, prompt=prompt, limit=limit)
    decoder = pace.decoder
    kept = trained[memory.WEIGHTS] + trained[memory.OPTIMIZER]
    cached = decoder.cached(0)
    sampled = {
        "weights in bfloat16": decoder.weights,
        "logits": decoder.logits,
        f"KV cache: {cached:,} tokens, {cached // (prompt + limit):,} full responses": max(cached, prompt + limit)
        * decoder.token_bytes
        // decoder.gpus,
    }
    if cluster.engine_gpus:
        parts = {"training": trained | free, "sampling": sampled | free}
    else:
        asleep = {"trained weights and moments": kept}
        parts = {"training, vLLM asleep": trained | free, "sampling": asleep | sampled | free}
    assumed = (
        f"responses of {pace.mean:,} tokens in the mean, {limit:,} at most"
        + ("; every problem has a failed call to repair" if pace.repairs else ""),
        f"{pace.at_once:,} sequences decoded together by each of {cluster.replicas:,} replicas",
        f"{cluster.efficiency:.0%} of the limits of {cluster.gpu} ({chip.flops / 1e12:,.0f} TFLOP/s, "
        f"{chip.bandwidth / 1e12:.2f} TB/s), {NETWORK / 1e9:.0f} GB/s between hosts for each GPU",
        *_beside(rl, cluster, engine, decoder.size),
    )
    return ClusterPlan(
        parts=parts,
        chip=chip,
        seconds=pace.seconds,
        assumed=assumed,
        rounds=rl.num_rounds,
        gpus=cluster.gpus,
        is_ahead=rl.max_staleness > 0,
    )


def _check_places(rl: RLConfig, cluster: ClusterOptions, engine: EngineOptions) -> None:
    """Raise UsageError where a run on these GPUs would not do what is planned."""
    learners, is_apart = cluster.learners, cluster.engine_gpus > 0
    if is_apart and engine.placement == "colocated":
        raise UsageError("--cluster.engine-gpus names GPUs that only sample: leave out --engine.placement colocated")
    if not is_apart and engine.placement == "apart":
        raise UsageError(
            "--cluster.engine-gpus 0 lets all GPUs sample and train in turns, which needs --engine.placement colocated"
        )
    if cluster.replicas < learners and is_apart and not (engine.address and engine.weights == "path"):
        raise UsageError(
            f"{learners} processes train together, and {cluster.replicas} engines sample; each process needs one of "
            "its own, or shares one at an --engine.address with weights by path: else --cluster.engine-gpus is at "
            "least half of --cluster.gpus, more with --cluster.tensor-parallel"
        )
    if not is_apart and cluster.tensor_parallel > 1 and learners > 1:
        raise UsageError("colocated servers have a GPU each: --cluster.tensor-parallel needs --cluster.engine-gpus")
    if not is_apart and rl.max_staleness:
        raise UsageError("--max-staleness samples while others train, which needs --cluster.engine-gpus")


def _copies(cluster: ClusterOptions, size: int) -> int:
    """Bytes of weights in bfloat16 that the processes of a host hold, and their servers read, once each."""
    return memory.HALF * size * min(cluster.learners, A_HOST)


def _beside(rl: RLConfig, cluster: ClusterOptions, engine: EngineOptions, size: int) -> Iterator[str]:
    """Sentences on the disk and the memory of a host."""
    written = memory.HALF * size
    if not rl.bf16:
        yield "planned for servers in bfloat16: without --bf16 their weights, keys and values take twice as much"
    if engine.weights == "path":
        yield (
            f"weights by path: {_gb(written)} are written once a host and read by each of its servers each time, at "
            f"{DISK / 1e9:.0f} GB/s, and take {_gb(2 * written)} of its disk for a moment"
        )
    copies = (cluster.learners > 1 or rl.max_staleness > 0) + (engine.placement == "colocated")
    if copies:
        held = _gb(copies * _copies(cluster, size))
        yield (
            f"{held} of the memory of a host of {A_HOST} GPUs hold what servers are given, and what they keep asleep"
        )


def training_parts(architecture: Any, rl: RLConfig, shape: memory.Shape, processes: int) -> dict[str, int]:
    """Bytes of each part of a process that trains, the reference of a KL included."""
    parts = memory.training_memory(architecture, shape, rl, processes=processes)
    return parts | ({"reference": parts[memory.WEIGHTS]} if rl.loss.beta else {})


def remedies(
    rl: RLConfig, cluster: ClusterOptions, plan: Callable[[RLConfig, ClusterOptions], ClusterPlan]
) -> Iterator[str]:
    """The first changes, taken together, that make a plan fit, less those that are not needed; or that none does."""

    def fits(changes: Sequence[Change]) -> bool:
        changed, on = rl, cluster
        for change in changes:
            changed, on = replace(changed, **change.fields), replace(on, **change.gpus)
        return plan(changed, on).fits

    for tried in _changes(rl, cluster):
        if not fits(tried):
            continue
        needed = list(tried)
        for change in reversed(tried[:-1]):
            if fits(fewer := [each for each in needed if each is not change]):
                needed = fewer
        yield f"it fits with {' '.join(change.words for change in needed)}"
        return
    yield "it fits with none of these: more GPUs, shorter responses or a smaller model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing to ask for in another way."""

    words: str
    """Options that ask for it."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Changed fields of the run."""
    gpus: Mapping[str, Any] = field(default_factory=dict)
    """Changed fields of the cluster."""


def _costs_more(now: int, changed: int) -> bool:
    """True where memory is saved: a switch that is not set yet, or a number that is above the changed one."""
    return not now if isinstance(now, bool) else now > changed


def _changes(rl: RLConfig, cluster: ClusterOptions) -> Iterator[Sequence[Change]]:
    """Changes to be tried together, the cheapest first."""
    cheap = [
        change
        for change in (
            Change(words="--bf16", fields={"bf16": True}),
            Change(words="--gradient-checkpointing", fields={"gradient_checkpointing": True}),
            Change(words="--micro-batch-tokens 1024", fields={"micro_batch_tokens": 1024}),
        )
        if any(_costs_more(getattr(rl, name), value) for name, value in change.fields.items())
    ]
    yield from (cheap[: number + 1] for number in range(len(cheap)))
    if not rl.adapters.lora_r:
        words = "--lora-r 32, which trains adapters in place of the model"
        yield [*cheap, Change(words=words, fields={"adapters": AdapterConfig(lora_r=32)})]
    for factor in (2, 4, 8):
        more = {"gpus": factor * cluster.gpus, "engine_gpus": factor * cluster.engine_gpus}
        yield [*cheap, Change(words=f"--cluster.gpus {more['gpus']}", gpus=more)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The speed of a round."""

    decoder: Decoder
    """A replica."""
    at_once: int
    """Sequences that it decodes together."""
    trajectories: int
    """Trajectories of a round."""
    repairs: int
    """Repairs of a round, at most."""
    mean: int
    """Tokens of a mean response."""
    repair: int
    """Tokens of a repair."""
    seconds: Mapping[str, float]
    """Seconds of each part of a round."""


def pace_of(
    architecture: Any, rl: RLConfig, cluster: ClusterOptions, engine: EngineOptions, *, prompt: int, limit: int
) -> Pace:
    """The speed of a round on servers of vLLM, where the longest prompt and response have so many tokens."""
    size, mean = memory.parameters(architecture, rl.adapters), cluster.mean_tokens or limit // 2
    trajectories, repairs = rl.most_samples
    repair = min(limit, rl.step.suffix_tokens + A_CALL)
    decoder = Decoder(
        size=size,
        token_bytes=memory.token_bytes(architecture, memory.HALF),
        vocabulary=architecture.get_text_config().vocab_size,
        gpus=cluster.tensor_parallel,
        chip=CHIPS[cluster.gpu],
        rows=min(engine.max_num_seqs, ceil(trajectories / cluster.replicas)),
        efficiency=cluster.efficiency,
        share=engine.gpu_share,
    )
    at_once = min(decoder.rows, decoder.cached(0) // (prompt + mean))

    def decoded(rows: int, tokens: int, longest: int) -> float:
        """Full batches until the rows are done, and at least the longest of them, alone at the end."""
        together = max(1, min(at_once, ceil(rows / cluster.replicas)))
        steps = rows * tokens / cluster.replicas / together
        context = prompt + tokens // 2
        tail = max(0.0, longest - steps) * decoder.step_seconds(1, prompt + longest)
        return steps * decoder.step_seconds(together, context) + tail

    transfer = transfer_seconds(cluster, size)
    if engine.weights == "path":  # a host writes them once, and each process of it reads them
        transfer = (memory.HALF * size + _copies(cluster, size)) / DISK
    seconds = {
        "trajectories": decoded(trajectories, mean, limit),
        "programs": cluster.tool_seconds,
        "repairs": decoded(repairs, repair, repair) if repairs else 0.0,
        "training": training_seconds(architecture, rl, cluster, size, row=prompt + mean),
        "weights to the engines": transfer,
    }
    return Pace(
        decoder=decoder,
        at_once=at_once,
        trajectories=trajectories,
        repairs=repairs,
        mean=mean,
        repair=repair,
        seconds=seconds,
    )


def training_seconds(architecture: Any, rl: RLConfig, cluster: ClusterOptions, size: int, *, row: int) -> float:
    """Training a round whose rows have so many tokens: what computing takes, or what is sent between GPUs meanwhile."""
    text, chip = architecture.get_text_config(), CHIPS[cluster.gpu]
    width: int = text.num_attention_heads * memory.head_size(architecture)
    passes = (
        (8 if rl.gradient_checkpointing else 6) + 2 * bool(rl.loss.beta) + 2 * bool(rl.loss.importance_sampling_cap)
    )
    trajectories, repairs = rl.most_samples
    tokens = {"joint": trajectories + repairs, "episode": trajectories, "step": repairs}[rl.levels] * row
    attended = passes * text.num_hidden_layers * width * row  # causal: half of 2 products, forward and twice backward
    computed: float = tokens * (passes * size + attended) / (cluster.learners * chip.flops * cluster.efficiency)
    if cluster.learners == 1:
        return computed
    calls = ceil(tokens / cluster.learners / rl.micro_batch_tokens) * rl.updates_per_round
    moved = (memory.HALF if rl.bf16 else memory.FULL) * 2 * size + memory.FULL * size
    return max(computed, calls * moved / (chip.link if cluster.learners <= A_HOST else NETWORK))


def transfer_seconds(cluster: ClusterOptions, size: int) -> float:
    """Weights in bfloat16 on their way to the engines, all of which listen at the same time."""
    return memory.HALF * size / (NETWORK if cluster.gpus > A_HOST else CHIPS[cluster.gpu].link)


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"
