"""Reward and advantage of what training sampled, from its journals and the options that lie beside them.

Which rows were trained stands in `updates.jsonl`; advantages are computed among those of a group, by the functions that
the trainer uses. A row that entered no update has none.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from thor_tir.rl.step_reward import REWARDS
from thor_tir.rollout.backtrack import CUTS, kept_thought
from thor_tir.tirgen.rules import fault_of
from thor_tir.trajectory import Span, Step
from thor_tir.view.entries import Entry
from thor_tir.view.run import ViewedFile, ViewedRun, group_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """The credit of one sample."""

    reward: float | None
    """Reward; None where there was none to give."""
    advantage: float | None
    """Advantage among its group; None where it was not trained."""
    update: int | None
    """Optimiser step that it was part of."""


def training_options(run: ViewedRun, file: ViewedFile) -> Mapping[str, Any]:
    """The options of training beside a journal; empty where they are not written down."""
    found = run.json_above(file, "config.json").get("rl")
    return found if isinstance(found, Mapping) else {}


def updates_beside(run: ViewedRun, file: ViewedFile) -> Mapping[str, int]:
    """Optimiser step by the id of each row that was trained, from the journals in the folder of this one."""
    return _beside(run, file, lambda f: f.trained_in)


def _beside(run: ViewedRun, file: ViewedFile, of: Callable[[ViewedFile], dict[str, T]]) -> Mapping[str, T]:
    """Content of the journals in the folder of this one, by id; of two the later one counts."""
    return ChainMap(*(of(f) for f in reversed(run.files) if f.path.parent == file.path.parent))


def episode_credit(run: ViewedRun, file: ViewedFile, entry: Entry) -> Credit:
    """The credit of a trajectory among the attempts at its problem in its round."""
    updates = updates_beside(run, file)
    if entry.key not in updates:
        return Credit(reward=entry.reward, advantage=None, update=None)
    shaped = _beside(run, file, lambda f: f.advantages)
    if entry.key in shaped:
        return Credit(reward=entry.reward, advantage=shaped[entry.key], update=updates[entry.key])
    group = [e for e in file.together(group_of(entry)) if e.key in updates]
    rewards = [e.reward or 0.0 for e in group]  # a row that was trained has one
    advantage = dict(zip((e.key for e in group), _advantages(run, file, rewards), strict=True))[entry.key]
    return Credit(reward=entry.reward, advantage=advantage, update=updates[entry.key])


def step_credits(run: ViewedRun, file: ViewedFile, repairs: Mapping[str, Step]) -> dict[str, Credit]:
    """The credit of all repairs of one failed call, by key."""
    rewards = _step_rewards(run, file, repairs)
    if rewards is None:
        return dict.fromkeys(repairs, Credit(reward=None, advantage=None, update=None))
    updates, shaped = updates_beside(run, file), _beside(run, file, lambda f: f.advantages)
    advantages = _advantages(run, file, rewards)
    return {
        key: Credit(
            reward=earned,
            advantage=shaped.get(key, advantage) if key in updates else None,
            update=updates.get(key),
        )
        for key, earned, advantage in zip(repairs, rewards, advantages, strict=True)
    }


def _step_rewards(run: ViewedRun, file: ViewedFile, repairs: Mapping[str, Step]) -> list[float] | None:
    """Rewards as functions of the user's own gave them, else by the packaged one of the run; None where neither did."""
    if all(key in file.earned for key in repairs):
        return [file.earned[key] for key in repairs]
    step = training_options(run, file).get("step")
    name = step.get("reward") if isinstance(step, Mapping) else None
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if not isinstance(name, str) or name not in REWARDS:
        return None
    return REWARDS[name](
        list(repairs.values()), lambda code: fault_of(code, needs_import_or_control_flow=False) is None
    )


def kept_before(run: ViewedRun, file: ViewedFile, failed: Step) -> Span | None:
    """The part of a failed step's thought that its repairs begin with; None where the cut is not written down."""
    step = training_options(run, file).get("step")
    if not isinstance(step, Mapping) or not isinstance(step.get("suffix_tokens"), int):
        return None
    if step.get("method") == "recovery":
        return failed.thought.span[:0]  # nothing is written again
    cut = next((cut for name, cut in CUTS.items() if name == step.get("cut")), None)
    return None if cut is None else kept_thought(failed, suffix_tokens=cut(failed, step["suffix_tokens"]))


def _advantages(run: ViewedRun, file: ViewedFile, rewards: Sequence[float]) -> list[float]:
    from thor_tir.rl.algorithms import ALGORITHMS

    loss = training_options(run, file).get("loss")
    name = loss.get("algorithm") if isinstance(loss, Mapping) else None
    make = next((make for known, make in ALGORITHMS.items() if known == name), ALGORITHMS["token-mean"])
    return make(1).advantages(rewards)
