"""Algorithm 1 with a scripted actor, a scripted critic and a sandbox that was told what programs yield."""

import asyncio
from collections import Counter

import pytest

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.errors import SandboxUnavailable
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.tirgen.critic import Critic, CriticConfig
from thor_tir.tirgen.generate import RawSample, TirgenAgents, TirgenConfig, generate
from thor_tir.trajectory import Author, Finish
from tiny_models import tiny_tokenizer
from told_sandbox import ToldSandbox, printed, raised

PROBLEM = Problem(id="p", question="What is 20 + 57?", answer="77", source="test")
WRONG_SUM = "The sum of both is 20 + 57 = 78.\n\n"  # the actor miscalculates
REWRITTEN = "The sum of both is\n```python\nprint(20 + 57)\n```\n"
PLAN = "First we add the two numbers.\n\n"
ANSWER = "So the answer is \\boxed{77}."


class Set:
    """Everything one attempt needs, and what it did with it."""

    def __init__(self, actor: list[str], critic: list[str], **results: ExecutionResult) -> None:
        tokenizer = tiny_tokenizer()
        self.actor, self.critic = ScriptedPolicy(tokenizer, actor), ScriptedPolicy(tokenizer, critic)
        self.sandbox = ToldSandbox({"print(20 + 57)": printed("77"), **results})
        self.dialect = Dialect(tokenizer, DialectConfig(style=NO_TOOLS))

    def run(self, **config) -> RawSample:
        critic = Critic(
            policy=self.critic,
            dialect=Dialect(tiny_tokenizer(), DialectConfig(style=CRITIC)),
            config=CriticConfig(),
        )
        agents = TirgenAgents(actor=self.actor, dialect=self.dialect, critic=critic, sandbox=self.sandbox)
        return asyncio.run(generate(PROBLEM, agents, TirgenConfig(**config), id="p/0", seed=5))


def text_of(sample: RawSample) -> str:
    ids = [token for span in list(sample.trajectory.spans)[1:] for token in span.token_ids]
    return tiny_tokenizer().decode(ids).removesuffix(tiny_tokenizer().eos_token)


def test_the_true_output_stands_where_the_actor_had_computed_and_the_actor_goes_on_from_it():
    stage = Set([WRONG_SUM, ANSWER], [REWRITTEN, "NONE"])
    sample = stage.run()
    assert text_of(sample) == f"{REWRITTEN}```output\n77\n```\n{ANSWER}"
    assert "78" not in stage.actor.asked[1].text  # the second step was sampled from the revised context
    assert stage.actor.asked[1].text.endswith("```output\n77\n```\n")


def test_the_words_that_a_rewriting_stands_for_are_kept_beside_it_for_people():
    sample = Set([PLAN, WRONG_SUM, WRONG_SUM, ANSWER], ["NONE", REWRITTEN, REWRITTEN, "NONE"]).run()
    assert [(each.step, each.num_steps, each.text) for each in sample.replaced] == [
        (0, 1, WRONG_SUM),  # what the actor wrote, its wrong result among it; the plan before it stays as it is
        (1, 1, WRONG_SUM),
    ]
    assert "78" not in text_of(sample)


def test_an_output_that_the_critic_predicts_is_never_kept():
    stage = Set([WRONG_SUM, ANSWER], [f"{REWRITTEN}```output\n79\n```\n", "NONE"])
    assert text_of(stage.run()) == f"{REWRITTEN}```output\n77\n```\n{ANSWER}"


def test_the_critic_sees_each_step_alone_and_never_the_question_or_what_came_before():
    stage = Set([PLAN, WRONG_SUM, ANSWER], ["NONE", REWRITTEN, "NONE"])
    stage.run()
    for asked, step in zip(stage.critic.asked, [PLAN, WRONG_SUM, ANSWER], strict=True):
        others = {PLAN, WRONG_SUM, ANSWER} - {step}
        assert step.strip() in asked.text
        assert PROBLEM.question not in asked.text
        assert not any(other.strip() in asked.text for other in others)


def test_words_without_a_program_join_the_thought_of_the_next_program():
    sample = Set([PLAN, WRONG_SUM, ANSWER], ["NONE", REWRITTEN, "NONE"]).run()
    first, last = sample.trajectory.steps
    assert first.thought.text == f"{PLAN}The sum of both is\n"
    assert first.action is not None
    assert first.action.code == "print(20 + 57)\n"
    assert last.thought.text == ANSWER
    assert sample.trajectory.finish is Finish.ENDED


def test_the_spans_are_exactly_what_the_actor_read_and_wrote():
    stage = Set([PLAN, WRONG_SUM, ANSWER], ["NONE", REWRITTEN, "NONE"])
    trajectory = stage.run().trajectory
    ids = [token for span in trajectory.spans for token in span.token_ids]
    last = stage.actor.asked[-1].token_ids
    answer = tiny_tokenizer().encode(ANSWER, add_special_tokens=False)
    assert tuple(ids) == (*last, *answer, tiny_tokenizer().eos_token_id)
    authors = [span.author for span in trajectory.spans]
    model, environment = Author.MODEL, Author.ENVIRONMENT
    assert authors == [Author.PROMPT, model, model, environment, model]


def test_a_failing_program_is_asked_for_again_and_the_one_that_works_is_kept():
    bad = REWRITTEN.replace("20", "x")
    stage = Set([WRONG_SUM, ANSWER], [bad, REWRITTEN, "NONE"], **{"print(x + 57)": raised()})
    sample = stage.run(max_repairs=1)
    assert text_of(sample) == f"{REWRITTEN}```output\n77\n```\n{ANSWER}"
    assert sample.critic == Counter({"failed: runtime": 1, "rewritten": 1, "nothing to compute": 1})
    assert len({asked.sampling.seed for asked in stage.critic.asked}) == 3  # the same seed would give the same reply


@pytest.mark.parametrize("max_repairs", [0, 2])
def test_a_step_whose_programs_all_fail_stays_in_the_actors_words(max_repairs):
    bad = REWRITTEN.replace("20", "x")
    stage = Set([WRONG_SUM, ANSWER], [bad] * (1 + max_repairs) + ["NONE"])
    sample = stage.run(max_repairs=max_repairs)
    assert text_of(sample) == WRONG_SUM + ANSWER
    assert len(stage.sandbox.ran) == 1 + max_repairs
    assert sample.critic == Counter({"failed: runtime": 1 + max_repairs, "nothing to compute": 1})


def test_a_program_that_prints_nothing_has_no_result_to_put_in_place():
    silent = ExecutionResult(status=Status.OK_NO_OUTPUT, stdout="", exit_code=0)
    code = REWRITTEN.replace("print(20 + 57)", "20 + 57")
    sample = Set([WRONG_SUM, ANSWER], [code, "NONE"], **{"20 + 57": silent}).run(max_repairs=0)
    assert text_of(sample) == WRONG_SUM + ANSWER
    assert sample.critic["failed: ok_no_output"] == 1


def test_a_reply_that_is_refused_is_not_asked_for_again():
    changed = REWRITTEN.replace("The sum of both is", "We had better add these up")
    broken = REWRITTEN.replace("```python", "```text")
    sample = Set([PLAN, WRONG_SUM, ANSWER], [changed, broken, "", "NONE"]).run(
        max_repairs=3
    )  # "" goes on with the broken one
    assert sample.critic == Counter({"changed words": 1, "broken format": 1, "nothing to compute": 1})
    assert text_of(sample) == PLAN + WRONG_SUM + ANSWER


def test_an_end_of_turn_within_a_rewritten_step_is_dropped_and_the_actor_goes_on():
    ended = WRONG_SUM.strip()  # no blank line: the actor ends its turn with the computation
    sample = Set([ended, ANSWER], [REWRITTEN, "NONE"]).run()
    assert text_of(sample) == f"{REWRITTEN}```output\n77\n```\n{ANSWER}"
    inner = [token for span in sample.trajectory.steps[0].spans for token in span.token_ids]
    assert tiny_tokenizer().eos_token_id not in inner


def test_the_actor_hands_over_at_a_blank_line_or_after_step_tokens():
    stage = Set(["no blank line here", ANSWER], ["NONE"] * 40)
    sample = stage.run(step_tokens=4, max_completion_length=8)
    lengths = [asked.sampling.max_tokens for asked in stage.actor.asked]
    assert lengths == [4, 4]
    assert sample.trajectory.finish is Finish.TOKEN_LIMIT
    assert sum(len(step.thought.span) for step in sample.trajectory.steps) == 8


def test_outputs_count_towards_the_limit_of_tokens():
    long = printed("9" * 60)
    stage = Set([WRONG_SUM, ANSWER], [REWRITTEN, "NONE"], **{"print(20 + 57)": long})
    sample = stage.run(max_completion_length=60)
    assert len(stage.actor.asked) == 1  # words, program and output fill the response
    assert sample.trajectory.finish is Finish.TOKEN_LIMIT


def test_the_number_of_steps_is_limited():
    sample = Set([PLAN] * 9, ["NONE"] * 9).run(max_steps=3)
    assert text_of(sample) == PLAN * 3
    assert sample.trajectory.finish is Finish.TOKEN_LIMIT


def test_a_fault_of_the_sandbox_ends_the_attempt_instead_of_leaving_the_step_in_words():
    def refuse(code: str) -> ExecutionResult:
        raise SandboxUnavailable("gone")

    stage = Set([WRONG_SUM, ANSWER], [REWRITTEN, "NONE"])
    stage.sandbox = ToldSandbox(otherwise=refuse)
    with pytest.raises(SandboxUnavailable):
        stage.run()
    assert stage.actor.attending == 0  # a deterministic engine no longer waits for it


def test_limits_below_one_are_refused():
    with pytest.raises(ValueError, match="limits must be positive"):
        TirgenConfig(step_tokens=0)
