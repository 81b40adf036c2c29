"""Rewards of one's own: loaded by name, added up, and never silently wrong."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest

from fake_trajectory import call
from thor_tir.errors import SandboxUnavailable, UsageError
from thor_tir.execution import Status
from thor_tir.hooks import load_hook
from thor_tir.problem import Problem
from thor_tir.rollout.rewards import PACKAGED, judged, load_rewards, overlong, well_formed
from thor_tir.rollout.sample_many import Attempt, attempt_from_json, attempt_to_json
from thor_tir.trajectory import Author, Finish, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

PROBLEM = Problem(id="p", question="1+1?", answer="2", source="test")
RIGHT = Verdict(outcome=Outcome.CORRECT, extracted="2", reason="equal")
WRONG = Verdict(outcome=Outcome.WRONG, extracted="3", reason="other")
UNSCORED = Verdict(outcome=Outcome.UNSCORED, extracted=None, reason="no reference")

MINE = """
import asyncio
from thor_tir.errors import SandboxUnavailable

def half(problem, trajectory, verdict):
    return 0.5

async def slow(problem, trajectory, verdict):
    await asyncio.sleep(0)
    return -2

def parts(problem, trajectory, verdict):
    return {"style": 0.25, "length": -1}

def silent(problem, trajectory, verdict):
    return None

def breaks(problem, trajectory, verdict):
    raise KeyError("difficulty")

def unreadable(problem, trajectory, verdict):
    return float("nan")

def text(problem, trajectory, verdict):
    return "0.5"

def no_machine(problem, trajectory, verdict):
    raise SandboxUnavailable("no sandbox")

def too_few(problem):
    return 1

NOT_A_FUNCTION = 3

def nothing(problem, trajectory, verdict):
    return {}

def deep(problem, trajectory, verdict):
    import json
    return json.loads("{")

import contextlib

class Timed(contextlib.ContextDecorator):
    __enter__ = lambda self: self
    __exit__ = lambda self, *error: False

@Timed()
def decorated(problem, trajectory, verdict):
    raise KeyError("inside")
"""


def trajectory_of() -> Trajectory:
    prompt = Span(token_ids=(1,), author=Author.PROMPT)
    steps = (call(3, 4, Status.OK), call(5, 6, Status.RUNTIME))
    return Trajectory(id="t", problem_id="p", prompt=prompt, steps=steps, finish=Finish.ENDED)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def judge(specs: list[str], verdict: Verdict = RIGHT) -> tuple[float | None, dict[str, float]]:
    found = asyncio.run(judged(load_rewards(specs), PROBLEM, trajectory_of(), verdict))
    return found.total, dict(found.parts)


def test_the_papers_reward_alone_needs_no_record_and_is_the_answer() -> None:
    assert load_rewards(["exact"]) == ()
    attempts = [Attempt(problem=PROBLEM, trajectory=trajectory_of(), verdict=v) for v in (RIGHT, WRONG, UNSCORED)]
    assert [a.reward for a in attempts] == [1.0, 0.0, None]
    assert "judged" not in attempt_to_json(attempts[0]), "journals of such a run keep the bits that they had"


def test_rewards_are_added_up_with_their_weights(mine: Path) -> None:
    total, parts = judge(["exact", f"{mine}:half=4", f"{mine}:slow=0.25", f"{mine}:parts=2"])
    assert total == pytest.approx(1 + 4 * 0.5 + 0.25 * -2 + 2 * (0.25 - 1))
    assert parts == {
        "exact": 1.0,
        f"{mine}:half": 0.5,
        f"{mine}:slow": -2.0,
        f"{mine}:parts/style": 0.25,
        f"{mine}:parts/length": -1.0,
    }


SPELLED = {"overlong": "overlong=1,limit=9,cache=3"}


@pytest.mark.parametrize("name", PACKAGED)
def test_each_packaged_reward_judges_each_verdict(name: str) -> None:
    for verdict in (RIGHT, WRONG, UNSCORED):
        total, _ = judge([SPELLED.get(name, f"{name}=1")], verdict)
        assert total is None or math.isfinite(total)
    assert judge(["exact=1"], UNSCORED)[0] is None
    assert judge(["exact=1"], WRONG)[0] == 0


def test_one_reward_that_cannot_say_leaves_the_trajectory_without_one(mine: Path) -> None:
    assert judge(["exact", f"{mine}:silent"])[0] is None
    assert judge(["boxed=1"], UNSCORED)[0] == 0.0, "a reward that reads no verdict needs no reference"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("breaks", r"the reward .*mine.py:breaks raised KeyError: 'difficulty' \(.*mine.py, line 19\)"),
        ("unreadable", r"returned 'nan', which is no finite number"),
        ("text", r"returned '0.5', which is no finite number"),
        ("nothing", r"returned an empty dict"),
        ("deep", r"raised JSONDecodeError: .* \(.*mine.py, line 40\)"),
        ("decorated", r"raised KeyError: 'inside' \(.*mine.py, line 50\)"),
    ],
)
def test_a_function_that_fails_ends_the_run_with_its_place(mine: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        judge([f"{mine}:{function}"])


def of_length(tokens: int) -> Trajectory:
    model = Span(token_ids=(9,) * tokens, author=Author.MODEL)
    return replace(trajectory_of(), steps=(Step(thought=Thought(text="", span=model)),))


@pytest.mark.parametrize(("tokens", "reward"), [(0, 0.0), (60, 0.0), (70, -0.25), (100, -1.0), (500, -1.0)])
def test_the_overlong_penalty_falls_in_a_straight_line_over_the_cache(tokens: int, reward: float) -> None:
    # limit 100, cache 40: nothing up to 60, then (60 - length) / 40
    assert overlong(PROBLEM, of_length(tokens), RIGHT, limit=100, cache=40) == pytest.approx(reward)


def test_an_overlong_penalty_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="0 < cache <= limit"):
        judge(["overlong,limit=10,cache=20"])
    with pytest.raises(UsageError, match="missing a required argument: 'limit'"):
        load_rewards(["overlong"])


@pytest.mark.parametrize(
    ("texts", "reward"),
    [
        ([r"So \boxed{4}."], 1.0),
        (["First,", r"so \boxed{\frac{1}{2}}."], 1.0),
        ([r"\boxed{4}, no, \boxed{5}"], 0.0),
        ([r"\boxed{4", "} and on"], 1.0),
        ([r"\boxed{}"], 0.0),
        (["4"], 0.0),
        ([r"\boxed{4} and \boxed{5"], 0.0),
        ([r"\boxed{4}", "\n```python\nprint(1)"], 0.0),
        ([r"\boxed{4}", "\n```\nx\n```\n"], 1.0),
    ],
)
def test_a_well_formed_answer_is_boxed_once_and_closes_its_fences(texts: list[str], reward: float) -> None:
    model = Span(token_ids=(9,), author=Author.MODEL)
    steps = tuple(Step(thought=Thought(text=text, span=model)) for text in texts)
    assert well_formed(PROBLEM, replace(trajectory_of(), steps=steps), RIGHT) == reward


def test_calls_cost_something_beyond_those_that_are_free() -> None:
    assert [judge([f"calls=-0.5,free={free}"])[0] for free in (0, 1, 5)] == [-1.0, -0.5, 0.0]


def test_faults_of_the_machine_stay_faults_of_the_machine(mine: Path) -> None:
    with pytest.raises(SandboxUnavailable):
        judge([f"{mine}:no_machine"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py:half", "there is no file mine.py"),
        ("{mine}:nowhere", "has no 'nowhere'; its functions are: half, slow"),
        ("{mine}:too_few", r"called with 3 arguments \(problem, trajectory, verdict\)"),
        ("{mine}:NOT_A_FUNCTION", "is no function but int"),
        ("no.such.module:f", "loading no.such.module:f raised ModuleNotFoundError"),
        ("brilliance", "unknown reward 'brilliance'"),
        ("exact=much", "the weight behind = is a number"),
    ],
)
def test_what_cannot_be_loaded_is_said_before_anything_runs(mine: Path, spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_rewards([spec.format(mine=mine), "boxed"])


def test_rewards_that_add_up_to_no_number_that_trains_are_refused(tmp_path: Path) -> None:
    (tmp_path / "huge.py").write_text("def huge(problem, trajectory, verdict):\n    return {'a': 1e308, 'b': 1e308}\n")
    rewards = load_rewards([f"{tmp_path}/huge.py:huge"])
    with pytest.raises(UsageError, match="scale them by the weight"):
        asyncio.run(judged(rewards, PROBLEM, trajectory_of(), RIGHT))


def test_a_reward_that_cancels_itself_is_named_and_loses_nothing_unseen(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(
        "import asyncio\nasync def ends(problem, trajectory, verdict):\n    raise asyncio.CancelledError\n"
    )
    rewards = load_rewards([f"{tmp_path}/ends.py:ends"])
    with pytest.raises(UsageError, match=r"raised CancelledError.*ends.py, line 3"):
        asyncio.run(judged(rewards, PROBLEM, trajectory_of(), RIGHT))


def test_a_reward_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="named twice"):
        load_rewards(["exact", "exact=0.5"])


def test_a_file_that_does_not_compile_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(UsageError, match="SyntaxError"):
        load_hook("reward", f"{tmp_path / 'broken.py'}:f")


def test_a_judged_attempt_survives_its_journal(mine: Path) -> None:
    found = asyncio.run(judged(load_rewards([f"{mine}:parts"]), PROBLEM, trajectory_of(), RIGHT))
    attempt = Attempt(problem=PROBLEM, trajectory=trajectory_of(), verdict=RIGHT, judged=found)
    assert attempt_from_json(attempt_to_json(attempt), PROBLEM) == attempt
    assert attempt.reward == -0.75
