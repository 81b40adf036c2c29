"""Algorithm 1 on an actor that thinks first: windows of whole lines, until thinking ends."""

import asyncio
from collections import Counter

import pytest

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.problem import Problem
from thor_tir.tirgen.critic import Critic, CriticConfig
from thor_tir.tirgen.generate import RawSample, ThinkingConfig, TirgenAgents, TirgenConfig, generate
from thor_tir.tirgen.reasoning_actor import think
from thor_tir.trajectory import Finish
from tiny_models import tiny_tokenizer
from told_sandbox import ToldSandbox, printed, raised

PROBLEM = Problem(id="p", question="What is 20 + 57, twice?", answer="154", source="test")
FIRST = "We add: 20 + 57 = 78.\n"
SECOND = "Twice that is 2 * 78 = 156.\n"
FIRST_REWRITTEN = "We add:\n```python\nprint(20 + 57)\n```\n"
SECOND_REWRITTEN = "Twice that is\n```python\nprint(2 * 77)\n```\n"
ANSWER = "</think>The answer is \\boxed{154}."
OUTPUTS = {"print(20 + 57)": printed("77"), "print(2 * 77)": printed("154")}


class Stage:
    """Everything one attempt needs, and what it did with it."""

    def __init__(self, actor: list[str], critic: list[str], **results) -> None:
        tokenizer = tiny_tokenizer()
        self.actor, self.critic = ScriptedPolicy(tokenizer, actor), ScriptedPolicy(tokenizer, critic)
        self.sandbox = ToldSandbox({**OUTPUTS, **results})

    def run(self, *, max_repairs: int = 1, **thinking) -> RawSample:
        tokenizer = tiny_tokenizer()
        critic = Critic(
            policy=self.critic,
            dialect=Dialect(tokenizer, DialectConfig(style=CRITIC)),
            config=CriticConfig(min_kept=0.7),
        )
        dialect = Dialect(tokenizer, DialectConfig(style=NO_TOOLS, is_reasoning=True))
        agents = TirgenAgents(actor=self.actor, dialect=dialect, critic=critic, sandbox=self.sandbox)
        config = TirgenConfig(max_repairs=max_repairs, thinking=ThinkingConfig(**{"min_window_tokens": 1, **thinking}))
        return asyncio.run(generate(PROBLEM, agents, config, id="p/0", seed=5, form=think))


def text_of(sample: RawSample) -> str:
    ids = [token for span in list(sample.trajectory.spans)[1:] for token in span.token_ids]
    return tiny_tokenizer().decode(ids).removesuffix(tiny_tokenizer().eos_token)


def test_the_critic_rewrites_a_whole_window_with_several_programs_and_reads_each_true_output():
    # the actor's turn is cut at </think>; after the rewriting it ends its thinking once more and answers
    stage = Stage(
        [f"<think>{FIRST}{SECOND}{ANSWER}", ANSWER],
        [FIRST_REWRITTEN, SECOND_REWRITTEN, ""],
    )
    sample = stage.run()
    first, second = FIRST_REWRITTEN + "```output\n77\n```\n", SECOND_REWRITTEN + "```output\n154\n```\n"
    assert text_of(sample) == f"<think>{first}{second}{ANSWER}"
    assert stage.critic.asked[1].text.endswith(first)  # it read the true output before it wrote on
    assert sample.critic == Counter({"rewritten": 1})
    assert sample.trajectory.finish is Finish.ENDED
    assert sample.spent["critic calls"] == 3


def test_the_critic_sees_neither_tags_nor_question_nor_the_answer_after_thinking():
    stage = Stage([f"<think>{FIRST}{ANSWER}", ANSWER], [FIRST_REWRITTEN, ""])
    stage.run()
    assert len(stage.actor.asked) == 2
    for asked in stage.critic.asked:
        assert "think>" not in asked.text
        assert "154" not in asked.text
        assert PROBLEM.question not in asked.text


def test_a_window_that_stays_in_words_keeps_its_end_and_the_answer_follows_it():
    stage = Stage([f"<think>{FIRST}{ANSWER}", ANSWER.removeprefix("</think>")], ["NONE"])
    sample = stage.run()
    assert text_of(sample) == f"<think>{FIRST}{ANSWER}"
    assert sample.critic == Counter({"nothing to compute": 1})
    assert len(stage.critic.asked) == 1  # thinking is over: nothing more is refined


def test_what_follows_the_last_whole_line_of_a_window_is_dropped_with_its_rewriting():
    opened = len(tiny_tokenizer().encode(f"<think>{FIRST}Twice th"))
    # "</think>" alone ends the actor's second turn, and leaves the critic nothing to see
    stage = Stage([f"<think>{FIRST}Twice that is 156.", ANSWER, ANSWER.removeprefix("</think>")], [FIRST_REWRITTEN, ""])
    sample = stage.run(window_tokens=opened)
    assert text_of(sample) == f"<think>{FIRST_REWRITTEN}```output\n77\n```\n{ANSWER}"
    assert "Twice" not in stage.critic.asked[0].text


def test_a_short_piece_waits_for_more_before_the_critic_sees_it():
    half = len(tiny_tokenizer().encode(FIRST)) // 2
    stage = Stage([FIRST, FIRST[-5:], SECOND + ANSWER, ANSWER.removeprefix("</think>")], ["NONE"] * 9)
    stage.run(window_tokens=10 * half, min_window_tokens=9 * half)
    assert len(stage.critic.asked) <= 1


def test_a_program_that_fails_makes_the_critic_begin_the_window_again():
    bad = FIRST_REWRITTEN.replace("20", "x")
    stage = Stage(
        [f"<think>{FIRST}{ANSWER}", ANSWER],
        [bad, FIRST_REWRITTEN, ""],
        **{"print(x + 57)": raised()},
    )
    sample = stage.run()
    assert text_of(sample) == f"<think>{FIRST_REWRITTEN}```output\n77\n```\n{ANSWER}"
    assert sample.critic == Counter({"failed: runtime": 1, "rewritten": 1})


def test_a_window_whose_rewriting_changes_its_words_stays_as_it_is():
    changed = FIRST_REWRITTEN.replace("We add", "One had better sum up both numbers")
    stage = Stage([f"<think>{FIRST}{ANSWER}", ANSWER.removeprefix("</think>")], [changed, ""])
    sample = stage.run()
    assert text_of(sample) == f"<think>{FIRST}{ANSWER}"
    assert sample.critic == Counter({"changed words": 1})
    assert len(sample.kept) == 1


def test_windows_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="min_window_tokens <= window_tokens"):
        ThinkingConfig(window_tokens=10, min_window_tokens=11)
