"""Runs inside vLLM's worker processes, in vLLM's environment: it imports nothing of this package.

The server is started with this folder on its path and `--worker-extension-cls thor_weights.WeightUpdate`, so that
vLLM's workers gain these methods, which `/collective_rpc` calls by name.
"""

from typing import Any


class WeightUpdate:
    """Methods that vLLM's worker gains; `self` is the worker."""

    model_runner: Any

    def thor_version(self) -> str:
        """The version of this contract: a server that answers has the extension."""
        return "1"

    def thor_reload(self, weights_path: str) -> str:
        """Load the safetensors of a folder in place; returns the names of what had to be packed again.

        On a CPU vLLM multiplies by packed copies. Those of a tied output head are not renewed by vLLM's own reload,
        so that every logit would still come from the old weights.
        """
        self.model_runner.reload_weights(weights_path=weights_path)
        model = self.model_runner.get_model()
        packed = []
        if next(model.parameters()).device.type == "cpu":
            from vllm.model_executor.layers.utils import (  # type: ignore[import-not-found]
                dispatch_cpu_unquantized_gemm,
            )

            for name, module in model.named_modules():
                if (
                    name.rpartition(".")[2] in ("lm_head", "embed_tokens")
                    and getattr(module, "weight", None) is not None
                ):
                    dispatch_cpu_unquantized_gemm(module, remove_weight=False)
                    packed.append(name)
        return ",".join(packed)

    def thor_sums(self) -> dict[str, float]:
        """The sum of every weight that is still there unpacked, by its name in vLLM's model."""
        parameters = self.model_runner.get_model().named_parameters()
        return {name: float(weight.double().sum()) for name, weight in parameters if weight.numel()}
