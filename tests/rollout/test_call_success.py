"""What a successful call is: one rule, read by everything that rewards, repairs, selects, counts or shows a call."""

import asyncio
from collections import Counter

import pytest

from rl_steps import attempt_with
from scripted_agent import draft_of
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.eval.metrics import failure_classes, tool_success_table
from thor_tir.execution import ExecutionResult, Status, can_be_read
from thor_tir.inference.best_of_n import call_pass_rate
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.rl.config import StepConfig
from thor_tir.rl.episode import failed_call
from thor_tir.rl.step import StepPrompt, queries, rewarded, sample_repair, step_rows
from thor_tir.rollout.loop import Agent, RolloutConfig, rollout
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.trajectory import Author, Prefix, Span, Step, Trajectory
from tiny_models import tiny_tokenizer

NO_CALL = "So \\boxed{42}."
PROGRAMS = ["", "# nothing", "pass", "x = 7*6", "print(1/0)", "print(3)", "print('  \\t ')", "print()", "def f(): pass"]
PRINTED = {"print(3)"}
RAN = set(PROGRAMS) - {"print(1/0)"}
"""The table of docs/successful_calls.md."""


def call(code: str) -> str:
    return f"\n```python\n{code}\n```\n"


def in_a_sandbox(replies: list[str], work):
    """Real programs: what they print and how they end is the sandbox's business, not this test's."""

    async def run():
        async with LocalSandbox(LocalSandboxConfig(modules=("json",), heavy_modules=())) as sandbox:
            agent = Agent(
                policy=ScriptedPolicy(tiny_tokenizer(), replies), sandbox=sandbox, dialect=Dialect(tiny_tokenizer())
            )
            return await work(agent)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def repairs() -> dict[str, Step]:
    """A repair with each program, and one without."""
    replies = [NO_CALL, *map(call, PROGRAMS)]

    async def work(agent: Agent) -> list[Step]:
        prefix = Prefix(spans=(agent.dialect.prompt("What is 7 * 6?"),), parent="t", call=0)
        query = StepPrompt(id="q", prefix=prefix)
        return [await sample_repair(query, n, agent, RolloutConfig(), seed=0) for n in range(len(replies))]

    return dict(zip([NO_CALL, *PROGRAMS], in_a_sandbox(replies, work), strict=True))


def test_a_repair_is_rewarded_and_gets_the_nll_if_its_program_printed_something(repairs):
    samples = rewarded(repairs)
    assert {sample.id for sample in samples if sample.reward} == PRINTED
    prompt = Span(token_ids=(1,), author=Author.PROMPT)
    query = StepPrompt(id="q", prefix=Prefix(spans=(prompt,), parent="t", call=0))
    rows = step_rows([(query, samples)], StepConfig(), Counter())
    assert {row.id for row in rows if row.terms[0].advantage > 0} == PRINTED
    assert {row.id for row in rows if any(term.name == "step_nll" for term in row.terms)} == PRINTED


def test_by_option_running_is_enough_and_no_call_still_is_not(repairs):
    assert {sample.id for sample in rewarded(repairs, "runs") if sample.reward} == RAN


@pytest.mark.parametrize("code", PROGRAMS)
def test_selection_filters_and_figures_judge_a_call_alike(repairs, code):
    attempt = attempt_with(repairs[code])
    good = code in PRINTED
    assert call_pass_rate(attempt) == good
    assert call_pass_rate(attempt, "ran") == (code in RAN)
    assert (failed_call(attempt) is None) == good
    assert (failed_call(attempt, "ran") is None) == (code in RAN)
    assert (len(failure_classes([attempt])) == 0) == good
    assert tool_success_table([attempt])[0 if good else 1] == [0, 1]


@pytest.mark.parametrize("code", PROGRAMS)
@pytest.mark.parametrize(("rule", "good"), [("printed", PRINTED), ("ran", RAN)])
def test_the_calls_that_are_repaired_are_those_that_failed_by_the_runs_rule(repairs, code, rule, good):
    asked = queries([attempt_with(repairs[code])], StepConfig(), max_queries=9, seed=0, call_success=rule)
    assert len(asked) == (code not in good)


@pytest.mark.parametrize(("rule", "tries"), [("printed", 4), ("ran", 2)])
def test_self_correction_ends_with_the_first_repair_that_succeeds(rule, tries):
    replies = [f"A.{call(code)}" for code in ("1/0", "pass", "x = 7*6", "print(42)")] + [NO_CALL]
    config = RolloutConfig(call_success=rule)

    async def work(agent: Agent) -> Trajectory:
        repair = self_correction(agent, config, SelfCorrectionConfig(suffix_tokens=99))
        return await rollout(draft_of(agent), agent, config, repair)

    trajectory = in_a_sandbox(replies, work)
    assert len(trajectory.steps[0].discarded) == tries - 1
    assert trajectory.steps[0].succeeds(rule)


@pytest.mark.parametrize(("rule", "calls"), [("printed", 1), ("ran", 2)])
def test_a_run_that_stops_at_the_first_failure_stops_at_a_call_that_prints_nothing(rule, calls):
    config = RolloutConfig(call_success=rule, stop_at_failure=True)

    async def work(agent: Agent) -> Trajectory:
        return await rollout(draft_of(agent), agent, config)

    trajectory = in_a_sandbox([f"A.{call('pass')}", f"B.{call('print(1)')}", NO_CALL], work)
    assert len(trajectory.calls) == calls


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t\r\n", "\u00a0", "\u3000", "\u200b", "\u2060", "\ufeff", "\x00"])
@pytest.mark.parametrize(
    "steering", ["", "\x1b[31m", "\x1b[0m\x1b[2J\x1b[H", "\x1b]0;a title\x07", "\x9b1m", "\u3164", "\u2800"]
)
def test_blanks_escape_sequences_and_characters_without_width_show_nothing(text, steering):
    text = f"{steering}{text}{steering}"
    assert not can_be_read(text)
    assert not ExecutionResult(status=Status.OK, stdout=text).succeeds()
    assert ExecutionResult(status=Status.OK, stdout=text).succeeds("ran")


@pytest.mark.parametrize(
    "text", ["0", " 3 \n", ".", "é", "\u200b7", "[]", "None", "\x1b[31m7\x1b[0m", "[31m", "\x1b]0;t\x077"]
)
def test_any_character_that_can_be_seen_is_output(text):
    assert can_be_read(text)


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.OK, Status.OK_NO_OUTPUT)])
def test_output_makes_no_success_of_a_program_that_did_not_end_well(status):
    result = ExecutionResult(status=status, stdout="42\n")
    assert not any((result.ran, result.succeeds(), result.succeeds("ran")))
