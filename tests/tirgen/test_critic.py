"""What the critic is shown, and which of its replies are believed."""

import asyncio
from dataclasses import fields, replace
from typing import get_type_hints

import pytest

from thor_tir.chat_template import rendered
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, PromptStyle, messages
from thor_tir.engines.protocol import ContextFull
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.tirgen.critic import Compared, Critic, CriticConfig, IsolatedStep, Refusal, Rewriting, compared
from thor_tir.trajectory import Author, Span
from tiny_models import tiny_tokenizer

STEP = "The sum of both is 20 + 57 = 77.\n\n"
PROGRAM = "```python\nprint(20 + 57)\n```\n"


def critic_that_says(*replies: str, style: PromptStyle = CRITIC, **config) -> tuple[Critic, ScriptedPolicy]:
    policy = ScriptedPolicy(tiny_tokenizer(), replies)
    return Critic(
        policy=policy, dialect=Dialect(tiny_tokenizer(), DialectConfig(style=style)), config=CriticConfig(**config)
    ), policy


def verdict_on(*replies: str, **config) -> Rewriting | Refusal:
    critic, _ = critic_that_says(*replies, **config)
    return asyncio.run(critic.rewrite(IsolatedStep(STEP), seed=3)).verdict


def test_the_critic_is_shown_its_instruction_and_the_step_and_nothing_else():
    critic, policy = critic_that_says("NONE")
    asyncio.run(critic.rewrite(IsolatedStep(STEP), seed=3))
    (asked,) = policy.asked
    assert asked.text == rendered(tiny_tokenizer(), messages(CRITIC, STEP))
    assert asked.sampling.seed == 3


def test_a_program_after_the_unchanged_words_is_a_rewriting_whose_words_end_a_line():
    found = verdict_on(f"The sum of both is  \n{PROGRAM}")
    assert found == Rewriting(logic="The sum of both is\n", code="print(20 + 57)\n", kept=1.0)


@pytest.mark.parametrize("blanks", ["", " ", "\n", "   ", "\t", "\n\n"])
@pytest.mark.parametrize("critics", ["", "\n"])
def test_the_blanks_that_a_step_begins_with_stay_whatever_the_critic_begins_with(blanks, critics):
    critic, _ = critic_that_says(f"{critics}The sum of both is\n{PROGRAM}")
    found = asyncio.run(critic.rewrite(IsolatedStep(blanks + STEP), seed=3)).verdict
    assert found == Rewriting(logic=f"{blanks}The sum of both is\n", code="print(20 + 57)\n", kept=1.0)


def test_what_follows_the_program_is_never_sampled():
    """A predicted output would stand there. The stop string ends the reply before it."""
    found = verdict_on(f"The sum of both is\n{PROGRAM}```output\n78\n```\n")
    assert found == Rewriting(logic="The sum of both is\n", code="print(20 + 57)\n", kept=1.0)


@pytest.mark.parametrize("reply", ["NONE", "", "The sum of both is 77, which needs no program."])
def test_a_reply_without_a_fence_means_that_there_is_nothing_to_compute(reply):
    assert verdict_on(reply) is Refusal.NOTHING_TO_COMPUTE


@pytest.mark.parametrize(
    "reply",
    [
        "The sum of both is\n```python\nprint(20 + 57)",  # never closed
        "The sum of both is ```python\nprint(20 + 57)\n```\n",  # the fence is no line of its own
        "The sum of both is\n```\nprint(20 + 57)\n```\n",  # of no language
    ],
)
def test_a_fence_that_makes_no_program_is_a_broken_format(reply):
    assert verdict_on(reply, "", "") is Refusal.BROKEN_FORMAT  # asked on after each fence that closes no program


def test_a_reply_that_came_to_its_limit_within_a_program_is_truncated():
    assert verdict_on(f"The sum of both is\n{PROGRAM}", max_tokens=14) is Refusal.TRUNCATED


def test_words_that_are_not_the_steps_own_are_refused():
    assert verdict_on(f"We had better add these numbers up\n{PROGRAM}") is Refusal.CHANGED_WORDS


def test_an_answer_that_the_step_does_not_state_is_the_critics_own_solution():
    assert verdict_on(f"The sum of both is \\boxed{{77}}\n{PROGRAM}") is Refusal.ADDED_SOLUTION


def test_words_that_go_on_where_the_step_ends_are_the_critics_own_solution():
    reply = "The sum of both is{more}\n" + PROGRAM
    more = " twenty and fifty seven hence we"  # words of 6 + 3 + 5 + 5 + 5 + 2 = 26 characters, 24 are allowed
    assert verdict_on(reply.format(more=more), min_kept=0.3) is Refusal.ADDED_SOLUTION
    assert isinstance(verdict_on(reply.format(more=" twenty"), min_kept=0.3), Rewriting)


def test_a_step_that_fills_the_critics_context_stays_as_it_is():
    class Full:
        async def sample(self, token_ids, sampling):
            raise ContextFull("full")

    critic, _ = critic_that_says("NONE")
    found = asyncio.run(replace(critic, policy=Full()).rewrite(IsolatedStep(STEP), seed=3))
    assert found.verdict is Refusal.STEP_TOO_LONG


def test_how_much_must_be_kept_is_configured():
    # words of "The sum of both is" (14 characters) are kept, "," and "surely" (7) are new: 14 / 21 = 0.667
    reply = f"The sum of both is, surely\n{PROGRAM}"
    assert verdict_on(reply, min_kept=0.67) is Refusal.CHANGED_WORDS
    assert isinstance(verdict_on(reply, min_kept=0.66), Rewriting)


@pytest.mark.parametrize(
    ("step", "logic", "share"),
    [
        ("We add them.", "We add them.", 1.0),
        ("We add them.", "We add", 1.0),  # leaving out what is computed changes no word
        ("We add them.", "", 1.0),
        ("We add them all", "We add some new", 5 / 12),  # "We add" of 5 characters, two words of 7 more
        ("a b c d", "a x c y", 0.0),  # runs shorter than three characters are coincidence
        ("We add them.", "  We add them.\n", 1.0),
    ],
)
def test_the_kept_share_counts_runs_of_whole_words(step, logic, share):
    assert compared(IsolatedStep(step), [logic]).kept == share


def test_words_between_programs_are_compared_together():
    found = compared(IsolatedStep("First a. Then b."), ["First a.", "Then b."])
    assert found == Compared(kept=1.0, kept_before=1.0, added_chars=0, has_new_box=False)


def test_nothing_but_what_the_actor_wrote_can_become_an_isolated_step():
    dialect = Dialect(tiny_tokenizer())
    problem = dialect.prompt("What is 20 + 57?")
    observation = Span(token_ids=dialect.encode("77"), author=Author.ENVIRONMENT)
    for span in (problem, observation):
        with pytest.raises(ValueError, match="not what the"):
            IsolatedStep.of(span, dialect)
    assert IsolatedStep.of(Span(token_ids=dialect.encode(STEP), author=Author.MODEL), dialect) == IsolatedStep(STEP)


def test_a_prompt_of_the_critic_takes_a_step_and_nothing_else():
    for method in (Critic.rewrite, Critic.prompt):
        takes = {name: kind for name, kind in get_type_hints(method).items() if name != "return"}
        assert takes in ({"step": IsolatedStep, "seed": int}, {"step": IsolatedStep})
    assert {field.name for field in fields(Critic)} == {"policy", "dialect", "config"}  # no place to keep more
    assert {field.name for field in fields(IsolatedStep)} == {"text"}


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"min_kept is a share"):
        CriticConfig(min_kept=1.5)


@pytest.mark.parametrize(
    "program",
    [
        "```python\nprint(20 + 57)\n```",  # the closing fence ends the reply
        "```python \nprint(20 + 57)\n``` \n",
        "```py\nprint(20 + 57)\n```\n",
        "```Python\nprint(20 + 57)\n```",
        "  ```python\n  print(20 + 57)\n  ```\n",
        "```python\r\nprint(20 + 57)\r\n```\r\n",
        "~~~python\nprint(20 + 57)\n~~~",
    ],
)
def test_programs_are_read_as_chat_models_write_them(program):
    verdict = verdict_on(f"The sum of both is\n{program}")
    assert isinstance(verdict, Rewriting)
    assert (verdict.logic, verdict.code) == ("The sum of both is\n", "print(20 + 57)\n")


@pytest.mark.parametrize(
    "reply",
    [
        "The sum of both is\n```python\nprint(20 + 57)\n```",  # the turn ends with the fence
        "The sum of both is\n```python \nprint(20 + 57)\n```  \n",
        "The sum of both is\n``` python\nprint(20 + 57)\n```\n",
        "The sum of both is\n```py\nprint(20 + 57)\n```",
        "The sum of both is\n```Python\nprint(20 + 57)\n```\n",
        "The sum of both is\n```PYTHON3\nprint(20 + 57)\n```",
        "The sum of both is\n   ```python\n   print(20 + 57)\n   ```",
        "The sum of both is\n\t```python\n\tprint(20 + 57)\n\t```\n",
        "The sum of both is\r\n```python\r\nprint(20 + 57)\r\n```",
        "The sum\r\nof both is\r\n```py \r\nprint(20 + 57)\r\n```\r\n",
        "The sum of both is\n````python\nprint(20 + 57)\n````\n",
        "The sum of both is\n~~~python\nprint(20 + 57)\n~~~",
        "\nThe sum of both is\n\n```{.python .numberLines}\nprint(20 + 57)\n```",
    ],
)
def test_fences_as_chat_models_write_them_make_a_program_in_the_form_that_is_taught(reply):
    found = verdict_on(reply)
    assert isinstance(found, Rewriting)
    assert found.code == "print(20 + 57)\n"
    assert found.logic.replace("\n", " ") == "The sum of both is "
    assert "\r" not in found.logic


def test_a_fence_of_no_language_before_the_program_ends_no_reply():
    critic, policy = critic_that_says("The sum of both is\n```\n", "20 + 57\n```\n", PROGRAM)
    found = asyncio.run(critic.rewrite(IsolatedStep(STEP), seed=3)).verdict
    assert len(policy.asked) == 3
    assert policy.asked[0].sampling.seed == 3
    assert len({asked.sampling.seed for asked in policy.asked}) == 3  # else the same tokens come again
    assert found is Refusal.CHANGED_WORDS  # the other fence would stand among the words


def test_a_context_that_fills_within_a_reply_truncates_it():
    class Filling(ScriptedPolicy):
        async def sample(self, token_ids, sampling):
            if self.asked:
                raise ContextFull("full")
            return await super().sample(token_ids, sampling)

    critic, _ = critic_that_says("NONE")
    policy = Filling(tiny_tokenizer(), ["The sum of both is\n```\n20 + 57\n```\n"])
    found = asyncio.run(replace(critic, policy=policy).rewrite(IsolatedStep(STEP), seed=3))
    assert found.verdict is Refusal.TRUNCATED
