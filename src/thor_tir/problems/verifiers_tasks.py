"""Task sets of `verifiers` (PyPI, 0.4 and later) as problems; `rollout/verifiers_reward.py` judges attempts at them.

What can be asked is a task with one question and functions that judge an answer from the conversation. Refused are task
sets with tools of their own, with a container, with another environment than a single agent's, or without an end.
"""

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from types import ModuleType
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.hooks import blamed, spelling_of
from thor_tir.problem import digest
from thor_tir.problems.columns import ANSWER_FIELDS

PREFIX = "verifiers:"
"""Beginning of a spelling that names a task set: `verifiers:gsm8k,split=test`."""
KEPT = "verifiers"
"""Field of `Problem.extra` that holds the task for its rewards."""


def task_rows(spec: str, count: int | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Tasks of a set as rows with question, answer and system message. Raises UsageError for what cannot be asked."""
    taskset = load_taskset(spec)
    if not taskset.bounded and count is None:
        raise UsageError(f"{PREFIX}{spec} makes tasks without an end; say how many are wanted")
    with blamed(f"{PREFIX}{spec}"):
        for number, task in enumerate(islice(taskset, count), 1):
            where = f"{PREFIX}{spec}, task {number}"
            yield where, _row(task, where)


@cache
def load_taskset(spec: str) -> Any:
    """The task set of that spelling. Raises UsageError where there is none, or one that cannot be asked."""
    vf = package()
    spelled = spelling_of(spec)
    loaders = importlib.import_module("verifiers.v1.utils.loaders")
    name = f"{PREFIX}{spelled.name}"
    with blamed(name):
        kind = loaders.taskset_class(spelled.name)
        config_type = loaders.concrete_type(kind, vf.TasksetConfig) or vf.TasksetConfig
        config = config_type.model_validate({"id": spelled.name, **spelled.parameters})
        taskset = kind(config)
        environment = loaders.environment_class(spelled.name)
        task_type = kind.task_type()
        tools = [*kind.toolsets(config), *task_type.toolsets(getattr(config, "task", None))]
    if environment is not vf.SingleAgentEnv:
        raise UsageError(f"{name} has an environment of its own ({environment.__name__}); a single agent can be asked")
    if tools:
        raise UsageError(
            f"{name} has tools of its own, which run as servers of verifiers; give the model --tool instead"
        )
    if task_type.NEEDS_CONTAINER:
        raise UsageError(f"{name} needs a container; programs run in the sandbox here")
    return taskset


def package() -> ModuleType:
    """`verifiers.v1`. Raises UsageError where it is not installed, or too old."""
    try:
        return importlib.import_module("verifiers.v1")
    except ImportError as error:
        raise UsageError(
            f"{PREFIX}NAME needs the package verifiers, 0.4 or later, and the task set's own: "
            f"pip install '.[verifiers]' ({error})"
        ) from error


def _row(task: Any, where: str) -> Mapping[str, Any]:
    data = task.data
    facts = data.model_dump(mode="json", exclude_none=True)
    question, system = _asked(data, where)
    answer = next((str(facts[name]) for name in ANSWER_FIELDS if isinstance(facts.get(name), str | int | float)), "")
    return {
        "id": data.id or data.name or digest(question),
        "question": question,
        "answer": answer,
        "system": "\n\n".join(filter(None, (data.system_prompt, system))),
        "extra": {KEPT: {"task": facts}},
    }


def _asked(data: Any, where: str) -> tuple[str, str]:
    """Question and system message of a task."""
    if isinstance(data.prompt, str):
        return data.prompt, ""
    turns = [(message.role, message.content) for message in data.prompt or []]
    asked = [content for role, content in turns if role == "user"]
    said = [content for role, content in turns if role == "system"]
    if len(asked) != 1 or len(turns) != 1 + len(said) or not all(isinstance(text, str) for _, text in turns):
        raise UsageError(f"{where}: one question of text can be asked, found a conversation of {len(turns)} messages")
    return asked[0], "\n\n".join(said)
