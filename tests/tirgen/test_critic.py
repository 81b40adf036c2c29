"""What the critic is shown, and which of its replies are believed."""

import asyncio

import pytest

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, PromptStyle, messages, render
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.tirgen.critic import Critic, CriticConfig, Refusal, Rewriting, kept_share
from tiny_models import tiny_tokenizer

STEP = "The sum of both is 20 + 57 = 77.\n\n"
PROGRAM = "```python\nprint(20 + 57)\n```\n"


def critic_that_says(reply: str, style: PromptStyle = CRITIC, **config) -> tuple[Critic, ScriptedPolicy]:
    policy = ScriptedPolicy(tiny_tokenizer(), [reply])
    return Critic(
        policy=policy, dialect=Dialect(tiny_tokenizer(), DialectConfig(style=style)), config=CriticConfig(**config)
    ), policy


def verdict_on(reply: str, **config) -> Rewriting | Refusal:
    critic, _ = critic_that_says(reply, **config)
    return asyncio.run(critic.rewrite(STEP, seed=3))


def test_the_critic_is_shown_its_instruction_and_the_step_and_nothing_else():
    critic, policy = critic_that_says("NONE")
    asyncio.run(critic.rewrite(STEP, seed=3))
    (asked,) = policy.asked
    assert asked.text == render(tiny_tokenizer(), messages(CRITIC, STEP), is_reasoning=False)
    assert asked.sampling.seed == 3


def test_a_program_after_the_unchanged_words_is_a_rewriting_whose_words_end_a_line():
    found = verdict_on(f"The sum of both is  \n{PROGRAM}")
    assert found == Rewriting(logic="The sum of both is\n", code="print(20 + 57)\n")


def test_what_follows_the_program_is_never_sampled():
    """A predicted output would stand there. The stop string ends the reply before it."""
    found = verdict_on(f"The sum of both is\n{PROGRAM}```output\n78\n```\n")
    assert found == Rewriting(logic="The sum of both is\n", code="print(20 + 57)\n")


@pytest.mark.parametrize("reply", ["NONE", "", "The sum of both is 77, which needs no program."])
def test_a_reply_without_a_fence_means_that_there_is_nothing_to_compute(reply):
    assert verdict_on(reply) is Refusal.NOTHING_TO_COMPUTE


@pytest.mark.parametrize(
    "reply",
    [
        "The sum of both is\n```python\nprint(20 + 57)",  # never closed
        "The sum of both is ```python\nprint(20 + 57)\n```\n",  # the fence is no line of its own
        "The sum of both is\n```python3\nprint(20 + 57)\n```\n",
    ],
)
def test_a_fence_that_makes_no_program_is_a_broken_format(reply):
    assert verdict_on(reply) is Refusal.BROKEN_FORMAT


def test_words_that_are_not_the_steps_own_are_refused():
    assert verdict_on(f"We had better add these numbers up\n{PROGRAM}") is Refusal.CHANGED_WORDS


def test_how_much_must_be_kept_is_configured():
    # "The sum of both is" (18 characters) is kept, ", surely" (8) is new: 18 / 26 = 0.69
    reply = f"The sum of both is, surely\n{PROGRAM}"
    assert verdict_on(reply, min_kept=0.7) is Refusal.CHANGED_WORDS
    assert isinstance(verdict_on(reply, min_kept=0.69), Rewriting)


@pytest.mark.parametrize(
    ("step", "logic", "share"),
    [
        ("abcdef", "abcdef", 1.0),
        ("abcdef", "abc", 1.0),  # leaving out what is computed changes no word
        ("abcdef", "", 1.0),
        ("abcdef", "abcxyz", 0.5),
        ("abcdef", "axbxcx", 0.0),  # runs shorter than three characters are coincidence
        ("abcdef", "  abcdef\n", 1.0),
    ],
)
def test_the_kept_share_counts_runs_of_three_characters(step, logic, share):
    assert kept_share(step, logic) == share


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1, found 1\.5"):
        CriticConfig(min_kept=1.5)
