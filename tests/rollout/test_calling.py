"""Trajectories of calls in turns of their own: the same loop, masks, step level and repair as between fences."""

import asyncio
import itertools
import json
from dataclasses import replace

import pytest

from calling_templates import END, calling_tokenizer
from own_tools import Broken, Units
from scripted_agent import FakeSandbox, Recorded
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.tool_calls import written_call
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.problem import Problem
from thor_tir.rl.config import StepConfig
from thor_tir.rl.samples import episode_row
from thor_tir.rl.step import queries, rewarded, sample_repair, step_rows
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.rollout.overheard import Happening, Overheard
from thor_tir.rollout.sample_many import Attempt, dropping
from thor_tir.rollout.toolbox import Toolbox
from thor_tir.sandbox.local.sandbox import ALONE
from thor_tir.sft.examples import sft_row, spelled_for
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.tools.loading import checked
from thor_tir.trajectory import Author, Finish, Span, Trajectory
from thor_tir.verdict import Outcome, Verdict
from tiny_models import tiny_tokenizer

UNITS = checked(Units(), "test")
SUM = "Seven by eleven first.\n" + written_call("python", "print(7 * 11)")
METRES = "Now the metres.\n" + written_call("units", '{"value": 77, "of": "km", "to": "m"}')
BOOM = "Seven by eleven first.\n" + written_call("python", "boom")
TORN = 'So.\n<tool_call>\n{"name": "python", "arguments": {"code": "print(1)"\n</tool_call>'
ANSWER = "So \\boxed{77}."
KINDS = list(itertools.product(("qwen", "hermes", "thinking", "plain", "picky"), ("text", "added", "special")))
CONFIG = RolloutConfig(max_completion_length=1000)


def agent_of(replies, name="qwen", tags="text", tools=(UNITS,), **box) -> Agent:
    tokenizer = calling_tokenizer(name, tags=tags)
    specs = tuple(tool.spec for tool in tools)
    return Agent(
        policy=ScriptedPolicy(tokenizer, replies),
        sandbox=FakeSandbox(),
        dialect=Dialect(tokenizer, DialectConfig(calls="tool-call", tools=specs)),
        tools=Toolbox(tools, **box),
    )


def grown(agent: Agent, config: RolloutConfig = CONFIG, repair=None) -> Trajectory:
    draft = Draft(id="t", problem_id="p", prompt=agent.dialect.prompt("What is 7 * 11?"), seed=0)
    return asyncio.run(rollout(draft, agent, config, repair))


def attempt_of(trajectory: Trajectory) -> Attempt:
    problem = Problem(id="p", question="?", answer="77", source="test")
    return Attempt(
        problem=problem,
        trajectory=trajectory,
        verdict=Verdict(outcome=Outcome.WRONG, extracted=None, reason=""),
    )


def ids_of(trajectory: Trajectory) -> list[int]:
    return [token for span in trajectory.spans for token in span.token_ids]


@pytest.mark.parametrize(("name", "tags"), KINDS)
def test_the_ids_that_were_sampled_are_those_that_are_read_again_and_trained(name, tags):
    agent = agent_of([SUM, METRES, ANSWER], name, tags)
    recorded = Recorded(agent.policy)
    trajectory = grown(replace(agent, policy=recorded))
    asked = [list(request.token_ids) for request in agent.policy.asked]
    ids = ids_of(trajectory)
    assert all(ids[: len(context)] == context for context in asked)  # what was read stays as it was, turn by turn
    assert {place: ids[place] for place in recorded.returned} == recorded.returned
    row = episode_row(trajectory, advantage=1.0, nll_weight=0.0, group="p")
    assert [place for place, is_trained in enumerate(row.trained) if is_trained] == sorted(recorded.returned)
    assert [step.action.tool for step in trajectory.calls] == ["python", "units"]
    assert [step.observation.result.stdout for step in trajectory.calls] == ["77\n", "77000.0"]
    assert trajectory.finish is Finish.ENDED
    assert trajectory.response_text.replace("\n", " ") == "Seven by eleven first. Now the metres. " + ANSWER
    assert trajectory_from_json(json.loads(json.dumps(trajectory_to_json(trajectory)))) == trajectory


def test_the_context_is_a_conversation_of_the_template():
    agent = agent_of([SUM, ANSWER])
    text = agent.dialect.tokenizer.decode(ids_of(grown(agent)))
    said = text.partition("What is 7 * 11?")[2].partition("<|im_start|>")[2]
    assert said == (
        f"assistant\n{SUM}{END}\n<|im_start|>user\n<tool_response>\n77\n</tool_response>{END}\n<|im_start|>assistant\n"
        f"{ANSWER}{END}"
    )


@pytest.mark.parametrize("call", [BOOM, TORN, SUM.replace('"python"', '"tape"'), SUM.replace('"code"', '"program"')])
def test_a_failed_call_ends_a_training_rollout_and_is_repaired_at_the_step_level(call):
    agent = agent_of([call, SUM.partition("first")[2], "no call" + END, call.partition("\n")[2]])
    trajectory = grown(agent, replace(CONFIG, stop_at_failure=True))
    assert trajectory.finish is Finish.FAILED_CALL
    assert trajectory.steps[0].failed
    (query,) = queries([attempt_of(trajectory)], StepConfig(suffix_tokens=3), max_queries=1, seed=0)
    steps = [asyncio.run(sample_repair(query, n, agent, CONFIG, seed=0)) for n in range(3)]
    samples = rewarded({query.repair_id(n): step for n, step in enumerate(steps)})
    assert [sample.reward for sample in samples] == [1.0, 0.0, 0.0]
    rows = step_rows([(query, samples)], StepConfig(), {})
    kept = len(query.prefix.token_ids)
    for row, step in zip(rows, steps, strict=True):
        written = [t for span in (step.thought.span, step.action and step.action.span) if span for t in span.token_ids]
        assert list(row.token_ids) == [*query.prefix.token_ids, *written]
        assert list(row.trained) == [False] * kept + [True] * len(written)


def test_a_cut_falls_within_the_thought_and_one_within_a_calls_json_is_read_on():
    """Ids that were kept decide what the new ones are: the rest of a thought, or of a call that has begun."""
    agent = agent_of([])
    dialect, encode = agent.dialect, agent.dialect.tokenizer.encode
    for cut in range(1, len(SUM)):
        kept = encode(SUM[:cut], add_special_tokens=False)
        rest = encode(SUM[cut:], add_special_tokens=False)
        span = Span(token_ids=tuple(rest), author=Author.MODEL, logprobs=(0.0,) * len(rest))
        thought, action = dialect.split(span, kept=kept)
        assert (action.code, action.tool) == ("print(7 * 11)", "python")
        assert thought.span + action.span == span
        assert thought.text == SUM[cut:].partition("<tool_call>")[0] * (cut <= SUM.index("<tool_call>"))


def test_self_correction_puts_a_call_that_works_in_the_place_of_one_that_failed():
    agent = agent_of([BOOM, SUM.partition("first")[2], ANSWER])
    repair = self_correction(agent, CONFIG, SelfCorrectionConfig(suffix_tokens=4))
    trajectory = grown(agent, repair=repair)
    (call,) = trajectory.calls
    assert call.succeeded
    assert len(call.discarded) == 1
    assert agent.dialect.decode(call.spans[0].token_ids + call.spans[1].token_ids).endswith(
        'print(7 * 11)"}}\n</tool_call>'
    )


def test_a_fault_of_a_tools_machine_costs_the_attempt_and_is_counted():
    agent = agent_of([written_call("broken", "{}")], tools=(checked(Broken(), "test"),))
    draft = Draft(id="t", problem_id="p", prompt=agent.dialect.prompt("?"), seed=0)

    async def unit():
        return trajectory_to_json(await rollout(draft, agent, CONFIG))

    assert asyncio.run(dropping(unit)) == {"dropped": "ToolUnavailable"}


def test_a_cold_start_trains_calls_with_the_end_of_their_turn_and_masks_results():
    policy = ScriptedPolicy(tiny_tokenizer(), ["So.\n```python\nprint(7)\n```\n", ANSWER])
    source = grown(Agent(policy=policy, sandbox=FakeSandbox(), dialect=Dialect(tiny_tokenizer())))
    dialect = agent_of([]).dialect
    ours = spelled_for(source, dialect)
    assert ours is not source
    assert spelled_for(ours, dialect) is ours
    row = sft_row(ours, prompt=dialect.prompt("?"))
    trained = dialect.tokenizer.decode(
        [t for t, is_trained in zip(row.token_ids, row.trained, strict=True) if is_trained]
    )
    assert trained == "So.\n" + written_call("python", "print(7)\n") + END + ANSWER + END
    back = spelled_for(ours, Dialect(calling_tokenizer("qwen")))
    assert [step.action.code for step in back.calls] == ["print(7)\n"]
    assert "```python\nprint(7)\n```\n" in calling_tokenizer("qwen").decode(ids_of(back))


def test_a_rollout_that_is_heard_shows_calls_and_results_without_the_marks_of_turns():
    agent, events = agent_of([METRES, SUM, ANSWER]), []
    overheard = Overheard(agent, events.append, is_live=False)
    overheard.finished(grown(overheard.agent))
    assert [(e.tool, e.code) for e in events if e.kind is Happening.CODE] == [
        ("units", '{"value": 77, "of": "km", "to": "m"}'),
        ("python", "print(7 * 11)"),
    ]
    stands = "".join(event.text for event in events if event.kind is Happening.STANDS)
    told = "".join(event.text for event in events if event.kind is not Happening.STANDS)
    assert told == stands.removesuffix(END)
    assert f"{METRES}\n<tool_response>\n77000.0\n</tool_response>\n{SUM}\n<tool_response>" in stands


class Cells(FakeSandbox):
    """Notes which programs were in force; any program prints 1 unless it says boom."""

    async def run(self, code, limits=None, *, stdin="", seed=0, notebook=ALONE):
        result = await super().run(code)
        self.ran[-1] = (code, notebook.earlier, notebook.extra_s)
        return replace(result, seconds=0.5)


def test_programs_that_ran_are_in_force_where_a_run_keeps_state_and_a_repair_sees_those_before_it():
    first, fault, second, third = (written_call("python", code) for code in ("pass", "boom", "print(1)", "print(2)"))
    agent = replace(agent_of([first, fault, second, METRES, third, ANSWER], keeps_state=True), sandbox=Cells())
    repair = self_correction(agent, replace(CONFIG, call_success="ran"), SelfCorrectionConfig(suffix_tokens=4))
    trajectory = grown(agent, replace(CONFIG, call_success="ran"), repair=repair)
    assert agent.sandbox.ran == [
        ("pass", (), 0.0),
        ("boom", ("pass",), 0.5),
        ("print(1)", ("pass",), 0.5),
        ("print(2)", ("pass", "print(1)"), 0.5),
    ]
    agent = replace(agent_of([second, fault, third], keeps_state=True), sandbox=Cells())
    trajectory = grown(agent, replace(CONFIG, stop_at_failure=True))
    (query,) = queries([attempt_of(trajectory)], StepConfig(suffix_tokens=3), max_queries=1, seed=0)
    asyncio.run(sample_repair(query, 0, agent, CONFIG, seed=0))
    assert agent.sandbox.ran[-1] == ("print(2)", ("print(1)",), 0.5)
