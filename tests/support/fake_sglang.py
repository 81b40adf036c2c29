"""A server that answers as SGLang's sources say, over the model of a fake vLLM: other routes, the same order."""

from glob import glob
from typing import Any

from safetensors.torch import load_file

from fake_vllm import FakeVLLM


class FakeSGLang(FakeVLLM):
    """One server of SGLang."""

    def handler(self, route: str) -> Any:
        return SGLANG.get(route)

    async def model_info(self, body: Any, query: Any) -> Any:
        return {"weight_version": self.label, "model_path": "somewhere"}

    async def about(self, body: Any, query: Any) -> Any:
        return {"version": "0.5.23"}

    async def pause_generation(self, body: Any, query: Any) -> Any:
        assert body == {"mode": "retract"}
        return await self.pause(body, query)

    async def load_files(self, body: Any, query: Any) -> Any:
        assert self.is_paused
        assert body["flush_cache"]
        for file in sorted(glob(f"{body['model_path']}/*.safetensors")):
            self.load(load_file(file))
        self.label = body["weight_version"]
        self.cached.clear()
        return {"success": not self.keeps_weights, "message": "no such folder"}

    async def draw(self, body: Any, query: Any) -> Any:
        asked = body["sampling_params"]
        if body.get("logprob_start_len") == 0:
            await self._until_resumed()
            rows = self._read(body["input_ids"])[1:]
            read = [[entry["logprob"], int(token), None] for row in rows for token, entry in row.items()]
            return {"output_ids": [0], "meta_info": {"input_token_logprobs": [[None, 0, None], *read]}}
        assert asked["no_stop_trim"]
        assert not asked["skip_special_tokens"]
        settings = {**asked, "max_tokens": asked["max_new_tokens"], "seed": asked["sampling_seed"]}
        drawn = await self._sample(body["input_ids"], settings)
        about = {
            "finish_reason": {"type": drawn["finish"], "matched": drawn["reason"]},
            "output_token_logprobs": [[lp, i, None] for i, lp in zip(drawn["ids"], drawn["logprobs"], strict=True)],
            "cached_tokens": drawn["cached"],
            "weight_version": self.label,
            "weight_versions": drawn["spans"],
        }
        return {"output_ids": drawn["ids"], "meta_info": about}


SGLANG: dict[str, Any] = {
    "/health": FakeVLLM.health,
    "/v1/models": FakeVLLM.models,
    "/model_info": FakeSGLang.model_info,
    "/server_info": FakeSGLang.about,
    "/generate": FakeSGLang.draw,
    "/pause_generation": FakeSGLang.pause_generation,
    "/continue_generation": FakeVLLM.resume,
    "/update_weights_from_disk": FakeSGLang.load_files,
    "/release_memory_occupation": FakeVLLM.sleep,
    "/resume_memory_occupation": FakeVLLM.wake_up,
}
