"""What every engine promises, kept by vLLM on a real server (`make test-vllm`), and what happens when it dies."""

import asyncio
import os
import signal
from collections.abc import Awaitable

import pytest
import torch

from thor_tir.engines.loading import load_model
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.engines.vllm.engine import VLLMEngine
from thor_tir.engines.vllm.server import VLLMConfig
from thor_tir.errors import EngineFault
from thor_tir.trajectory import StopReason

PYTHON = os.environ.get("THOR_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON, reason="THOR_VLLM_PYTHON names no environment with vLLM (make test-vllm makes one)"),
]
QUESTIONS = ("Compute 17 * 3 - 5.", "What is the greatest common divisor of 84 and 36?", "Solve 3*x + 4 = 19.")


@pytest.fixture(scope="module")
def loop() -> object:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def opened(loop: asyncio.AbstractEventLoop) -> object:
    """The embedded actor behind a server, with the model and the tokenizer here. Starting takes most of the time."""
    model, tokenizer = load_model("nano/actor")
    engine = VLLMEngine(model, tokenizer, VLLMConfig(python=PYTHON, num_threads=1))
    loop.run_until_complete(engine.__aenter__())
    yield engine, model, tokenizer
    loop.run_until_complete(engine.__aexit__(None, None, None))


@pytest.fixture
def prompts(opened: tuple) -> list[list[int]]:
    turns = ([{"role": "user", "content": question}] for question in QUESTIONS)
    return [
        opened[2].apply_chat_template(turn, add_generation_prompt=True, tokenize=True, return_dict=False)
        for turn in turns
    ]


def logprobs_of(model, prompt: list[int], ids: tuple[int, ...]) -> list[float]:
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()


def test_greedy_tokens_are_those_of_the_embedded_engine(loop, opened, prompts) -> None:
    engine, model, tokenizer = opened
    greedy = Sampling(max_tokens=32, temperature=0)

    async def both() -> None:
        async with TransformersEngine(model, tokenizer) as ours:
            for prompt in prompts:
                theirs, mine = await asyncio.gather(engine.sample(prompt, greedy), ours.sample(prompt, greedy))
                assert theirs.span.token_ids == mine.span.token_ids

    loop.run_until_complete(both())


def test_log_probabilities_are_the_models_own(loop, opened, prompts) -> None:
    engine, model, _ = opened
    asks = [engine.sample(prompt, Sampling(max_tokens=40, seed=seed)) for seed in range(8) for prompt in prompts]
    for number, completion in enumerate(loop.run_until_complete(gathered(asks))):
        expected = logprobs_of(model, prompts[number % 3], completion.span.token_ids)
        assert completion.span.logprobs == pytest.approx(expected, abs=1e-3)


def test_a_seed_decides_the_tokens_whatever_else_is_in_the_batch(loop, opened, prompts) -> None:
    engine = opened[0]
    alone = loop.run_until_complete(engine.sample(prompts[0], Sampling(max_tokens=24, seed=7)))
    crowd = [engine.sample(prompts[0], Sampling(max_tokens=24, seed=seed)) for seed in range(16)]
    together = loop.run_until_complete(gathered(crowd))
    assert together[7].span.token_ids == alone.span.token_ids
    assert len({completion.span.token_ids for completion in together}) > 8


def test_stop_strings_ends_and_limits_are_told_apart(loop, opened, prompts) -> None:
    engine, _, tokenizer = opened
    stop = "="
    asks = [engine.sample(prompts[2], Sampling(max_tokens=200, seed=seed, stop=(stop,))) for seed in range(24)]
    seen = set()
    for completion in loop.run_until_complete(gathered(asks)):
        text = tokenizer.decode(completion.span.token_ids)
        seen.add(completion.stop)
        if completion.stop is StopReason.STOP:
            assert stop in text
            assert stop not in tokenizer.decode(completion.span.token_ids[:-1])
        elif completion.stop is StopReason.END:
            assert completion.span.token_ids[-1] == tokenizer.eos_token_id
    assert StopReason.STOP in seen
    (limited,) = loop.run_until_complete(gathered([engine.sample(prompts[0], Sampling(max_tokens=3))]))
    assert (limited.stop, len(limited.span)) == (StopReason.LENGTH, 3)


def test_a_full_context_and_foreign_ids_are_refused_and_a_nearly_full_one_ends_by_length(loop, opened) -> None:
    engine, model, _ = opened
    longest = engine.max_model_len
    with pytest.raises(ContextFull):
        loop.run_until_complete(engine.sample([5] * longest, Sampling(max_tokens=1)))
    with pytest.raises(ValueError, match="outside the model's vocabulary"):
        loop.run_until_complete(engine.sample([model.config.vocab_size], Sampling(max_tokens=1)))
    with pytest.raises(ValueError, match="at least one token"):
        loop.run_until_complete(engine.sample([], Sampling(max_tokens=1)))
    last = loop.run_until_complete(engine.sample([5] * (longest - 2), Sampling(max_tokens=50, temperature=0)))
    assert len(last.span) <= 2


def test_new_weights_are_sampled_from_and_stamped(loop, opened, prompts) -> None:
    engine, model, _ = opened
    before = loop.run_until_complete(engine.sample(prompts[0], Sampling(max_tokens=16, seed=1)))
    moved = [(name, weight + 0.02 * torch.randn_like(weight)) for name, weight in model.named_parameters()]
    loop.run_until_complete(engine.update_weights(moved, version=3))
    after = loop.run_until_complete(engine.sample(prompts[0], Sampling(max_tokens=16, seed=1)))
    assert after.policy_version == 3
    assert after.span.logprobs != before.span.logprobs
    expected = logprobs_of(model, prompts[0], after.span.token_ids)
    assert after.span.logprobs == pytest.approx(expected, abs=1e-3)


def test_weights_do_not_change_under_a_request(loop, opened, prompts) -> None:
    engine, model, _ = opened

    async def both() -> None:
        asked = asyncio.create_task(engine.sample(prompts[0], Sampling(max_tokens=100)))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="requests are active"):
            await engine.update_weights(model.named_parameters(), version=9)
        await asked

    loop.run_until_complete(both())


def test_a_server_that_holds_other_weights_ends_the_run_and_the_weight_is_named(loop, opened, monkeypatch) -> None:
    engine, model, _ = opened
    monkeypatch.setattr(engine, "_write_weights", lambda: None)
    norm = next(name for name, _ in model.named_parameters() if "layernorm" in name)
    moved = [(name, weight + 0.5 if name == norm else weight.clone()) for name, weight in model.named_parameters()]
    kept = [(name, weight.clone()) for name, weight in model.named_parameters()]
    with pytest.raises(EngineFault, match=f"does not hold the trained weights.*{norm}"):
        loop.run_until_complete(engine.update_weights(moved, version=4))
    loop.run_until_complete(engine.update_weights(kept, version=5))


def test_a_server_killed_between_and_under_requests_comes_back_with_the_weights_in_force(loop, opened, prompts) -> None:
    engine, model, _ = opened
    moved = [(name, weight + 0.01 * torch.randn_like(weight)) for name, weight in model.named_parameters()]
    loop.run_until_complete(engine.update_weights(moved, version=6))
    sampling = Sampling(max_tokens=60, seed=11)
    expected = loop.run_until_complete(engine.sample(prompts[0], sampling))

    async def killed_meanwhile() -> list:
        asks = [asyncio.create_task(engine.sample(prompts[0], sampling)) for _ in range(8)]
        await asyncio.sleep(0.02)
        os.killpg(engine.server_pid, signal.SIGKILL)
        return await asyncio.gather(*asks)

    for completion in loop.run_until_complete(killed_meanwhile()):
        assert completion.span.token_ids == expected.span.token_ids
        assert completion.span.logprobs == pytest.approx(expected.span.logprobs, abs=1e-3)


async def gathered(asks: list[Awaitable]) -> list:
    return list(await asyncio.gather(*asks))
