"""What every engine promises, in one file that all of them pass: the embedded one, the scripted one, vLLM's client over
servers that are fakes of vLLM and of SGLang, and over real vLLM servers (`make test-vllm`)."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fake_sglang import FakeSGLang
from fake_vllm import FakeVLLM
from thor_tir.engines.loading import load_model
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.engines.vllm.engine import VLLMEngine
from thor_tir.engines.vllm.server import VLLMConfig
from thor_tir.errors import EngineFault
from thor_tir.trajectory import Completion, StopReason
from tiny_models import tiny_model, tiny_tokenizer

PYTHON = os.environ.get("THOR_VLLM_PYTHON", "")
REAL = pytest.param(
    "vllm",
    marks=[
        pytest.mark.vllm,
        pytest.mark.skipif(not PYTHON, reason="THOR_VLLM_PYTHON names no environment with vLLM (make test-vllm)"),
    ],
)
TRAINABLE = pytest.mark.parametrize("opened", ["embedded", "fake", "sglang", REAL], indirect=True)
SERVED = pytest.mark.parametrize("opened", ["fake", REAL], indirect=True)
REAL_ALONE = pytest.mark.parametrize("opened", [REAL], indirect=True)
FAKES = {"fake": FakeVLLM, "sglang": FakeSGLang}
QUESTIONS = ("Compute 17 * 3 - 5.", "What is the greatest common divisor of 84 and 36?", "Solve 3*x + 4 = 19.")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An engine in its event loop, with the model that it samples from."""

    engine: Any
    model: Any
    tokenizer: Any
    run: Callable[[Awaitable], Any]
    kill: Callable[[], Awaitable[None]]
    """Ends the first server as SIGKILL does."""
    come_back: Callable[[], Awaitable[None]]
    said: list[str]

    @property
    def prompts(self) -> list[list[int]]:
        turns = ([{"role": "user", "content": question}] for question in QUESTIONS)
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        return [self.tokenizer.apply_chat_template(turn, **options) for turn in turns]

    def sample(self, *asks: tuple[list[int], Sampling]) -> list[Completion]:
        async def all_of_them() -> list[Completion]:
            return list(await asyncio.gather(*(self.engine.sample(*ask) for ask in asks)))

        return self.run(all_of_them())

    def logprobs_of(self, prompt: list[int], ids: tuple[int, ...]) -> list[float]:
        with torch.no_grad():
            logits = self.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float()
        return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()

    def moved(self, by: float = 0.02) -> list[tuple[str, torch.Tensor]]:
        torch.manual_seed(0)
        return [(name, w.detach() + by * torch.randn_like(w)) for name, w in self.model.named_parameters()]


async def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    kind = request.param
    model, tokenizer = load_model("nano/actor") if kind == "vllm" else (tiny_model(seed=1), tiny_tokenizer())
    said: list[str] = []
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()

    async def start() -> tuple[Any, Any, Any]:
        if kind == "embedded":
            return await stack.enter_async_context(TransformersEngine(model, tokenizer)), nothing, nothing
        if kind in FAKES:
            made = [FAKES[kind](tiny_model(seed=2), tokenizer) for _ in range(2)]
            servers = [await stack.enter_async_context(server) for server in made]
            addresses = [server.address for server in servers]
            engine = VLLMEngine(model, tokenizer, addresses=addresses, pauses_s=(0.0, 0.01), say=said.append)
            return await stack.enter_async_context(engine), servers[0].kill, servers[0].start
        config = VLLMConfig(python=PYTHON, num_threads=1, arguments=("--enforce-eager",))
        engine = await stack.enter_async_context(VLLMEngine(model, tokenizer, config, num_replicas=2, say=said.append))

        async def kill() -> None:
            os.kill(engine.server_pids[0], signal.SIGKILL)

        return engine, kill, nothing

    engine, kill, come_back = loop.run_until_complete(start())
    yield Opened(
        engine=engine,
        model=model,
        tokenizer=tokenizer,
        run=loop.run_until_complete,
        kill=kill,
        come_back=come_back,
        said=said,
    )
    loop.run_until_complete(stack.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@TRAINABLE
def test_greedy_tokens_are_the_models_own(opened: Opened) -> None:
    greedy = Sampling(max_tokens=12, temperature=0)
    for prompt, completion in zip(opened.prompts, opened.sample(*((p, greedy) for p in opened.prompts)), strict=True):
        ids = list(prompt)
        for token in completion.span.token_ids:
            with torch.no_grad():
                assert token == int(opened.model(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)


@TRAINABLE
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_of_the_distribution_that_is_sampled_from(opened: Opened, temperature: float) -> None:
    asks = [
        (p, Sampling(max_tokens=12, seed=seed, temperature=temperature)) for seed in range(2) for p in opened.prompts
    ]
    for (prompt, _), completion in zip(asks, opened.sample(*asks), strict=True):
        ids = completion.span.token_ids
        with torch.no_grad():
            logits = opened.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float()
        logp = torch.log_softmax(logits / temperature, -1)
        expected = logp.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
        assert completion.span.logprobs == pytest.approx(expected, abs=1e-3)


@TRAINABLE
def test_a_seed_decides_the_tokens_whatever_else_is_in_the_batch(opened: Opened) -> None:
    prompt = opened.prompts[0]
    (alone,) = opened.sample((prompt, Sampling(max_tokens=12, seed=7)))
    together = opened.sample(*((prompt, Sampling(max_tokens=12, seed=seed)) for seed in range(8)))
    assert together[7].span.token_ids == alone.span.token_ids
    assert len({completion.span.token_ids for completion in together}) > 5


@TRAINABLE
def test_stop_strings_ends_and_limits_are_told_apart(opened: Opened) -> None:
    stop = "="  # a tiny model draws any character sooner or later
    asks = [(opened.prompts[2], Sampling(max_tokens=40, seed=seed, stop=(stop, "e"))) for seed in range(5)]
    seen = set()
    for completion in opened.sample(*asks):
        text = opened.tokenizer.decode(completion.span.token_ids)
        before = opened.tokenizer.decode(completion.span.token_ids[:-1])
        seen.add(completion.stop)
        if completion.stop is StopReason.STOP:
            assert any(s in text and s not in before for s in (stop, "e"))
        elif completion.stop is StopReason.END:
            assert completion.span.token_ids[-1] == opened.tokenizer.eos_token_id
    assert StopReason.STOP in seen
    (limited,) = opened.sample((opened.prompts[0], Sampling(max_tokens=3)))
    assert (limited.stop, len(limited.span)) == (StopReason.LENGTH, 3)


def test_a_script_stops_ends_and_is_limited_in_the_same_way() -> None:
    tokenizer = tiny_tokenizer()
    policy = ScriptedPolicy(tokenizer, ["so x = 3", "so it is", "so it is"])

    async def all_three() -> list[Completion]:
        asks = [Sampling(max_tokens=60, stop=("=",)), Sampling(max_tokens=60), Sampling(max_tokens=3)]
        return [await policy.sample([1], ask) for ask in asks]

    stopped, ended, limited = asyncio.run(all_three())
    assert [each.stop for each in (stopped, ended, limited)] == [StopReason.STOP, StopReason.END, StopReason.LENGTH]
    assert tokenizer.decode(stopped.span.token_ids).endswith("=")
    assert ended.span.token_ids[-1] == tokenizer.eos_token_id
    assert len(limited.span) == 3


@TRAINABLE
def test_a_full_context_and_foreign_ids_are_refused_and_a_nearly_full_one_ends_by_length(opened: Opened) -> None:
    longest = opened.engine.max_model_len
    with pytest.raises(ContextFull):
        opened.sample(([5] * longest, Sampling(max_tokens=1)))
    with pytest.raises(ValueError, match="outside the model's vocabulary"):
        opened.sample(([opened.model.config.vocab_size], Sampling(max_tokens=1)))
    with pytest.raises(ValueError, match="at least one token"):
        opened.sample(([], Sampling(max_tokens=1)))
    (last,) = opened.sample(([5] * (longest - 2), Sampling(max_tokens=50, temperature=0)))
    assert len(last.span) <= 2


@TRAINABLE
def test_new_weights_are_sampled_from_and_stamped(opened: Opened) -> None:
    ask = (opened.prompts[0], Sampling(max_tokens=16, seed=1))
    (before,) = opened.sample(ask)
    opened.run(opened.engine.update_weights(opened.moved(), version=3))
    (after,) = opened.sample(ask)
    assert after.policy_version == 3
    assert after.span.logprobs != before.span.logprobs
    assert after.span.logprobs == pytest.approx(opened.logprobs_of(ask[0], after.span.token_ids), abs=1e-3)


@TRAINABLE
def test_weights_that_come_while_a_request_is_in_flight_are_refused_or_leave_a_version_for_each_token(
    opened: Opened,
) -> None:
    engine, prompt = opened.engine, opened.prompts[0]
    opened.run(engine.update_weights(opened.moved(0.0), version=8))

    async def both() -> Completion:
        asked = asyncio.create_task(engine.sample(prompt, Sampling(max_tokens=120, seed=12)))
        await asyncio.sleep(0.08)
        if asked.done():  # a fast one: nothing is in flight any more
            return await asked
        try:
            await engine.update_weights(opened.moved(0.02), version=9)
        except ValueError as refusal:
            assert "requests are active" in str(refusal)  # noqa: PT017 (one of the two must happen)
        return await asked

    before = {name: weight.detach().clone() for name, weight in opened.model.named_parameters()}
    completion = opened.run(both())
    if completion.versions is None:
        return
    assert set(completion.versions) == {8, 9}
    first = completion.versions.index(9)
    after = opened.logprobs_of(prompt, completion.span.token_ids)
    assert completion.span.logprobs[first + 1 :] == pytest.approx(after[first + 1 :], abs=1e-3)
    with torch.no_grad():
        for name, weight in opened.model.named_parameters():
            weight.copy_(before[name])
    earlier = opened.logprobs_of(prompt, completion.span.token_ids)
    assert completion.span.logprobs[:first] == pytest.approx(earlier[:first], abs=1e-3)
    opened.run(engine.update_weights(opened.moved(0.0), version=10))


@TRAINABLE
def test_a_request_that_is_cancelled_disturbs_no_other(opened: Opened) -> None:
    engine, ask = opened.engine, (opened.prompts[1], Sampling(max_tokens=30, seed=3))

    async def cancelled() -> Completion:
        given_up = [asyncio.create_task(engine.sample(ask[0], Sampling(max_tokens=200, seed=s))) for s in range(2)]
        kept = asyncio.create_task(engine.sample(*ask))
        await asyncio.sleep(0.01)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        return await kept

    disturbed = opened.run(cancelled())
    (alone,) = opened.sample(ask)
    assert disturbed.span.token_ids == alone.span.token_ids
    opened.run(engine.update_weights(opened.moved(0.0), version=11))  # nothing is active any more


@SERVED
def test_servers_tell_a_digest_of_each_weight_which_is_the_same_on_both_and_another_after_an_update(
    opened: Opened,
) -> None:
    async def digests() -> list[Any]:
        return [await replica.control.checksums(replica) for replica in opened.engine._fleet.replicas]

    before = opened.run(digests())
    opened.run(opened.engine.update_weights(opened.moved(0.01), version=5))
    after = opened.run(digests())
    assert before[0] == before[1]
    assert after[0] == after[1]
    assert before[0].keys() == after[0].keys()
    changed = [name for name, digest in after[0].items() if digest != before[0][name]]
    print(f"{len(changed)} of {len(before[0])} digests changed")
    assert changed


@REAL_ALONE
def test_more_prompts_at_once_than_a_server_reads_in_one_step_cost_no_server(opened: Opened) -> None:
    prompts = [[number, *(opened.prompts[0] * 40)[:250]] for number in range(3, 99)]
    opened.engine.take_figures()
    answers = opened.sample(*((prompt, Sampling(max_tokens=4, seed=1)) for prompt in prompts))
    for prompt, answer in list(zip(prompts, answers, strict=True))[::24]:
        assert answer.span.logprobs == pytest.approx(opened.logprobs_of(prompt, answer.span.token_ids), abs=1e-3)
    assert [figures["losses"] for figures in opened.engine.take_figures().values()] == [0, 0]


@SERVED
def test_a_server_killed_under_requests_costs_none_of_them_and_comes_back_with_the_weights_in_force(
    opened: Opened,
) -> None:
    engine = opened.engine
    opened.run(engine.update_weights(opened.moved(0.01), version=6))
    asks = [([*prompt, 7 + n], Sampling(max_tokens=16, seed=n)) for n in range(2) for prompt in opened.prompts]
    expected = opened.sample(*asks)
    engine.take_figures()
    opened.said.clear()

    async def killed_meanwhile() -> list[Completion]:
        tasks = [asyncio.create_task(engine.sample(*ask)) for ask in asks]
        await asyncio.sleep(0.02)
        await opened.kill()
        return list(await asyncio.gather(*tasks))

    for found, own in zip(opened.run(killed_meanwhile()), expected, strict=True):
        assert found.span.token_ids == own.span.token_ids
        assert found.policy_version == 6
    figures = next(iter(engine.take_figures().values()))
    assert (figures["losses"], figures["resent"] > 0) == (1, True)

    async def back() -> None:
        await opened.come_back()
        async with asyncio.timeout(580):
            while not any("is back, with the weights in force" in line for line in opened.said):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    opened.run(back())
    again = [([3, *ids], sampling) for ids, sampling in asks]
    for (prompt, _), completion in zip(again, opened.sample(*again), strict=True):
        assert completion.policy_version == 6
        expected_logprobs = opened.logprobs_of(prompt, completion.span.token_ids)
        assert completion.span.logprobs == pytest.approx(expected_logprobs, abs=1e-3)
    assert next(iter(engine.take_figures().values()))["requests"] > 0


@SERVED
def test_a_server_that_holds_other_weights_ends_the_run_and_the_weight_is_named(opened: Opened, monkeypatch) -> None:
    norm = next(name for name, _ in opened.model.named_parameters() if "layernorm" in name)
    other = [(name, w.detach() + 0.5 if name == norm else w.detach()) for name, w in opened.model.named_parameters()]
    monkeypatch.setattr(opened.engine._files, "_write_weights", lambda: None)
    with pytest.raises(EngineFault, match=f"does not hold the trained weights.*{norm}"):
        opened.run(opened.engine.update_weights(other, version=12))
