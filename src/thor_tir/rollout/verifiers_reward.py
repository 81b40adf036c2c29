"""Rewards of a task set of `verifiers`: its functions judge the conversation that a trajectory is.

The conversation is the question, the model's turns with the programs that they call, what these printed, and the last
turn. Functions that need a running container are refused when they are loaded, since verifiers would leave them out.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.verifiers_tasks import KEPT, PREFIX, load_taskset, package
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Verdict


class TasksetReward:
    """The sum of a task set's rewards, each under its name, its own weight included."""

    def __init__(self, spec: str) -> None:
        self._taskset = load_taskset(spec)
        self._name = f"{PREFIX}{spec}"
        self._task_config = getattr(self._taskset.config, "task", None)
        self._kind = self._taskset.task_type()
        probe = self._kind.__new__(self._kind)
        probe.config = self._task_config if self._task_config is not None else self._kind.config_type()()
        judges = [judge.score for judge in probe.plugged_judges()]
        functions = [*probe.hooks("reward"), *judges]
        if not functions:
            raise UsageError(f"{self._name} has no reward that judges a single task")
        for function in functions:
            runtime = inspect.signature(function).parameters.get("runtime")
            if runtime is not None and runtime.default is inspect.Parameter.empty:
                raise UsageError(f"{self._name}: its reward {function.__name__} needs a container, and there is none")

    async def __call__(self, problem: Problem, trajectory: Trajectory, verdict: Verdict) -> Mapping[str, float]:
        """The rewards of one trajectory by name."""
        facts = problem.extra.get(KEPT)
        if not isinstance(facts, Mapping):
            raise UsageError(f"{self._name} judges its own tasks: give --problems {self._name} beside it")
        task = self._kind(self._kind.data_type().model_validate(facts["task"]), self._task_config)
        trace = _trace(task, trajectory)
        await task.score(trace)
        missing = [name for name, reward in trace.rewards.items() if reward is None]
        if missing:
            raise UsageError(f"{self._name} gave no {', '.join(missing)} for the problem {problem.id}")
        return {name: reward.value for name, reward in trace.rewards.items()}


def _trace(task: Any, trajectory: Trajectory) -> Any:
    """The trajectory as verifiers records a conversation."""
    vf = package()
    trace = vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        is_completed=True,
        ok=True,
    )
    messages = [(vf.UserMessage(content=task.data.prompt_text), False)]
    for number, step in enumerate(trajectory.steps):
        if step.action is None or step.observation is None:
            messages.append((vf.AssistantMessage(content=step.thought.text), True))
            continue
        call = vf.ToolCall(id=f"call{number}", name="python", arguments=step.action.code)
        messages.append((vf.AssistantMessage(content=step.thought.text, tool_calls=[call]), True))
        messages.append((vf.ToolMessage(tool_call_id=call.id, content=step.observation.text), False))
    for place, (message, is_sampled) in enumerate(messages):
        parent = place - 1 if place else None
        trace.nodes.append(vf.MessageNode(parent=parent, message=message, sampled=is_sampled))
    return trace
