"""Task sets of `verifiers` as problems and rewards, against the package itself where it is installed."""

import asyncio
import importlib
from dataclasses import replace
from importlib.util import find_spec

import pytest

from fake_trajectory import call
from thor_tir.errors import UsageError
from thor_tir.execution import Status
from thor_tir.problems.sources import load_problems
from thor_tir.problems.verifiers_tasks import load_taskset
from thor_tir.rollout.rewards import judged, load_rewards
from thor_tir.trajectory import Author, Finish, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

needs_verifiers = pytest.mark.skipif(find_spec("verifiers") is None, reason="verifiers is not installed here")
UNSCORED = Verdict(outcome=Outcome.UNSCORED, extracted=None, reason="")

TASKS = """
import verifiers.v1 as vf

class SumData(vf.TaskData):
    answer: str = ""

class SumTask(vf.Task[SumData]):
    @vf.reward(weight=2.0)
    async def exact(self, trace):
        return float(trace.last_reply.endswith(self.data.answer))

    @vf.reward
    async def brief(self, task, trace):
        return {"turns": 1 / trace.num_turns, "known": float(task.answer != "")}

    @vf.metric
    async def length(self, trace):
        return len(trace.last_reply)

class SumConfig(vf.TasksetConfig):
    most: int = 3

class Sums(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        for n in range(self.config.most):
            yield SumTask(SumData(prompt=f"Compute {n} + {n}.", answer=str(2 * n), system_prompt="Be brief."))

__all__ = ["Sums"]
"""
VARIANTS = {
    "endless": (
        "class Sums(vf.Taskset[SumTask, SumConfig]):",
        "class Sums(vf.Taskset[SumTask, SumConfig]):\n    INFINITE = True",
    ),
    "boxed_in": ("class SumTask(vf.Task[SumData]):", "class SumTask(vf.Task[SumData]):\n    NEEDS_CONTAINER = True"),
    "served": ("async def exact(self, trace):", "async def exact(self, trace, runtime):"),
    "tooled": (
        "class SumTask(vf.Task[SumData]):",
        "class SumTask(vf.Task[SumData]):\n    @classmethod\n    def toolsets(cls, config):\n        return [1]\n",
    ),
    "talkative": (
        'prompt=f"Compute {n} + {n}."',
        "prompt=[vf.UserMessage(content='a'), vf.AssistantMessage(content='b'), vf.UserMessage(content='c')]",
    ),
    "broken": ("return float(trace.last_reply.endswith(self.data.answer))", "return 1 / 0"),
}


@pytest.fixture
def sums(tmp_path, monkeypatch):
    """Task sets that can be imported: `sums`, and a variant of it for everything that is refused."""
    (tmp_path / "sums.py").write_text(TASKS)
    for name, (old, new) in VARIANTS.items():
        assert old in TASKS
        (tmp_path / f"{name}.py").write_text(TASKS.replace(old, new))
    monkeypatch.syspath_prepend(tmp_path)
    load_taskset.cache_clear()
    importlib.invalidate_caches()


def trajectory(*steps: Step) -> Trajectory:
    prompt = Span(token_ids=(1,), author=Author.PROMPT)
    return Trajectory(id="t", problem_id="p", prompt=prompt, steps=steps, finish=Finish.ENDED)


def saying(text: str) -> Step:
    return Step(thought=Thought(text=text, span=Span(token_ids=(1,), author=Author.MODEL)))


@needs_verifiers
def test_tasks_are_problems_and_their_rewards_judge_trajectories(sums) -> None:
    found = load_problems("verifiers:sums,most=5", count=2)
    first, second = found.problems
    assert (second.question, second.answer, second.system) == ("Compute 1 + 1.", "2", "Be brief.")
    rewards = load_rewards(["verifiers:sums=0.5"])
    result = asyncio.run(judged(rewards, second, trajectory(call(3, 4, Status.OK), saying("So it is 2")), UNSCORED))
    # exact 1 of weight 2, two turns, a known answer; half of the sum
    assert result.parts == {
        "verifiers:sums/exact": 2.0,
        "verifiers:sums/turns": 0.5,
        "verifiers:sums/known": 1.0,
    }
    assert result.total == 0.5 * 3.5
    assert asyncio.run(judged(rewards, first, trajectory(saying("no")), UNSCORED)).total == 0.5 * 2


@needs_verifiers
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("endless", "makes tasks without an end; say how many"),
        ("boxed_in", "needs a container"),
        ("tooled", "has tools of its own"),
        ("talkative", "task 1: one question of text can be asked, found a conversation of 3 messages"),
        ("nowhere_to_be_found", "ModuleNotFoundError"),
        ("sums,most=many", "ValidationError"),
    ],
)
def test_task_sets_that_cannot_be_asked_are_refused(sums, spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_problems(f"verifiers:{spec}")


@needs_verifiers
def test_rewards_that_need_more_than_a_conversation_are_refused(sums) -> None:
    with pytest.raises(UsageError, match="its reward exact needs a container"):
        load_rewards(["verifiers:served"])
    (problem, *_) = load_problems("verifiers:sums").problems
    with pytest.raises(UsageError, match="give --problems verifiers:sums beside it"):
        asyncio.run(judged(load_rewards(["verifiers:sums"]), replace(problem, extra={}), trajectory(), UNSCORED))
    with pytest.raises(UsageError, match=r"division by zero"):
        asyncio.run(judged(load_rewards(["verifiers:broken"]), problem, trajectory(saying("2")), UNSCORED))


@pytest.mark.skipif(find_spec("verifiers") is not None, reason="verifiers is installed here")
@pytest.mark.parametrize("load", [load_problems, lambda spec: load_rewards([spec])])
def test_without_the_package_its_name_is_said(load) -> None:
    load_taskset.cache_clear()
    with pytest.raises(UsageError, match=r"needs the package verifiers, 0\.4 or later"):
        load("verifiers:gsm8k")
