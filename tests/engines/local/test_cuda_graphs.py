"""The option `--engine.cuda-graphs`: where it is refused, and the few lines that a GPU alone would run."""

from contextlib import contextmanager
from unittest.mock import create_autospec

import pytest
import torch

from engine_cases import GREEDY, engine_of, sample_all, tokens
from thor_tir.engines.loading import check_engines, open_engine
from thor_tir.engines.local.captured import CudaRecorder
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError
from tiny_models import tiny_model, tiny_tokenizer
from traced_steps import RunAgain, captured_engine


@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
def test_a_model_of_another_family_is_refused(kind) -> None:
    with pytest.raises(UsageError, match=r"knows LlamaForCausalLM, .* is none of them .* leave the option out"):
        captured_engine(tiny_model(kind))


def test_a_step_that_computes_something_else_is_found_out_before_anything_is_sampled(monkeypatch) -> None:
    class Wrong(RunAgain):
        def record(self, step):
            return lambda: None

    with pytest.raises(UsageError, match=r"the captured step's logits differ by 1 from the model's: leave out"):
        captured_engine(tiny_model(), Wrong())


def test_on_a_cpu_the_option_is_refused_and_before_a_run_too() -> None:
    options = EngineOptions(cuda_graphs=True)
    with pytest.raises(UsageError, match=r"--engine\.cuda-graphs needs a GPU with CUDA, and the model is on cpu"):
        open_engine(tiny_model(), tiny_tokenizer(), options, say=print)
    with pytest.raises(UsageError, match=r"--engine\.cuda-graphs needs a GPU with CUDA, and there is none here"):
        check_engines([options])
    check_engines([options], is_here=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cuda_graphs": True, "name": "vllm"}, "vllm has graphs of its own"),
        ({"cache_tokens": 1000}, "the pool of --engine"),
        ({"cache_tokens": 0, "cuda_graphs": True}, "1 or more tokens"),
    ],
)
def test_options_that_go_together_in_no_run_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        EngineOptions(**options)


def test_a_cuda_graph_is_captured_after_a_run_on_a_side_stream_in_memory_that_all_share(monkeypatch) -> None:
    done = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: "Stream") -> None:
            done.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            done.append("replay")

    @contextmanager
    def within(what: str):
        done.append(f"[{what}")
        yield
        done.append(f"{what}]")

    device, main = torch.device("cuda", 1), Stream("main")
    signature = create_autospec(torch.cuda.graph)  # raises TypeError for arguments that the real one does not take

    def graph(captured, **named):
        signature(captured, **named)
        assert isinstance(captured, Graph)
        assert named == {"pool": "memory", "capture_error_mode": "thread_local"}
        return within("capture")

    fakes = {
        "graph_pool_handle": lambda: "memory",
        "device": lambda asked: within(str(asked)),
        "Stream": Stream,
        "current_stream": lambda: main,
        "stream": lambda stream: within(stream.name),
        "CUDAGraph": Graph,
        "graph": graph,
    }
    for name, fake in fakes.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, fake)
    replay = CudaRecorder(device).record(lambda: done.append("step"))
    warmed = ["side waits for main", "[side", "step", "side]", "main waits for side"]
    assert done == ["[cuda:1", *warmed, "[capture", "step", "capture]", "cuda:1]"]
    done.clear()
    replay()
    assert done == ["replay"]


def test_the_option_gives_the_engine_a_recorder_of_cuda_graphs(monkeypatch) -> None:
    devices = []

    def recorder(device):
        devices.append(device)
        return RunAgain()

    monkeypatch.setattr("thor_tir.engines.local.engine.CudaRecorder", recorder)
    options = EngineOptions(cuda_graphs=True, cache_tokens=1000, max_num_seqs=2)
    engine = open_engine(tiny_model(), tiny_tokenizer(), options, say=print)
    assert devices == [torch.device("cpu")]
    assert engine._model.cache.max_tokens == 960
    [found], [expected] = (sample_all(each, [([5, 6], GREEDY)]) for each in (engine, engine_of()))
    assert tokens(found) == tokens(expected)
