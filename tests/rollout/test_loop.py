"""The agent loop: what the model reads at each turn, when a trajectory ends, and what is no data."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from scripted_agent import agent_of, draft_of, program
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import NO_TOOLS
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.errors import EngineFault, SandboxUnavailable
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout, take_step
from thor_tir.seeds import seed_of
from thor_tir.trajectory import Author, Completion, Finish, Step, Trajectory, flatten
from tiny_models import END, tiny_tokenizer

CALL = "Let us compute.\n" + program("print(7 * 11)")
SEEN = "```output\n77\n```\n"
ANSWER = "So the answer is \\boxed{77}."


def run(agent: Agent, draft: Draft | None = None, repair=None, **config) -> Trajectory:
    return asyncio.run(rollout(draft or draft_of(agent), agent, RolloutConfig(**config), repair))


def text_of(trajectory: Trajectory) -> str:
    return tiny_tokenizer().decode([i for span in trajectory.spans for i in span.token_ids])


def size(text: str) -> int:
    return len(tiny_tokenizer().encode(text, add_special_tokens=False))


def test_the_model_thinks_acts_observes_and_answers():
    agent = agent_of([CALL, ANSWER])
    trajectory = run(agent)
    prompt = tiny_tokenizer().decode(trajectory.prompt.token_ids)
    shown = prompt + CALL + "```output\n77\n```\n"
    assert [asked.text for asked in agent.policy.asked] == [prompt, shown]
    assert text_of(trajectory) == shown + ANSWER + END
    assert agent.sandbox.ran == ["print(7 * 11)\n"]
    assert trajectory.finish is Finish.ENDED
    assert [step.succeeded for step in trajectory.steps] == [True, False]
    assert trajectory.response_text == "Let us compute.\n" + ANSWER


def test_a_failed_call_is_observed_and_the_model_goes_on():
    agent = agent_of([program("boom"), ANSWER])
    trajectory = run(agent)
    assert trajectory.steps[0].failed
    assert trajectory.steps[0].observation.text == "NameError: name 'boom' is not defined"
    assert trajectory.finish is Finish.ENDED


NOTICE = "```output\n(not run: no call is left; give the answer without one)\n```\n"


@pytest.mark.parametrize("extra", [1, 2, 3])
def test_programs_beyond_the_budget_are_not_run_and_the_model_reads_so_and_still_answers(extra):
    agent = agent_of([CALL] * (2 + extra) + [ANSWER])
    trajectory = run(agent, max_tool_calling_iterations=2)
    assert len(agent.sandbox.ran) == len(trajectory.calls) == 2
    assert agent.policy.asked[-1].text.endswith(SEEN + (CALL + NOTICE) * extra)
    assert trajectory.finish is Finish.ENDED
    assert trajectory.response_text.endswith(ANSWER)
    assert trajectory.wanted_more_calls
    assert [step.is_refused for step in trajectory.steps] == [False] * 2 + [True] * extra + [False]
    assert not any(step.failed or step.succeeded for step in trajectory.steps if step.is_refused)


def test_the_notice_is_the_environments_and_the_refused_program_the_models():
    trajectory = run(agent_of([CALL, CALL, ANSWER]), max_tool_calling_iterations=1)
    written = [tiny_tokenizer().decode(span.token_ids) for span in trajectory.spans if span.author is Author.MODEL]
    observed = [tiny_tokenizer().decode(s.token_ids) for s in trajectory.spans if s.author is Author.ENVIRONMENT]
    assert "".join(written) == CALL + CALL + ANSWER + END
    assert observed == [SEEN, NOTICE]
    flat = flatten((span, True) for span in trajectory.spans)
    assert [t for t, trained in zip(flat.token_ids, flat.trained, strict=True) if trained] == [
        t for span in trajectory.spans if span.author is Author.MODEL for t in span.token_ids
    ]
    assert list(flat.token_ids) == [t for span in trajectory.spans for t in span.token_ids]


def test_a_model_that_writes_programs_without_end_is_ended_by_the_limit_of_tokens():
    trajectory = run(agent_of([CALL] * 30), max_tool_calling_iterations=1, max_completion_length=400)
    assert (trajectory.finish, len(trajectory.calls)) == (Finish.TOKEN_LIMIT, 1)


def test_a_trajectory_within_its_budget_wanted_no_more_calls():
    assert not run(agent_of([CALL, ANSWER]), max_tool_calling_iterations=1).wanted_more_calls


def test_where_a_run_stops_at_the_budget_one_call_too_many_is_not_run_and_its_tokens_are_kept():
    agent = agent_of([CALL, CALL, CALL])
    trajectory = run(agent, max_tool_calling_iterations=2, at_call_limit="stop")
    assert trajectory.wanted_more_calls
    assert len(agent.sandbox.ran) == 2
    assert trajectory.finish is Finish.CALL_LIMIT
    assert len(trajectory.calls) == 2
    assert trajectory.steps[2].action is None
    assert trajectory.steps[2].thought.text == CALL


def test_without_a_budget_of_calls_no_program_runs():
    agent = agent_of([CALL, ANSWER])
    assert run(agent, max_tool_calling_iterations=0).calls == ()
    assert agent.sandbox.ran == []


def test_the_last_allowed_call_may_still_be_answered():
    assert run(agent_of([CALL, CALL, ANSWER]), max_tool_calling_iterations=2).finish is Finish.ENDED


def test_every_request_may_use_what_the_response_has_left_of_its_tokens_observations_included():
    agent = agent_of([CALL, ANSWER])
    run(agent, max_completion_length=200)
    first, second = (asked.sampling.max_tokens for asked in agent.policy.asked)
    assert (first, second) == (200, 200 - size(CALL) - size("```output\n77\n```\n"))


def test_a_model_out_of_tokens_is_cut_off_in_the_middle_of_its_sentence():
    agent = agent_of([CALL, ANSWER])
    used = size(CALL) + size("```output\n77\n```\n")
    trajectory = run(agent, max_completion_length=used + 3)
    assert trajectory.finish is Finish.TOKEN_LIMIT
    assert trajectory.steps[-1].thought.span.token_ids == tuple(tiny_tokenizer().encode(ANSWER)[:3])


def test_a_program_that_the_limit_cuts_open_is_not_run():
    agent = agent_of([CALL])
    trajectory = run(agent, max_completion_length=size(CALL) - 1)
    assert (trajectory.finish, agent.sandbox.ran) == (Finish.TOKEN_LIMIT, [])


def test_an_observation_that_uses_up_the_tokens_ends_the_trajectory_without_another_request():
    agent = agent_of([CALL])
    trajectory = run(agent, max_completion_length=size(CALL) + 1)
    assert trajectory.finish is Finish.TOKEN_LIMIT
    assert len(agent.policy.asked) == 1
    assert trajectory.steps[-1].succeeded


def test_a_stop_string_that_closes_no_program_does_not_end_the_thought():
    quoted = "A table:\n```text\n1 2\n```\n"
    agent = agent_of([quoted, "and then " + ANSWER])
    trajectory = run(agent, max_completion_length=100)
    assert len(agent.policy.asked) == 2
    assert agent.sandbox.ran == []
    assert [step.thought.text for step in trajectory.steps] == [quoted + "and then " + ANSWER]
    assert [asked.sampling.max_tokens for asked in agent.policy.asked] == [100, 100 - size(quoted)]


def test_a_call_after_fenced_text_that_was_no_program_is_run_and_its_thought_holds_both_pieces():
    quoted = "```output\n5\n```\n"
    agent = agent_of([quoted, CALL, ANSWER])
    trajectory = run(agent)
    assert trajectory.steps[0].thought.text == quoted + "Let us compute.\n"
    assert agent.sandbox.ran == ["print(7 * 11)\n"]


@pytest.mark.parametrize(("stops", "finish", "num_ran"), [(True, Finish.FAILED_CALL, 2), (False, Finish.ENDED, 3)])
def test_a_run_may_stop_at_the_first_failed_call(stops, finish, num_ran):
    agent = agent_of([CALL, program("boom"), CALL, ANSWER])
    trajectory = run(agent, stop_at_failure=stops)
    assert (trajectory.finish, len(agent.sandbox.ran)) == (finish, num_ran)


def seeds(seed: int, replies: list[str]) -> list[int]:
    agent = agent_of(replies)
    run(agent, draft_of(agent, seed=seed))
    return [asked.sampling.seed for asked in agent.policy.asked]


def test_every_sample_of_a_trajectory_has_a_seed_of_its_own_that_depends_on_the_trajectorys_alone():
    # two requests belong to one turn: fenced text that is no program, and what follows it
    replies = ["```text\n1\n```\n", CALL, CALL, ANSWER]
    first, again, other = seeds(1, replies), seeds(1, replies), seeds(2, replies)
    assert first == again
    assert len({*first, *other}) == 8


def test_a_seed_is_the_same_on_every_machine_and_keeps_its_parts_apart():
    # printf '1\x1fa' | b2sum -l 64 says 0d35ca1552f972f7: read from its last byte to its first, less the lowest bit
    assert seed_of(1, "a") == 0xF772F95215CA350D >> 1
    assert seed_of("ab", "c") != seed_of("a", "bc")
    assert seed_of(1, "a") == seed_of("1", "a")


def test_sampling_is_as_the_run_says_and_stops_where_a_program_may_end():
    agent = agent_of([ANSWER])
    run(agent, max_completion_length=50, temperature=0.6, top_p=0.9, top_k=50, fences="exact")
    [asked] = agent.policy.asked
    expected = Sampling(max_tokens=50, temperature=0.6, top_p=0.9, top_k=50, stop=("\n```\n",))
    assert replace(asked.sampling, seed=0) == expected


def test_a_fault_of_the_sandbox_passes_through_and_leaves_no_trajectory_attending():
    agent = agent_of([CALL, program("offline"), ANSWER])
    with pytest.raises(SandboxUnavailable):
        run(agent)
    assert agent.policy.attending == 0


def test_a_fault_of_the_engine_passes_through():
    class Broken:
        attend = agent_of([]).policy.attend

        async def sample(self, token_ids, sampling) -> Completion:
            raise EngineFault("out of memory")

    agent = agent_of([])
    with pytest.raises(EngineFault, match="out of memory"):
        run(replace(agent, policy=Broken()), draft_of(agent))


def test_a_repair_is_asked_for_failed_calls_alone_and_what_it_returns_stands():
    agent = agent_of([CALL, program("boom"), CALL, ANSWER])
    asked: list[tuple[int, Step]] = []

    async def repair(draft: Draft, failed: Step) -> Step:
        asked.append((len(draft.steps), failed))
        return draft.steps[0]

    trajectory = run(agent, repair=repair)
    assert [(place, failed.action.code) for place, failed in asked] == [(1, "boom\n")]
    assert trajectory.steps[1] == trajectory.steps[0]
    assert "boom" not in agent.policy.asked[2].text


def test_what_the_model_sampled_has_logprobs_and_nothing_else_has():
    trajectory = run(agent_of([CALL, ANSWER]))
    for span in trajectory.spans:
        assert (span.logprobs is not None) == (span.author is Author.MODEL)


@pytest.mark.parametrize("config", [{"max_completion_length": 0}, {"max_tool_calling_iterations": -1}])
def test_a_run_without_tokens_or_with_negative_calls_is_refused(config):
    with pytest.raises(ValueError, match="at least one token"):
        RolloutConfig(**config)


@pytest.mark.parametrize("config", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -5}])
def test_what_no_engine_can_draw_is_refused_before_the_first_sample(config):
    with pytest.raises(ValueError, match="temperature >= 0, 0 < top_p <= 1 and top_k >= 0"):
        RolloutConfig(**config)


@pytest.mark.parametrize("code", ["print(7 * 11)", "", "if True:\n    print(77)", "print('```')"])
def test_a_closing_fence_that_ends_the_turn_is_a_call_and_its_newline_is_the_environments(code):
    written = "Let us compute.\n" + program(code)
    agent = agent_of([written.removesuffix("\n"), ANSWER])
    trajectory = run(agent)
    assert agent.sandbox.ran == [f"{code}\n"]
    prompt = tiny_tokenizer().decode(trajectory.prompt.token_ids)
    assert text_of(trajectory) == prompt + written + "```output\n77\n```\n" + ANSWER + END
    flat = flatten((span, True) for span in trajectory.spans)
    trained = [token for token, is_trained in zip(flat.token_ids, flat.trained, strict=True) if is_trained]
    assert tiny_tokenizer().decode(trained) == written.removesuffix("\n") + ANSWER + END


def test_a_failed_call_that_ended_its_turn_is_observed_as_any():
    trajectory = run(agent_of([program("boom").removesuffix("\n"), ANSWER]))
    assert trajectory.steps[0].failed
    assert trajectory.finish is Finish.ENDED


@pytest.mark.parametrize(
    ("fences", "written", "runs"),
    [
        ("exact", "```python \nprint(7)\n```\n", False),
        ("blanks", "```python \nprint(7)\n```\n", True),
        ("blanks", "```python\nprint(7)\n``` \n", True),
        ("blanks", "```py\nprint(7)\n```\n", False),
        ("lenient", "```py\nprint(7)\n```\n", True),
        ("lenient", "  ```python\n  print(7)\n  ```\n", True),
    ],
)
def test_which_lines_are_fences_is_the_runs_choice(fences, written, runs):
    agent = agent_of([f"So:\n{written}", ANSWER])
    trajectory = run(agent, fences=fences)
    assert agent.sandbox.ran == (["print(7)\n"] if runs else [])
    assert len(trajectory.calls) == runs


def test_an_answer_without_tools_goes_on_past_a_program_that_ends_no_turn():
    dialect = Dialect(tiny_tokenizer(), DialectConfig(style=NO_TOOLS))
    agent = agent_of([CALL + ANSWER], dialect)
    trajectory = run(agent, max_tool_calling_iterations=0)
    assert (trajectory.finish, trajectory.response_text) == (Finish.ENDED, CALL + ANSWER)


class Narrow:
    """A policy whose context holds `longest` tokens."""

    def __init__(self, agent: Agent, longest: int) -> None:
        self._policy, self._longest = agent.policy, longest
        self.attend = agent.policy.attend

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        room = self._longest - len(token_ids)
        if room < 1:
            raise ContextFull("full")
        return await self._policy.sample(token_ids, replace(sampling, max_tokens=min(room, sampling.max_tokens)))


OUTPUT = "See.\n```output\n5\n```\n"
"""A stop string that closes no program: the thought goes on behind it."""


@pytest.mark.parametrize("room", [0, 1, 5, 11])
def test_a_full_context_ends_a_trajectory_as_any_limit_and_keeps_the_turns_tokens(room):
    agent = agent_of([ANSWER])
    prompt = len(draft_of(agent).prompt)
    agent = replace(agent, policy=Narrow(agent, prompt + room))
    trajectory = run(agent)
    assert trajectory.finish is Finish.TOKEN_LIMIT
    assert trajectory.num_model_tokens == room


def test_a_context_that_is_full_behind_a_stop_that_closes_nothing_loses_no_token():
    agent = agent_of([OUTPUT, ANSWER])
    prompt = len(draft_of(agent).prompt)
    agent = replace(agent, policy=Narrow(agent, prompt + size(OUTPUT)))
    trajectory = run(agent)
    assert (trajectory.finish, trajectory.response_text) == (Finish.TOKEN_LIMIT, OUTPUT)
    assert trajectory.num_model_tokens == size(OUTPUT)


def test_a_turn_in_a_full_context_is_an_empty_thought_and_no_fault():
    agent = agent_of([])
    narrow = replace(agent, policy=Narrow(agent, 3))
    turn = asyncio.run(take_step(narrow, [1, 2, 3], RolloutConfig(), 50, may_call=True, seed=0, kept=[2, 3]))
    assert (turn.finish, turn.step.thought.text, len(turn.step.thought.span)) == (Finish.TOKEN_LIMIT, "", 0)
    assert turn.step.thought.span.logprobs == ()
