"""The scopes of self-correction: what is cut, what is kept, what a retry reads, and what it all cost."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from scripted_agent import SILENT, agent_of, draft_of, program
from thor_tir.inference.self_correction import RepairCost, Scope, SelfCorrectionConfig, repair_cost, self_correction
from thor_tir.rollout.loop import Agent, RolloutConfig, rollout
from thor_tir.seeds import seed_of
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Author, Trajectory, flatten
from tiny_models import tiny_tokenizer

THOUGHT = "Let us compute the product of both.\n"
FAILING = THOUGHT + program("boom")
RUNS = program("print(1)")
ANSWER = "So the answer is \\boxed{77}."
ERROR = "```output\nNameError: name 'boom' is not defined\n```\n"
L_SUF = 5


def corrected(agent: Agent, limits: RolloutConfig | None = None, **options: Any) -> Trajectory:
    limits = limits or RolloutConfig()
    repair = self_correction(agent, limits, SelfCorrectionConfig(suffix_tokens=L_SUF, **options))
    return asyncio.run(rollout(draft_of(agent), agent, limits, repair))


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer().encode(text, add_special_tokens=False)


def text_of(trajectory: Trajectory) -> str:
    """The response as it stands in the context."""
    ids = [i for step in trajectory.steps for span in step.spans for i in span.token_ids]
    return tiny_tokenizer().decode(ids).removesuffix("<|end|>")


def kept_by(scope: Scope) -> str:
    """What of the thought a retry goes on from, by the definition of each scope; a NameError is a slip of the pen."""
    suffix = tiny_tokenizer().decode(ids_of(THOUGHT)[:-L_SUF])
    return {"action": THOUGHT, "suffix": suffix, "replan": "", "by-error": THOUGHT}[scope]


CUTTING: tuple[Scope, ...] = ("action", "suffix", "replan", "by-error")


@pytest.mark.parametrize("scope", CUTTING)
def test_a_retry_reads_the_context_up_to_the_cut_and_its_call_takes_the_failed_ones_place(scope: Scope):
    again = "So.\n" + RUNS if scope != "action" else RUNS
    agent = agent_of(["A.\n" + RUNS, FAILING, "\n" * (scope == "suffix") + again, ANSWER])
    trajectory = corrected(agent, scope=scope)
    before = agent.policy.asked[1].text
    assert agent.policy.asked[2].text == before + kept_by(scope)
    assert "boom" not in text_of(trajectory)
    assert [step.succeeded for step in trajectory.calls] == [True, True]
    (cut,) = trajectory.steps[1].discarded
    assert kept_by(scope) + cut.thought.text == THOUGHT
    assert repair_cost(trajectory).discarded_tokens == len(ids_of(FAILING)) - len(ids_of(kept_by(scope)))


@pytest.mark.parametrize("scope", CUTTING)
def test_every_token_of_the_context_is_the_sampled_one_and_only_the_environments_are_untrained(scope: Scope):
    agent = agent_of([FAILING, "\n" + RUNS, ANSWER])
    trajectory = corrected(agent, scope=scope)
    flat = flatten((span, True) for span in trajectory.spans)
    assert flat.trained == tuple(author is Author.MODEL for author in flat.authors)
    written = ids_of(kept_by(scope)) + ids_of("\n" + RUNS) + ids_of(ANSWER) + [tiny_tokenizer().eos_token_id]
    assert [i for i, trained in zip(flat.token_ids, flat.trained, strict=True) if trained] == written


@pytest.mark.parametrize("scope", CUTTING)
def test_every_sample_of_an_attempt_draws_from_its_number_retries_included(scope: Scope):
    agent = agent_of([FAILING, "\n" + program("boom(2)"), "\n" + RUNS, ANSWER])
    corrected(agent, scope=scope)
    # the attempt's seed is 0, samples are counted from 1, and each begins with its first completion
    drawn = [seed_of(seed_of(0, number), 0) for number in (1, 2, 3, 4)]
    assert [asked.sampling.seed for asked in agent.policy.asked] == drawn


def test_without_self_correction_there_is_no_repair():
    config = SelfCorrectionConfig(scope="none")
    assert self_correction(agent_of([]), RolloutConfig(), config) is None


def test_recover_takes_nothing_back_and_the_first_failures_in_a_row_cost_no_call():
    agent = agent_of([FAILING, FAILING, FAILING, THOUGHT + RUNS, ANSWER])
    trajectory = corrected(agent, RolloutConfig(max_tool_calling_iterations=2), scope="recover", max_attempts=2)
    # the third failure in a row costs one call, and the success the other
    assert text_of(trajectory) == (FAILING + ERROR) * 3 + THOUGHT + RUNS + "```output\n77\n```\n" + ANSWER
    assert repair_cost(trajectory) == RepairCost(failed=3, recovered=3)


def test_under_none_failures_cost_calls():
    agent = agent_of([FAILING, FAILING, THOUGHT + RUNS, ANSWER])
    corrected(agent, RolloutConfig(max_tool_calling_iterations=2), scope="none")
    assert len(agent.sandbox.ran) == 2


def test_recover_forgives_no_more_than_the_limit_of_the_whole_attempt():
    agent = agent_of([FAILING, THOUGHT + RUNS, FAILING, THOUGHT + RUNS, THOUGHT + RUNS, ANSWER])
    corrected(agent, RolloutConfig(max_tool_calling_iterations=3), scope="recover", max_per_attempt=1)
    assert len(agent.sandbox.ran) == 4


def test_by_error_follows_the_table_of_the_run():
    agent = agent_of([FAILING, "So.\n" + RUNS, ANSWER])
    corrected(agent, scope="by-error", by_error=("NameError=replan",))
    assert agent.policy.asked[1].text == agent.policy.asked[0].text


def test_the_limit_of_one_attempt_is_shared_by_its_failed_calls():
    agent = agent_of([FAILING, "\n" + RUNS, FAILING, "\n" + program("boom"), "\n" + program("boom"), FAILING, ANSWER])
    trajectory = corrected(agent, max_per_attempt=3)
    # one retry repairs the first call, the second call takes the two that are left, the third gets none
    assert [len(step.discarded) for step in trajectory.steps] == [1, 2, 0, 0]
    assert repair_cost(trajectory) == replace(
        RepairCost(failed=3, repaired=1, retries=3, repeats=2, discarded_calls=3),
        discarded_tokens=repair_cost(trajectory).discarded_tokens,
    )


def test_equal_programs_are_counted_and_end_the_retries_of_their_call_where_that_is_asked_for():
    replies = [
        FAILING,
        "\n" + program("boom(2)"),
        "\n" + program("boom"),
        "\n" + program("boom(2)"),
        "\n" + RUNS,
        ANSWER,
    ]
    assert repair_cost(corrected(agent_of(replies))).repeats == 2
    agent = agent_of([*replies[:3], ANSWER])
    trajectory = corrected(agent, stop_at_repeat=True)
    assert repair_cost(trajectory).retries == 2
    assert text_of(trajectory) == FAILING + ERROR + ANSWER


@pytest.mark.parametrize("scope", CUTTING)
def test_a_call_that_is_dropped_leaves_its_thought_as_far_as_it_was_kept(scope: Scope):
    agent = agent_of([FAILING, "\n" + program("boom(2)"), "\n" + ANSWER])
    trajectory = corrected(agent, scope=scope, max_attempts=1, after_all="drop")
    assert text_of(trajectory) == kept_by(scope) + "\n" + ANSWER
    cost = repair_cost(trajectory)
    assert (cost.failed, cost.dropped, cost.retries, cost.discarded_calls) == (1, 1, 1, 2)
    sampled = sum(len(ids_of(text)) for text in (FAILING, "\n" + program("boom(2)"), "\n" + ANSWER)) + 1
    assert trajectory.num_model_tokens == sampled
    assert trajectory_from_json(trajectory_to_json(trajectory)) == trajectory


def test_a_dropped_call_counts_as_made_so_that_an_attempt_ends():
    agent = agent_of([FAILING, *[program("boom")] * 4, ANSWER])
    limits = RolloutConfig(max_tool_calling_iterations=2)
    trajectory = corrected(agent, limits, scope="replan", max_attempts=1, after_all="drop")
    assert len(agent.sandbox.ran) == 4  # two calls of two versions
    assert trajectory.wanted_more_calls
    assert [step.is_dropped for step in trajectory.steps] == [True, True, False, False]


def test_what_follows_a_dropped_call_belongs_to_its_thought():
    # a fence in the middle of the line that was kept is none
    agent = agent_of([FAILING, "\n" + program("boom"), program("print(2)"), RUNS, ANSWER])
    trajectory = corrected(agent, max_attempts=1, after_all="drop")
    assert agent.sandbox.ran == ["boom\n", "boom\n", "print(1)\n"]
    assert trajectory.steps[1].thought.text == program("print(2)")


@pytest.mark.parametrize("scope", CUTTING)
def test_a_hint_stands_before_the_thought_for_one_retry_and_in_nothing_that_is_kept(scope: Scope):
    agent = agent_of([FAILING, "\n" + program(SILENT), "\n" + RUNS, ANSWER])
    trajectory = corrected(agent, scope=scope, hint=True)
    prompt = agent.policy.asked[0].text
    first, second = (f"[a program written here failed: {error}]\n" for error in (ERROR[10:-5], "(no output)"))
    assert [asked.text for asked in agent.policy.asked[1:3]] == [prompt + h + kept_by(scope) for h in (first, second)]
    assert text_of(trajectory) == kept_by(scope) + "\n" + RUNS + "```output\n77\n```\n" + ANSWER
    step = trajectory.steps[0]
    # what was sampled behind a hint has no log-probability in the context that is kept
    assert step.thought.span.logprobs is None
    assert step.action is not None
    assert step.action.span.logprobs is None


def test_retries_may_have_a_temperature_of_their_own():
    agent = agent_of([FAILING, "\n" + RUNS, ANSWER])
    corrected(agent, temperature=1.3)
    assert [asked.sampling.temperature for asked in agent.policy.asked] == [1.0, 1.3, 1.0]


def test_a_cut_at_whole_words_is_the_one_that_the_retry_goes_on_from():
    agent = agent_of([FAILING, " sum.\n" + RUNS, ANSWER])
    corrected(agent, whole_words=True)
    kept = agent.policy.asked[1].text.removeprefix(agent.policy.asked[0].text)
    assert THOUGHT.removeprefix(kept)[:1] in " \n."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"scope": "recover", "hint": True}, "writes no call again"),
        ({"scope": "none", "after_all": "drop"}, "writes no call again"),
        ({"by_error": ("NameError=replan",)}, "give both"),
        ({"scope": "by-error", "by_error": ("NameError",)}, "KIND=action"),
        ({"scope": "by-error", "by_error": ("NameError=by-error",)}, "KIND=action"),
        ({"temperature": -1.0}, "0 or larger"),
        ({"max_per_attempt": -1}, "no negative"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        SelfCorrectionConfig(**options)


def test_another_scope_takes_along_what_it_has_a_use_for():
    base = SelfCorrectionConfig(scope="by-error", by_error=("timeout=action",), hint=True, after_all="drop")
    assert base.under("replan") == SelfCorrectionConfig(scope="replan", hint=True, after_all="drop")
    assert base.under("recover") == SelfCorrectionConfig(scope="recover")
