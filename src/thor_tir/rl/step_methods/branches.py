"""Trajectories that go on from a prefix of another one to their own end, graded and rewarded as any trajectory is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from thor_tir.problem import Problem
from thor_tir.rl.step import StepPrompt, StepSample
from thor_tir.rl.step_methods.method import Evidence, StepGroup, StepRound
from thor_tir.rollout.loop import Draft
from thor_tir.rollout.sample_many import (
    DROPPED,
    Attempt,
    SamplingSetup,
    attempt_from_json,
    attempt_to_json,
    graded_rollout,
    record_all,
)
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Author, Prefix, Span, Step, Thought, Trajectory, dated

_NOTHING = Span(token_ids=(), author=Author.MODEL, logprobs=())


def after(trajectory: Trajectory, num_steps: int) -> StepPrompt:
    """The prefix that ends with the observation of so many steps; 0 for the prompt alone."""
    kept = trajectory.steps[:num_steps]
    spans = (trajectory.prompt, *(span for step in kept for span in step.spans), _NOTHING)
    prefix = Prefix(spans=spans, parent=trajectory.id, call=max(0, num_steps - 1))
    return StepPrompt(id=f"{trajectory.id}/after{num_steps}", prefix=prefix, earlier=_dated(trajectory)[:num_steps])


def _dated(trajectory: Trajectory) -> tuple[Step, ...]:
    """The steps, each of whose tokens says which weights sampled it: a branch has those of another time too."""
    return tuple(dated(step, trajectory.policy_version) for step in trajectory.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One continuation that is wanted."""

    id: str
    """Unique within the run; the key of the journal."""
    problem: Problem
    """Problem that is attempted."""
    prompt: StepPrompt
    """Prefix that it goes on from."""
    seed: int
    """Seed of the continuation."""


async def grown(branch: Branch, setup: SamplingSetup) -> Attempt:
    """The whole trajectory, prefix included, graded. Machine faults pass through."""
    draft = Draft(
        id=branch.id,
        problem_id=branch.problem.id,
        prompt=branch.prompt.prefix.spans[0],
        seed=branch.seed,
        steps=list(branch.prompt.earlier),
    )
    return await graded_rollout(draft, branch.problem, setup)


async def branches_of(
    found: StepRound, prompts: Sequence[StepPrompt], problems: Mapping[str, Problem]
) -> Mapping[str, Sequence[Attempt]]:
    """`step.num_generations` continuations of each prefix, by the prefix's id; without what the machine lost.

    `problems` are those of the trajectories that the prefixes were cut from, by the trajectory's id.
    """
    wanted = [
        Branch(
            id=prompt.repair_id(sample),
            problem=problems[prompt.prefix.parent],
            prompt=prompt,
            seed=seed_of(found.config.seed, prompt.id, sample),
        )
        for prompt in prompts
        for sample in range(found.config.step.num_generations)
    ]

    async def one(branch: Branch) -> JsonObject:
        return attempt_to_json(await grown(branch, found.setup))

    journal = found.source.rollouts
    await record_all({branch.id: partial(one, branch) for branch in wanted}, found.setup, journal)
    made: dict[str, list[Attempt]] = {prompt.id: [] for prompt in prompts}
    for branch in wanted:
        if DROPPED not in (row := journal[branch.id]):
            made[branch.prompt.id].append(attempt_from_json(row, branch.problem))
    return made


def as_evidence(
    prompts: Sequence[StepPrompt],
    made: Mapping[str, Sequence[Attempt]],
    num_generations: int,
    standings: Mapping[str, float] | None = None,
) -> Evidence:
    """Continuations as groups that share a prefix, rewarded as trajectories are; those without a reward are counted."""
    groups: list[StepGroup] = []
    unrewarded: Counter[str] = Counter()
    for prompt in prompts:
        scored = [attempt for attempt in made[prompt.id] if attempt.reward is not None]
        unrewarded["step: unscored"] += len(made[prompt.id]) - len(scored)
        groups.append((prompt, [_sample(prompt, attempt, standings or {}) for attempt in scored]))
    return Evidence(groups=groups, num_asked=len(prompts) * num_generations, unrewarded=+unrewarded)


def _sample(prompt: StepPrompt, attempt: Attempt, standings: Mapping[str, float]) -> StepSample:
    first, *later = _dated(attempt.trajectory)[len(prompt.earlier) :] or (
        Step(thought=Thought(text="", span=_NOTHING)),
    )
    reward = attempt.reward
    assert reward is not None
    return StepSample(
        id=attempt.trajectory.id,
        step=first,
        later=tuple(later),
        reward=reward,
        parts={} if attempt.judged is None else attempt.judged.parts,
        standing=standings.get(attempt.trajectory.id, 0.0),
    )
