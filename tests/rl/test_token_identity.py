"""Trained ids are the sampled ids, whatever the tokenizer does to a text on its way there and back."""

import asyncio
import math
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from scripted_agent import FakeSandbox, Recorded, Spelled, draft_of, program
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.rl.samples import episode_row
from thor_tir.rollout.loop import Agent, RolloutConfig, rollout
from tiny_models import tiny_tokenizer


@cache
def lossy_tokenizer() -> Any:
    """One that lower-cases and drops accents as it encodes: no text with either is given back."""
    backend = Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str())
    backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=tiny_tokenizer().eos_token,
        pad_token=tiny_tokenizer().pad_token,
        additional_special_tokens=list(tiny_tokenizer().all_special_tokens),
    )
    tokenizer.chat_template = tiny_tokenizer().chat_template
    return tokenizer


def test_the_tokenizer_of_this_file_is_lossy():
    tokenizer = lossy_tokenizer()
    assert tokenizer.decode(tokenizer.encode("Été", add_special_tokens=False)) == "ete"


TURNS = st.lists(st.sampled_from(["Été: ", "LET US SEE.\n", "Ça, é😀:\n", ""]), min_size=3, max_size=5)


@settings(max_examples=20, deadline=None)
@given(TURNS, st.sampled_from(["print(7 * 11)", "pass"]))
def test_over_three_turns_and_more_trained_ids_are_the_sampled_ids_with_a_tokenizer_that_loses_text(thoughts, code):
    replies = [*(f"{thought}\n{program(code)}" for thought in thoughts), "Voilà \\boxed{77}."]
    # the policy writes letter by letter and keeps case and accents: encoding its text again would give other ids
    policy = Recorded(ScriptedPolicy(Spelled(), replies))
    agent = Agent(policy=policy, sandbox=FakeSandbox(), dialect=Dialect(lossy_tokenizer()))
    trajectory = asyncio.run(rollout(draft_of(agent), agent, RolloutConfig(max_completion_length=2000)))
    assert len(trajectory.calls) == len(thoughts)
    row = episode_row(trajectory, advantage=1.0, nll_weight=0.01, group="g")
    trained = {place: row.token_ids[place] for place, is_trained in enumerate(row.trained) if is_trained}
    assert trained == policy.returned
    assert all(math.isnan(lp) != is_trained for lp, is_trained in zip(row.old_logprobs, row.trained, strict=True))
    again = lossy_tokenizer().encode(lossy_tokenizer().decode(row.token_ids), add_special_tokens=False)
    assert tuple(again) != row.token_ids  # so that the claim could be false
