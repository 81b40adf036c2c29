"""Redoing a failed call from inside its thought."""

import asyncio

import pytest

from scripted_agent import agent_of, draft_of, program
from thor_tir.errors import SandboxUnavailable
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.rollout.loop import Agent, RolloutConfig, rollout
from thor_tir.trajectory import Author, Finish, Trajectory
from tiny_models import END, tiny_tokenizer

THOUGHT = "Let us compute the product of both.\n"
ANSWER = "So the answer is \\boxed{77}."
FIRST = "Three are enough.\n" + program("print(3)")
SEEN = "```output\n77\n```\n"


def corrected(
    agent: Agent, *, suffix_tokens: int = 5, max_attempts: int = 4, max_tokens: int = 4096, max_calls: int = 5
) -> Trajectory:
    config = RolloutConfig(max_completion_length=max_tokens, max_tool_calling_iterations=max_calls)
    repair = self_correction(
        agent, config, SelfCorrectionConfig(max_attempts=max_attempts, suffix_tokens=suffix_tokens)
    )
    return asyncio.run(rollout(draft_of(agent), agent, config, repair))


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer().encode(text, add_special_tokens=False)


def text_of(trajectory: Trajectory) -> str:
    return tiny_tokenizer().decode([i for span in trajectory.spans for i in span.token_ids])


def kept_of(thought: str, suffix_tokens: int = 5) -> str:
    return tiny_tokenizer().decode(ids_of(thought)[:-suffix_tokens])


def again(code: str) -> str:
    """A retry as a model writes it: the thought was cut within a line, which must end before a fence."""
    return " both.\n" + program(code)


def test_a_fence_in_the_middle_of_the_kept_line_opens_no_program():
    agent = agent_of([THOUGHT + program("boom"), program("print(1)"), again("print(2)"), ANSWER])
    corrected(agent)
    assert agent.sandbox.ran == ["boom\n", "print(2)\n"]


def test_a_failed_call_is_sampled_again_from_inside_its_thought_and_the_repair_stands_in_the_context():
    agent = agent_of([FIRST, THOUGHT + program("boom"), " a new end.\n" + program("print(1)"), ANSWER])
    trajectory = corrected(agent)
    prompt = tiny_tokenizer().decode(trajectory.prompt.token_ids)
    before = prompt + FIRST + SEEN + kept_of(THOUGHT)
    assert agent.policy.asked[2].text == before
    repaired = before + " a new end.\n" + program("print(1)") + SEEN
    assert agent.policy.asked[3].text == repaired
    assert text_of(trajectory) == repaired + ANSWER + END
    assert trajectory.steps[1].thought.text == kept_of(THOUGHT) + " a new end.\n"
    assert trajectory.steps[1].thought.span.author is Author.MODEL


def test_neither_the_failed_program_nor_its_error_is_shown_to_the_retry():
    agent = agent_of([THOUGHT + program("boom")] * 3 + [again("print(1)"), ANSWER])
    corrected(agent)
    for asked in agent.policy.asked[1:]:
        assert "boom" not in asked.text
        assert "NameError" not in asked.text


def test_a_thought_shorter_than_the_suffix_is_written_anew_and_the_step_before_it_stays():
    agent = agent_of([FIRST, "Now.\n" + program("boom"), "Then.\n" + program("print(1)"), ANSWER])
    trajectory = corrected(agent, suffix_tokens=100)
    assert agent.policy.asked[2].token_ids == agent.policy.asked[1].token_ids
    assert trajectory.steps[1].thought.text == "Then.\n"


@pytest.mark.parametrize("max_attempts", [1, 4])
def test_if_every_attempt_fails_the_first_failure_stays_with_its_observation(max_attempts):
    failures = [THOUGHT + program(f"boom({n})") for n in range(max_attempts + 1)]
    agent = agent_of([*failures, ANSWER])
    trajectory = corrected(agent, max_attempts=max_attempts)
    assert len(agent.sandbox.ran) == 1 + max_attempts
    assert agent.policy.asked[-1].text.endswith(failures[0] + "```output\nNameError: name 'boom' is not defined\n```\n")
    assert trajectory.finish is Finish.ENDED


def test_every_failed_call_has_attempts_of_its_own():
    replies = [THOUGHT + program("boom")] * 3 + [again("print(1)")]  # fails, two repairs fail, the third succeeds
    agent = agent_of([*replies, *replies, ANSWER])
    trajectory = corrected(agent, max_attempts=3)
    assert [step.succeeded for step in trajectory.calls] == [True, True]
    assert [len(step.discarded) for step in trajectory.calls] == [3, 3]


def test_retries_do_not_use_up_the_budget_of_calls():
    agent = agent_of([THOUGHT + program("boom")] * 3 + [again("print(1)"), program("print(2)"), ANSWER])
    trajectory = corrected(agent, max_calls=2)
    assert trajectory.finish is Finish.ENDED
    assert len(agent.sandbox.ran) == 5


def test_an_attempt_without_a_call_is_no_repair():
    agent = agent_of([THOUGHT + program("boom"), ANSWER, again("print(1)"), ANSWER])
    trajectory = corrected(agent)
    assert [step.succeeded for step in trajectory.steps] == [True, False]
    assert len(agent.policy.asked) == 4


def test_every_attempt_has_a_seed_of_its_own():
    agent = agent_of([THOUGHT + program("boom")] * 5 + [ANSWER])
    corrected(agent)
    assert len({asked.sampling.seed for asked in agent.policy.asked}) == 6


def test_an_attempt_may_use_what_the_response_has_left_of_its_tokens():
    failing = THOUGHT + program("boom")
    agent = agent_of([FIRST, failing, again("print(1)"), ANSWER])
    corrected(agent, max_tokens=300)
    kept = len(ids_of(THOUGHT)) - 5
    assert agent.policy.asked[2].sampling.max_tokens == 300 - len(ids_of(FIRST)) - len(ids_of(SEEN)) - kept


def test_what_was_thrown_away_is_counted_once_and_what_was_kept_is_not_thrown_away():
    failing, second, third = THOUGHT + program("boom"), " or.\n" + program("boom"), " so.\n" + program("print(1)")
    trajectory = corrected(agent_of([failing, second, third, ANSWER]))
    # every token the policy ever sampled, the end of the answer included
    assert trajectory.num_model_tokens == sum(len(ids_of(text)) for text in (failing, second, third, ANSWER)) + 1
    assert [step.thought.text for step in trajectory.steps[0].discarded] == [
        THOUGHT.removeprefix(kept_of(THOUGHT)),
        " or.\n",
    ]


def test_the_cost_is_the_same_sum_where_every_attempt_failed():
    failing, second = THOUGHT + program("boom"), " or.\n" + program("boom")
    trajectory = corrected(agent_of([failing, second, ANSWER]), max_attempts=1)
    assert trajectory.num_model_tokens == sum(len(ids_of(text)) for text in (failing, second, ANSWER)) + 1


def test_a_machine_fault_in_an_attempt_is_no_failed_attempt():
    with pytest.raises(SandboxUnavailable):
        corrected(agent_of([THOUGHT + program("boom"), again("offline"), again("print(1)")]))


@pytest.mark.parametrize("config", [{"max_attempts": 0}, {"suffix_tokens": -1}])
def test_no_attempt_or_a_negative_suffix_is_refused(config):
    with pytest.raises(ValueError, match="at least one attempt"):
        SelfCorrectionConfig(**config)
