"""What a CUDA graph does, on any device: a step is traced once, and its replay knows its tensors and shapes alone."""

from collections.abc import Callable
from typing import Any

from torch.fx.experimental.proxy_tensor import make_fx

from engine_cases import TransformersEngine, tiny_model, tiny_tokenizer
from thor_tir.engines.options import EngineConfig


class TracedRecorder:
    """A `Recorder` whose replays run no line of the step's Python: weights, pool and buffers are baked in."""

    def __init__(self) -> None:
        self.num_recorded = 0

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.num_recorded += 1
        return make_fx(step)()


class RunAgain:
    """A `Recorder` that freezes nothing, for what is not about freezing: it costs no tracing."""

    def __init__(self) -> None:
        self.num_recorded = 0

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.num_recorded += 1
        return step


def captured_engine(model: Any = None, recorder: Any = None, **config: Any) -> TransformersEngine:
    """An engine whose steps are recorded by `recorder`, or run again without one."""
    recorder = recorder or RunAgain()
    return TransformersEngine(
        model or tiny_model(), tiny_tokenizer(), EngineConfig(**config), recorder=lambda: recorder
    )
