"""An engine over vLLM's servers out of the options of a run."""

import uuid
from collections.abc import Callable, Sequence

import torch

from thor_tir.distributed import gpus
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.vllm.addresses import addresses_of
from thor_tir.engines.vllm.devices import Host, give_back, take_devices
from thor_tir.engines.vllm.engine import VLLMEngine, silent
from thor_tir.engines.vllm.place import Place
from thor_tir.engines.vllm.server import VLLMConfig, check_environment, python_of
from thor_tir.engines.vllm.weights import OverNCCL
from thor_tir.errors import UsageError
from thor_tir.pretrained import CausalLM, ModelTokenizer, weights_digest


def check_options(options: EngineOptions, place: Place, *, deterministic: bool) -> None:
    """Raise UsageError for options that go together in no run, wherever it runs: vLLM promises no bits, for example."""
    if deterministic:
        raise UsageError("servers do not promise the same bits again: --deterministic needs the engine `local`")
    if options.name == "sglang" and (not options.address or options.weights == "nccl"):
        raise UsageError(
            "--engine.name sglang takes weights by path, at an --engine.address where a server runs already"
        )
    place.check_way(options, addresses_of(options.address))


def check_machine(engines: Sequence[EngineOptions], *, processes: int, trains: bool) -> None:
    """Raise UsageError where these engines, open together, could not start their servers on this machine."""
    taken: list[tuple[str, ...]] = []
    try:
        for options in engines:
            if not options.address:
                check_environment(python_of(options.python))
                host = Host(devices=gpus(), size=processes)
                taken += take_devices(options, host, trains=trains and torch.cuda.is_available())
    finally:
        give_back(taken)


def open_engine(
    model: CausalLM,
    tokenizer: ModelTokenizer,
    options: EngineOptions,
    *,
    deterministic: bool = False,
    barrier: object = None,
    trains: bool = False,
    say: Callable[[str], None] = silent,
) -> VLLMEngine:
    """The engine as the table of engines opens it. Raises UsageError where `check_options` does."""
    place = Place.found()
    check_options(options, place, deterministic=deterministic)
    dtype = torch.bfloat16 if options.bf16 else model.dtype
    precision = str(dtype).removeprefix("torch.")

    def addresses() -> list[str]:
        return place.share(addresses_of(options.address))

    config = VLLMConfig(
        python=python_of(options.python),
        dtype=precision,
        gpu_memory_utilization=options.gpu_share,
        max_num_seqs=options.max_num_seqs,
        num_threads=options.num_threads,
        arguments=tuple(options.arguments.split()),
        sleeps=options.placement == "colocated" and torch.cuda.is_available(),
        takes_nccl=options.weights == "nccl",
    )
    has_gpu = trains and torch.cuda.is_available()
    return VLLMEngine(
        model,
        tokenizer,
        config,
        num_replicas=options.replicas,
        addresses=addresses(),
        devices=[] if options.address else take_devices(options, Host.found(), trains=has_gpu),
        anew=addresses,
        run=place.agreed(uuid.uuid4().hex[:8]) if trains else f"{weights_digest(model)[:16]}-{precision}",
        first=place.rank * options.replicas,
        way=OverNCCL(model, dtype=dtype) if options.weights == "nccl" else None,
        folder=options.folder,
        rests=options.placement == "colocated",
        say=say,
    )
