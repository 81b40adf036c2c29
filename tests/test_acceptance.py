"""Ten claims that a faithful implementation must keep, each told by one test that stands alone."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from scripted_agent import FakeSandbox, Recorded, Spelled, agent_of, draft_of, program
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import PromptStyle
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.eval.statistics import association
from thor_tir.execution import ExecutionResult, Status
from thor_tir.grading.extract import extract_answer
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import TrainingSample
from thor_tir.problem import Problem
from thor_tir.rl.algorithms import group_advantages
from thor_tir.rl.config import EpisodeConfig, StepConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.samples import episode_row
from thor_tir.rl.step import StepPrompt, StepSample, queries, repair_to_json, rewarded, sample_repair, step_rows
from thor_tir.rollout.loop import Agent, RolloutConfig, rollout
from thor_tir.rollout.sample_many import Attempt, AttemptRequest, SamplingSetup, attempt_all, lost, record_all
from thor_tir.storage.journal import Journal
from thor_tir.tirgen.rules import Candidate
from thor_tir.tirgen.selection import FilterConfig, sieve
from thor_tir.trajectory import Author, Finish, Prefix, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict
from tiny_models import tiny_model, tiny_tokenizer

THOUGHTS = ["", "Let us see.\n", "Hm, é😀:\n", "```text\nno program\n```\nThen:\n", "It prints ```python here.\n"]
CALLS = st.tuples(st.sampled_from(THOUGHTS), st.sampled_from(["print(7 * 11)", "boom", "pass"])).map(
    lambda parts: parts[0] + program(parts[1])
)
REPLIES = st.tuples(st.lists(CALLS, max_size=4), st.sampled_from(["So \\boxed{77}.", "", "```python\nprint("])).map(
    lambda parts: [*parts[0], parts[1]]
)
"""Up to four turns that call, some of them after fenced text that is no program, and a last one that does not."""


def pieces_of(replies: list[str]) -> list[str]:
    """Replies as an engine hands them over: fenced text that is no program ends a request too."""
    end = "no program\n```\n"
    return [piece for reply in replies for piece in reply.replace(end, end + "\0").split("\0")]


def run(agent: Agent, **config) -> Trajectory:
    return asyncio.run(rollout(draft_of(agent), agent, RolloutConfig(**config)))


def recorded_run(replies: list[str], max_tokens: int) -> tuple[Trajectory, Recorded]:
    policy = Recorded(ScriptedPolicy(Spelled(), pieces_of(replies)))
    agent = Agent(policy=policy, sandbox=FakeSandbox(), dialect=Dialect(tiny_tokenizer()))
    return run(agent, max_completion_length=max_tokens), policy


def row_of(trajectory: Trajectory) -> TrainingSample:
    return episode_row(trajectory, advantage=1.0, nll_weight=0.01, group="g")


@settings(max_examples=40, deadline=None)
@given(REPLIES, st.integers(1, 300))
def test_01_masked_tokens_are_exactly_those_the_engine_did_not_return(replies, max_tokens):
    trajectory, policy = recorded_run(replies, max_tokens)
    row = row_of(trajectory)
    assert [position for position, is_trained in enumerate(row.trained) if is_trained] == list(policy.returned)


@settings(max_examples=40, deadline=None)
@given(REPLIES, st.integers(1, 300))
def test_02_trained_ids_are_the_sampled_ids_with_the_environments_between(replies, max_tokens):
    trajectory, policy = recorded_run(replies, max_tokens)
    row = row_of(trajectory)
    assert {p: row.token_ids[p] for p, is_trained in enumerate(row.trained) if is_trained} == policy.returned
    dialect = Dialect(tiny_tokenizer())
    written = [dialect.prompt("What is 7 * 11?").token_ids]
    written += [dialect.observe(step.observation.result).span.token_ids for step in trajectory.calls]
    masked = [i for i, is_trained in zip(row.token_ids, row.trained, strict=True) if not is_trained]
    assert masked == [i for ids in written for i in ids]


QUESTIONS = {"one": 1, "two": 2, "three": 3}
"""Question -> how many calls the memorised solution makes."""


def memorised(dialect: Dialect) -> PreTrainedModel:
    """A tiny model that learnt to solve each question with so many calls, by heart and within seconds."""
    tokenizer = tiny_tokenizer()
    seen = dialect.observe(ExecutionResult(status=Status.OK, stdout="77\n")).span.token_ids
    turn = [*dialect.encode(program("print(77)")), *seen]
    answer = [*dialect.encode("So \\boxed{77}."), tokenizer.eos_token_id]
    rows = [[*dialect.prompt(name).token_ids, *turn * num_calls, *answer] for name, num_calls in QUESTIONS.items()]
    width = max(map(len, rows))
    ids_BT = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    model = tiny_model(sharpness=1.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(45):
        loss = model(ids_BT, labels=ids_BT.masked_fill(ids_BT == tokenizer.pad_token_id, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_03_results_of_a_sample_do_not_depend_on_its_batch_mates():
    dialect = Dialect(tiny_tokenizer(), DialectConfig(style=PromptStyle(system="", user="{text}")))
    model = memorised(dialect)
    config = RolloutConfig(max_completion_length=120, max_tool_calling_iterations=2, temperature=0.5)

    def sampled(asked: list[tuple[str, int]], **engine_config) -> list[Trajectory]:
        async def together() -> list[Trajectory]:
            async with TransformersEngine(model, tiny_tokenizer(), EngineConfig(**engine_config)) as engine:
                agent = Agent(policy=engine, sandbox=FakeSandbox(), dialect=dialect)
                drafts = [draft_of(agent, question, seed=seed) for question, seed in asked]
                return await asyncio.gather(*(rollout(draft, agent, config) for draft in drafts))

        return asyncio.run(together())

    def told(trajectory: Trajectory) -> tuple[tuple[int, ...], Finish]:
        return row_of(trajectory).token_ids, trajectory.finish

    asked = [(question, seed) for seed in (1, 2) for question in QUESTIONS]
    alone = [trajectory for ask in asked for trajectory in sampled([ask])]
    # each has a budget of its own: of three wanted calls two are made, whatever the others use up meanwhile
    assert [len(trajectory.calls) for trajectory in alone] == [1, 2, 2] * 2
    assert [trajectory.wanted_more_calls for trajectory in alone] == [False, False, True] * 2
    assert list(map(told, sampled(asked))) == list(map(told, alone))
    assert list(map(told, sampled(asked[::-1], max_num_seqs=2))) == list(map(told, alone[::-1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=4), st.integers(0, 40))
def test_04_the_cut_lies_inside_the_failing_thought_and_its_prefix_is_a_prefix_of_the_text(calls, suffix_tokens):
    trajectory = run(agent_of(pieces_of([*calls, "So \\boxed{77}."])))
    found = queries([attempt_of(trajectory)], StepConfig(suffix_tokens=suffix_tokens), max_queries=9, seed=0)
    failing = next((number for number, call in enumerate(calls) if "print(7" not in call), None)
    assert len(found) == (failing is not None)
    for query in found:
        ids = [i for span in trajectory.spans for i in span.token_ids]
        cut = len(query.prefix.token_ids)
        before = [trajectory.prompt, *(span for step in trajectory.steps[:failing] for span in step.spans)]
        begin = sum(map(len, before))
        end = begin + len(trajectory.steps[failing].thought.span)
        assert cut == max(begin, end - suffix_tokens)
        assert list(query.prefix.token_ids) == ids[:cut]
        text, whole = tiny_tokenizer().decode(query.prefix.token_ids), tiny_tokenizer().decode(ids)
        assert whole.startswith(text.rstrip("\ufffd"))  # a cut within a character's bytes decodes to a mark
        assert query.prefix.spans[-1].author is Author.MODEL


PROBLEM = Problem(id="p", question="What is 7 * 11?", answer="77", source="test")


def attempt_of(trajectory: Trajectory, outcome: Outcome = Outcome.CORRECT) -> Attempt:
    return Attempt(problem=PROBLEM, trajectory=trajectory, verdict=Verdict(outcome=outcome, extracted="77", reason=""))


def query_of(agent: Agent) -> StepPrompt:
    return StepPrompt(id="t/step0", prefix=Prefix(spans=(agent.dialect.prompt(PROBLEM.question),), parent="t", call=0))


def repairs_of(replies: list[str]) -> tuple[StepPrompt, list[StepSample]]:
    agent = agent_of(replies)
    query = query_of(agent)
    config = RolloutConfig(max_completion_length=60)
    steps = [asyncio.run(sample_repair(query, number, agent, config, seed=0)) for number in range(len(replies))]
    return query, rewarded({query.repair_id(number): step for number, step in enumerate(steps)})


def again(code: str) -> str:
    """A repair as a model writes it: the cut falls within a line, which must end before a fence."""
    return "\n" + program(code)


async def graded(problem: Problem, text: str) -> Verdict:
    is_right = extract_answer(text) == problem.answer
    return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, extracted=extract_answer(text), reason="")


def test_05_no_call_never_earns_reward_1_and_a_fault_of_the_machine_changes_no_reward(tmp_path):
    no_call = ["So \\boxed{77}.", "```python\n", "```python\nprint(1)\n", "python\nprint(1)", "see ```", "x " * 99]
    query, repairs = repairs_of([*no_call, again("boom")])
    assert [repair.reward for repair in repairs] == [0.0] * 7
    assert step_rows([(query, repairs)], StepConfig(), Counter()) == []
    # a program that prints nothing earns as little as no call
    query, [silent, none, loud] = repairs_of([again("pass"), "So \\boxed{77}.", again("print(1)")])
    assert (silent.reward, none.reward, loud.reward) == (0.0, 0.0, 1.0)
    rows = step_rows([(query, [loud, none])], StepConfig(), Counter())
    assert [math.copysign(1, row.terms[0].advantage) for row in rows] == [1, -1]

    faultless = {"a right": ["So \\boxed{77}."], "a wrong": ["So \\boxed{7}."], "a late": [program("print(1)"), "5"]}
    faulty = {**faultless, "an early fault": [program("offline")], "a late fault": [program("1"), program("offline")]}
    # compared as they print, since NaN, which stands where nothing was sampled, equals nothing
    expected = repr(episode_rows_of(faultless, tmp_path / "faultless"))
    assert expected.count("TrainingSample(") == 3
    assert repr(episode_rows_of(faulty, tmp_path / "faulty")) == expected

    good = [again("print(1)"), again("boom"), again("print(1)")]
    expected = repr(step_rows_of(good, tmp_path / "none"))
    assert expected.count("TrainingSample(") == 3
    assert repr(step_rows_of([*good, again("offline")], tmp_path / "one")) == expected


def setup_of(agent: Agent) -> SamplingSetup:
    return SamplingSetup(agent=agent, grade=graded, config=RolloutConfig())


def episode_rows_of(scripts: dict[str, list[str]], path) -> list[TrainingSample]:
    """Rows of one group whose members are told apart by their question, without those that a fault ended."""
    asked = [Problem(id="p", question=question, answer="77", source="test") for question in scripts]
    requests = [AttemptRequest(id=each.question, problem=each, seed=0) for each in asked]
    with closing(Journal(path)) as journal:
        attempts = asyncio.run(attempt_all(requests, setup_of(agent_of(scripts)), journal))
        assert lost(journal, scripts).total() == sum("fault" in question for question in scripts)
    return episode_rows([attempts], EpisodeConfig(), Counter())


def step_rows_of(replies: list[str], path) -> list[TrainingSample]:
    """Rows of one failed call whose repairs are sampled one after another, without those that a fault ended."""
    agent = agent_of(replies)
    query, done = query_of(agent), dict[str, Step]()

    async def one(number: int) -> dict[str, Any]:
        done[str(number)] = step = await sample_repair(query, number, agent, RolloutConfig(), seed=0)
        return repair_to_json(query, str(number), step)

    work = {str(n): partial(one, n) for n in range(len(replies))}
    with closing(Journal(path)) as journal:
        dropped = asyncio.run(record_all(work, setup_of(agent), journal))
    assert len(done) == len(replies) - dropped["SandboxUnavailable"]
    return step_rows([(query, rewarded(done))], StepConfig(), Counter())


def test_06_no_failure_one_failure_a_lone_sample_and_equal_rewards_are_all_handled():
    failing, fine = (attempt_of(run(agent_of([program(code), "5"]))) for code in ("boom", "print(1)"))
    config = StepConfig()
    assert queries([], config, max_queries=4, seed=0) == []
    assert queries([fine, fine], config, max_queries=4, seed=0) == []
    [query] = queries([fine, failing], config, max_queries=4, seed=0)
    assert (query.prefix.parent, query.prefix.call) == ("t", 0)
    assert queries([failing], config, max_queries=0, seed=0) == []

    dropped: Counter[str] = Counter()
    good, bad = repairs_of([again("print(1)"), again("boom")])[1]
    groups = [(query, []), (query, [good]), (query, [good] * 3), (query, [bad] * 4)]
    assert step_rows(groups, config, dropped) == []
    assert dropped == {"step: too few survivors": 1, "step: all succeed": 3, "step: all fail": 4}

    dropped.clear()
    wrong, unscored = (attempt_of(fine.trajectory, outcome) for outcome in (Outcome.WRONG, Outcome.UNSCORED))
    groups = [[], [fine], [fine] * 3, [wrong] * 4, [fine, failing, unscored]]
    assert episode_rows(groups, EpisodeConfig(), dropped) == []
    # the last group is left with a lone survivor, like the second
    assert dropped == {
        "episode: too few survivors": 2,
        "episode: all right": 3,
        "episode: all wrong": 4,
        "episode: failed call": 1,
        "episode: unscored": 1,
    }
    lone = EpisodeConfig(min_survivors=1)
    assert episode_rows([[fine]], lone, Counter()) == []
    assert group_advantages([1.0]) == [1.0]


def prompt_span() -> Span:
    return Span(token_ids=(5, 6), author=Author.PROMPT)


def thought_of(ids: tuple[int, ...], old_logprobs: Sequence[float]) -> Trajectory:
    span = Span(token_ids=ids, author=Author.MODEL, logprobs=tuple(old_logprobs))
    step = Step(thought=Thought(text="", span=span))
    return Trajectory(id=str(ids), problem_id="p", prompt=prompt_span(), steps=(step,), finish=Finish.ENDED)


def test_07_grpo_has_its_closed_form_and_its_gradient_agrees_with_finite_differences():
    model = tiny_model(sharpness=1.0).double()
    sampled = [(9, 40, 7), (11, 8, 60), (30, 31, 32), (4, 4, 9)]
    # at positive advantage: clipped at 1.28, free below, free inside; at negative: dual clip, clipped at 0.8, free
    ratios = [(1.5, 0.5, 1.1), (5.0, 0.5, 1.1), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)]

    def logprobs() -> list[list[float]]:
        with torch.no_grad():
            logits_BTV = model(torch.tensor([(*prompt_span().token_ids, *ids) for ids in sampled])).logits
        logp_BTV = logits_BTV[:, 1:-1].log_softmax(-1)
        return [[logp_BTV[b, t, token].item() for t, token in enumerate(ids)] for b, ids in enumerate(sampled)]

    old = [[lp - math.log(r) for lp, r in zip(*row, strict=True)] for row in zip(logprobs(), ratios, strict=True)]
    # rewards 1, 0, 0, 0: mean 1/4, unbiased variance (9/16 + 3/16) / 3 = 1/4, so std = 1/2
    right, wrong = 0.75 / (0.5 + 1e-6), -0.25 / (0.5 + 1e-6)

    def token_loss(advantage: float, ratio: float) -> float:
        loss = max(-advantage * ratio, -advantage * min(max(ratio, 0.8), 1.28))
        return min(loss, -3 * advantage) if advantage < 0 else loss

    def objective() -> float:
        new = logprobs()
        losses = [
            token_loss(right if b == 0 else wrong, math.exp(new[b][t] - old[b][t])) for b in range(4) for t in range(3)
        ]
        return sum(losses) / 12 + 0.01 * -sum(new[0]) / 3

    advantages = group_advantages([1.0, 0.0, 0.0, 0.0])
    rows = [
        episode_row(thought_of(*parts), advantage=a, nll_weight=0.01, group="g")
        for *parts, a in zip(sampled, old, advantages, strict=True)
    ]
    loss = Learner(model, LearnerConfig()).accumulate(rows).loss
    # row 0: 1.28 + 0.5 + 1.1; row 1: 3 + 0.8 + 1.1; rows 2 and 3: six times 1
    by_hand = (-right * 2.88 + -wrong * (4.9 + 6)) / 12 - 0.01 * sum(logprobs()[0]) / 3
    assert loss == pytest.approx(by_hand, abs=1e-12)
    assert objective() == pytest.approx(by_hand, abs=1e-12)
    assert_gradient_is_that_of(objective, model.get_output_embeddings().weight, tokens=(9, 7, 11, 8, 30))


def assert_gradient_is_that_of(objective: Callable[[], float], weight_VD: torch.Tensor, tokens: Sequence[int]) -> None:
    h = 1e-6
    for token in tokens:
        values = []
        for change in (h, -2 * h, h):
            with torch.no_grad():
                weight_VD[token, 3] += change
            values.append(objective())
        slope = (values[0] - values[1]) / (2 * h)
        assert weight_VD.grad[token, 3].item() == pytest.approx(slope, rel=1e-4, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(num_failures=st.integers(1, 6), max_attempts=st.integers(1, 4), suffix_tokens=st.integers(0, 30))
def test_08_every_retry_reads_the_prompt_and_the_kept_tokens_and_there_are_at_most_n_corr(
    num_failures, max_attempts, suffix_tokens
):
    thought = "Let us compute it with a program.\n"
    first, failing = "First.\n" + program("print(1)"), thought + program("boom")
    agent = agent_of([first, *[failing] * num_failures, program("print(2)"), *["So \\boxed{77}."] * 9])
    config = RolloutConfig(max_tool_calling_iterations=2)
    correction = SelfCorrectionConfig(max_attempts=max_attempts, suffix_tokens=suffix_tokens)
    repair = self_correction(agent, config, correction)
    asyncio.run(rollout(draft_of(agent), agent, config, repair))
    num_retries = min(num_failures, max_attempts)
    _, second, *others = agent.policy.asked
    thought_ids = tiny_tokenizer().encode(thought)
    kept = (*second.token_ids, *thought_ids[: max(0, len(thought_ids) - suffix_tokens)])
    assert [asked.token_ids for asked in others[:num_retries]] == [kept] * num_retries
    # the prompt's header, and the step before, open every context to the last
    assert all(asked.token_ids[: len(second.token_ids)] == second.token_ids for asked in others)
    assert len(agent.sandbox.ran) <= 2 + num_retries + 1
    assert others[num_retries].token_ids != kept


def test_09_the_chi_squared_of_table_4_is_336_29():
    # rows: answer right, answer wrong; columns: all code ran, some code failed
    found = association([[3950, 139], [1549, 318]])
    assert found.chi_squared == pytest.approx(336.29, abs=0.005)
    assert found.p_value == pytest.approx(4.093e-75, rel=1e-3)


def test_10_filter_rejects_a_single_trivial_block_and_an_empty_box_and_dedups_globally():
    def candidate(question: str, code: str, answer: str) -> Candidate:
        whole = run(agent_of(["Let us see.\n" + program(code), answer]))
        trajectory = replace(whole, id=f"{question}/{code}", problem_id=question)
        extracted = extract_answer(trajectory.response_text)
        verdict = Verdict(outcome=Outcome.CORRECT, extracted=extracted, reason="a scorer that reads more than the box")
        return Candidate(trajectory=trajectory, verdict=verdict)

    box, code = "So \\boxed{77}.", "print(7 * 11)"
    others = [candidate(f"other {n}", code, box) for n in range(9)]
    raw = [
        candidate("trivial", "print(77)", box),
        candidate("empty", code, "So \\boxed{}."),
        candidate("blank", code, "So \\boxed{ }."),
        candidate("twice", code, box),
        *others,  # the same question again, far from its first sample
        candidate("twice", "print(70 + 7)", box),
    ]
    kept, stages = sieve(raw, FilterConfig(max_share=1.0))
    assert Counter(c.trajectory.problem_id for c in kept) == Counter(
        ["twice", *(c.trajectory.problem_id for c in others)]
    )
    rejected = {stage.name: dict(stage.rejected) for stage in stages if stage.rejected}
    assert rejected == {
        "format": {"empty box": 2},
        "code": {"prints what is known": 1},
        "question": {"another sample of the question": 1},
    }
