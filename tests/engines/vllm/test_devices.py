"""GPUs of the servers that a run starts: environments and refusals, on hosts that are made up."""

import asyncio
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import pytest
import torch

from thor_tir.engines.options import EngineOptions
from thor_tir.engines.vllm.devices import Host, give_back, take_devices, tensor_parallel
from thor_tir.engines.vllm.engine import VLLMEngine
from thor_tir.engines.vllm.opening import open_engine
from thor_tir.engines.vllm.server import VLLMConfig, VLLMServer
from thor_tir.errors import UsageError
from tiny_models import tiny_model, tiny_tokenizer

EIGHT = tuple("01234567")


@pytest.fixture
def given() -> Iterator[list[Sequence[Sequence[str]]]]:
    """What a test was given, so that later ones find it free."""
    taken: list[Sequence[Sequence[str]]] = []
    yield taken
    for devices in taken:
        give_back(devices)


def of(placement: Any = "apart", **options: Any) -> EngineOptions:
    return EngineOptions(name="vllm", placement=placement, **options)


@pytest.mark.parametrize(
    ("options", "host", "expected"),
    [
        (of("colocated"), Host(devices=EIGHT, rank=5, size=8), [("5",)]),
        (of("colocated"), Host(devices=("6", "7"), rank=1, size=2), [("7",)]),
        (of("colocated"), Host(devices=("GPU-a",)), [("GPU-a",)]),
        (of("colocated"), Host(devices=("3",), rank=0, size=1), [("3",)]),
        (of("colocated", replicas=2), Host(devices=("4", "5", "6")), [("4",), ("5",)]),
        (of("colocated", replicas=2, arguments="-tp 2"), Host(devices=EIGHT), [("0", "1"), ("2", "3")]),
        (of(replicas=2), Host(devices=EIGHT), [("1",), ("2",)]),
        (of(), Host(devices=EIGHT, rank=3, size=4), [("7",)]),
        (of(arguments="--tensor-parallel-size 2"), Host(devices=EIGHT, rank=1, size=2), [("5", "6")]),
        (of(), Host(devices=()), []),
    ],
)
def test_each_server_has_its_own_gpus(options: EngineOptions, host: Host, expected: object, given: Any) -> None:
    given.append(take_devices(options, host))
    assert given[0] == expected


@pytest.mark.parametrize(
    ("options", "host", "said"),
    [
        (
            of(),
            Host(devices=("0",)),
            "visible: 1, left: 0; share GPUs by --engine.placement colocated, or name .*.address",
        ),
        (of(), Host(devices=EIGHT, rank=2, size=8), "need on this host: 8; visible: 8, left: 0"),
        (of(replicas=3), Host(devices=("0", "1", "2")), "need on this host: 3; visible: 3, left: 2"),
        (of("colocated", replicas=2), Host(devices=EIGHT, rank=0, size=8), "one server on the GPU that it trains on"),
        (of("colocated"), Host(devices=("0",), rank=1, size=2), "need 2 GPUs, and 1 are visible"),
        (of("colocated", replicas=2), Host(devices=("0",)), "take fewer --engine.replicas"),
        (of(arguments="-tp two"), Host(devices=EIGHT), "--engine.arguments '-tp two'"),
    ],
)
def test_too_few_gpus_are_refused_in_a_sentence(options: EngineOptions, host: Host, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        take_devices(options, host)


def test_two_engines_of_a_process_that_does_not_train_share_no_gpu(given: Any) -> None:
    host = Host(devices=("2", "3"))
    given += [take_devices(of(), host, trains=False), take_devices(of(), host, trains=False)]
    assert given == [[("2",)], [("3",)]]
    with pytest.raises(UsageError):
        take_devices(of(), host, trains=False)
    give_back(given[0])
    assert take_devices(of(), host, trains=False) == [("2",)]


def test_the_sizes_of_servers_are_read_from_their_arguments() -> None:
    found = [tensor_parallel(text) for text in ("", "--enforce-eager -tp 4", "--tensor_parallel_size=8 --x y")]
    assert found == [1, 4, 8]


def test_a_host_is_what_launchers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CUDA_VISIBLE_DEVICES": "4, 6", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert Host.found() == Host(devices=("4", "6"), rank=1, size=2)
    for name in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Host.found() == Host(devices=("0", "1"))


def servers(engine: VLLMEngine) -> list[VLLMServer]:
    return [replica.server for replica in engine._fleet.replicas if replica.server is not None]


def test_a_run_hands_each_server_its_gpu_and_the_precision_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = of(replicas=2, bf16=True, gpu_memory_utilization=0.7)
    engine = open_engine(tiny_model(), tiny_tokenizer(), options, trains=True)
    try:
        configs = [server.config for server in servers(engine)]
        assert [config.environment["CUDA_VISIBLE_DEVICES"] for config in configs] == ["3", "5"]
        command = configs[0].command("m", ())
        assert command[command.index("--dtype") + 1] == "bfloat16"
        assert command[command.index("--gpu-memory-utilization") + 1] == "0.7"
        engine._files.write_model()
        assert _stored(engine) == {torch.bfloat16}
    finally:
        asyncio.run(engine.__aexit__(None, None, None))
    again = Host(devices=("2", "3", "5"))
    assert take_devices(options, again) == [("3",), ("5",)]
    give_back([("3",), ("5",)])


def _stored(engine: VLLMEngine) -> set[torch.dtype]:
    from safetensors.torch import load_file

    files = engine._files.folder.glob("*.safetensors")
    return {weight.dtype for file in files for weight in load_file(file).values()}


def test_a_server_is_none_of_the_processes_that_train(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}
    monkeypatch.setattr("subprocess.Popen", lambda command, env, **rest: seen.update(env))
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    server = VLLMServer("m", VLLMConfig().on(("1",)))
    server._popen(BytesIO())
    server.remove()
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"} & seen.keys()
    assert "PATH" in seen


def test_shares_of_memory() -> None:
    assert (of().gpu_share, of("colocated").gpu_share, of(gpu_memory_utilization=0.3).gpu_share) == (0.9, 0.5, 0.3)
    with pytest.raises(ValueError, match="a share above 0"):
        of(gpu_memory_utilization=1.5)
    with pytest.raises(ValueError, match="no two processes of one GPU"):
        of("colocated", weights="nccl")
