import asyncio
from dataclasses import replace

import pytest
import torch

from engine_cases import GREEDY, TEXTS, encoded, engine_of, sample_all, tokens
from thor_tir.engines.protocol import Sampling
from thor_tir.trajectory import Completion, StopReason
from tiny_models import tiny_model, tiny_tokenizer


def full_forward_logprobs(model, prompt: list[int], sampled: tuple[int, ...], temperature: float = 1.0) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *sampled]])).logits[0, len(prompt) - 1 : -1].float()
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(sampled)[:, None])[:, 0]


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2"])
def test_greedy_tokens_of_prompts_of_different_lengths_equal_those_of_generate(kind):
    model = tiny_model(kind)
    completions = sample_all(engine_of(model), [(encoded(text), GREEDY) for text in TEXTS])
    for text, completion in zip(TEXTS, completions, strict=True):
        ids = torch.tensor([encoded(text)])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert tokens(completion) == expected[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_logprobs_are_those_of_a_full_forward_at_the_temperature_of_the_request(kind):
    model = tiny_model(kind)
    asks = [(encoded(text), Sampling(max_tokens=30, temperature=0.7, seed=i)) for i, text in enumerate(TEXTS)]
    for (prompt, _), completion in zip(asks, sample_all(engine_of(model), asks), strict=True):
        expected = full_forward_logprobs(model, prompt, completion.span.token_ids, temperature=0.7)
        torch.testing.assert_close(torch.tensor(completion.span.logprobs), expected, atol=1e-4, rtol=0)


def test_a_model_with_eager_attention_gives_the_same_tokens_and_keeps_its_attention():
    model = tiny_model()
    [expected] = sample_all(engine_of(model), [(encoded(TEXTS[0]), GREEDY)])
    model.set_attn_implementation("eager")
    [completion] = sample_all(engine_of(model), [(encoded(TEXTS[0]), GREEDY)])
    assert tokens(completion) == tokens(expected)
    assert model.config._attn_implementation == "eager"


def test_tokens_of_a_request_do_not_depend_on_its_batch_mates_nor_on_when_it_is_admitted():
    asks = [(encoded(TEXTS[i % 4]), Sampling(max_tokens=5 + 7 * (i % 4), seed=i)) for i in range(12)]
    alone = [tokens(sample_all(engine_of(), [ask])[0]) for ask in asks]
    assert [tokens(c) for c in sample_all(engine_of(), asks)] == alone
    # three rows for twelve requests: most are admitted late, into holes that others left
    assert [tokens(c) for c in sample_all(engine_of(max_num_seqs=3), asks)] == alone
    assert [tokens(c) for c in sample_all(engine_of(max_num_seqs=3, prefill_tokens=7), asks[::-1])] == alone[::-1]


def test_one_seed_gives_one_completion_and_other_seeds_give_others():
    prompt = encoded(TEXTS[0])
    completions = sample_all(engine_of(), [(prompt, Sampling(max_tokens=20, seed=seed)) for seed in (1, 1, 2, 3)])
    first, again, second, third = map(tokens, completions)
    assert first == again
    assert len({tuple(first), tuple(second), tuple(third)}) == 3


def test_samples_of_one_prompt_compute_it_once():
    engine = engine_of()
    prompt = encoded(TEXTS[2])
    sample_all(engine, [(prompt, Sampling(max_tokens=4, seed=seed)) for seed in range(6)])
    # the last token of a prompt is decoded, not prefilled; the five others copy what the first computed
    assert engine.stats.prefilled_tokens == len(prompt) - 1
    assert engine.stats.reused_tokens == 5 * (len(prompt) - 1)


def test_continuing_after_a_tool_reuses_the_turn_before_and_equals_a_fresh_run():
    prompt, tool = encoded(TEXTS[0]), encoded("```output\n77\n```\n")
    engine = engine_of()

    async def two_turns() -> tuple[list[int], Completion]:
        async with engine:
            first = await engine.sample(prompt, GREEDY)
            context = [*prompt, *tokens(first), *tool]
            return context, await engine.sample(context, GREEDY)

    context, second = asyncio.run(two_turns())
    # The sampled token that ended the first turn was never fed, so it is computed with the tool's output, less the
    # last token of all, which is decoded.
    assert engine.stats.reused_tokens == len(prompt) + 24 - 1
    assert engine.stats.prefilled_tokens == len(prompt) - 1 + len(tool)
    [fresh] = sample_all(engine_of(), [(context, GREEDY)])
    assert tokens(second) == tokens(fresh)
    assert second.span.logprobs == pytest.approx(fresh.span.logprobs, abs=1e-4)


def test_cutting_back_reuses_what_was_kept_and_equals_a_fresh_run():
    prompt = encoded(TEXTS[0])
    engine = engine_of()

    async def cut_back() -> tuple[list[int], Completion]:
        async with engine:
            first = await engine.sample(prompt, GREEDY)
            prefix = [*prompt, *tokens(first)[:10]]
            return prefix, await engine.sample(prefix, Sampling(max_tokens=24, seed=5))

    prefix, again = asyncio.run(cut_back())
    assert engine.stats.reused_tokens == len(prefix) - 1
    assert engine.stats.prefilled_tokens == len(prompt) - 1
    [fresh] = sample_all(engine_of(), [(prefix, Sampling(max_tokens=24, seed=5))])
    assert tokens(again) == tokens(fresh)


def test_a_long_prompt_in_pieces_equals_one_in_a_single_call():
    prompt = encoded(" ".join(TEXTS))
    assert len(prompt) > 50
    whole, pieces = engine_of(), engine_of(prefill_tokens=10)
    [expected], [completion] = sample_all(whole, [(prompt, GREEDY)]), sample_all(pieces, [(prompt, GREEDY)])
    assert tokens(completion) == tokens(expected)
    # len(prompt) - 1 tokens at most ten a call, and one call for each of the 24 tokens
    assert pieces.stats.forwards == 24 + -(-(len(prompt) - 1) // 10)


def test_sampling_ends_with_the_token_that_completes_a_stop_string():
    prompt = encoded(TEXTS[0])
    [free] = sample_all(engine_of(), [(prompt, Sampling(max_tokens=40, seed=3))])
    pieces = [tiny_tokenizer().decode([token]) for token in tokens(free)]
    # two neighbours that are whole characters: the end of one and the beginning of the next, over a token boundary
    at = next(i for i in range(5, 39) if pieces[i].isascii() and pieces[i + 1].isascii())
    stop = pieces[at][-1] + pieces[at + 1][0]
    count = next(n for n in range(1, 41) if stop in "".join(pieces[:n]))
    [stopped] = sample_all(engine_of(), [(prompt, Sampling(max_tokens=40, seed=3, stop=("never seen", stop)))])
    assert stopped.stop is StopReason.STOP
    assert tokens(stopped) == tokens(free)[:count]
    assert free.stop is StopReason.LENGTH


def test_an_end_of_sequence_token_ends_a_completion_and_is_its_last_token():
    prompt = encoded(TEXTS[0])
    [free] = sample_all(engine_of(), [(prompt, GREEDY)])
    model = tiny_model()
    end = tokens(free)[6]
    model.generation_config.eos_token_id = [1, end]
    [ended] = sample_all(engine_of(model), [(prompt, GREEDY)])
    assert ended.stop is StopReason.END
    assert tokens(ended) == tokens(free)[: tokens(free).index(end) + 1]


def test_a_completion_ends_where_the_context_is_full_and_a_prompt_that_fills_it_is_refused():
    prompt = encoded(TEXTS[0])
    engine = engine_of(max_model_len=len(prompt) + 3)
    [completion] = sample_all(engine, [(prompt, GREEDY)])
    assert (completion.stop, len(completion.span)) == (StopReason.LENGTH, 3)
    with pytest.raises(ValueError, match=f"the prompt has {len(prompt) + 3} tokens"):
        sample_all(engine, [([*prompt, 5, 5, 5], GREEDY)])


def test_ids_outside_the_vocabulary_are_refused_before_they_reach_the_model():
    with pytest.raises(ValueError, match="outside the model's vocabulary of 320"):
        sample_all(engine_of(), [([5, 320], GREEDY)])


def test_changed_weights_leave_nothing_of_the_old_ones_and_stamp_completions():
    prompt = encoded(TEXTS[2])
    model = tiny_model()

    async def run() -> tuple[Completion, Completion]:
        async with engine_of(model) as engine:
            before = await engine.sample(prompt, GREEDY)
            model.load_state_dict(tiny_model(seed=1).state_dict())
            await engine.update_weights((), 7)
            after = await engine.sample([*prompt, *tokens(before)], GREEDY)
            return before, after

    before, after = asyncio.run(run())
    [fresh] = sample_all(engine_of(tiny_model(seed=1)), [([*prompt, *tokens(before)], GREEDY)])
    assert after.span == fresh.span
    assert (before.policy_version, after.policy_version) == (0, 7)


def test_requests_that_are_active_at_an_update_keep_their_tokens_and_go_on_as_the_new_weights_would():
    asks = [(encoded(text), Sampling(max_tokens=20 + 5 * i, seed=i)) for i, text in enumerate(TEXTS)]
    new = dict(tiny_model(seed=1).named_parameters())

    async def run() -> list[Completion]:
        drawn = asyncio.Event()
        told = replace(asks[0][1], heard=lambda token: drawn.set())
        async with engine_of(tiny_model(seed=0), max_num_seqs=3) as engine:  # the fourth waits for a row
            asked = [asyncio.create_task(engine.sample(asks[0][0], told))]
            asked += [asyncio.create_task(engine.sample(*ask)) for ask in asks[1:]]
            await drawn.wait()
            await engine.update_weights(new.items(), 7)
            return list(await asyncio.gather(*asked))

    completions = asyncio.run(run())
    old = sample_all(engine_of(tiny_model(seed=0)), asks)
    assert sum(c.versions is not None for c in completions) >= 2
    for (prompt, _), completion, before in zip(asks, completions, old, strict=True):
        versions = completion.versions or (7,) * len(completion.span)
        assert completion.policy_version == 7
        assert list(versions) == sorted(versions)
        cut = versions.count(0)
        assert tokens(completion)[:cut] == tokens(before)[:cut]
        logprobs = torch.tensor(completion.span.logprobs)
        for model, part in ((tiny_model(seed=0), slice(0, cut)), (tiny_model(seed=1), slice(cut, None))):
            expected = full_forward_logprobs(model, prompt, completion.span.token_ids)
            torch.testing.assert_close(logprobs[part], expected[part], atol=1e-4, rtol=0)


def test_the_model_can_be_trained_after_sampling_and_is_left_in_training_mode():
    model = tiny_model().train()

    async def run() -> None:
        async with engine_of(model) as engine:
            await engine.sample(encoded(TEXTS[0]), GREEDY)
            await asyncio.sleep(0.01)
            assert model.training
            ids = torch.tensor([encoded(TEXTS[0])])
            model(ids, labels=ids).loss.backward()
            assert all(p.grad is not None for p in model.parameters())

    asyncio.run(run())
