"""One step sampled from each prefix, rewarded by its call: the step groups of the paper."""

from collections.abc import Mapping, Sequence
from functools import partial

from thor_tir.rl.repair_rewards import earned_from_json, earned_to_json, judged_repairs, load_repair_rewards
from thor_tir.rl.step import (
    PromptOf,
    StepPrompt,
    queries,
    repair_from_json,
    repair_to_json,
    rewarded,
    sample_repair,
    with_reward,
)
from thor_tir.rl.step_methods.method import Evidence, StepGroup, StepRound
from thor_tir.rollout.rewards import Judged
from thor_tir.rollout.sample_many import DROPPED, record_all
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Step


def failed_calls(found: StepRound, prompt_of: PromptOf) -> list[StepPrompt]:
    """The failed calls of the round that are repaired, as prefixes."""
    return queries(
        found.attempts,
        found.config.step,
        max_queries=found.max_queries,
        seed=seed_of(found.config.seed, "queries", found.number),
        call_success=found.config.rollout.call_success,
        prompt_of=prompt_of,
    )


async def repairs_of(found: StepRound, prompts: Sequence[StepPrompt]) -> Evidence:
    """A group of single steps from each prefix, with their rewards."""
    config, journal = found.config, found.source.rollouts

    async def one(query: StepPrompt, sample: int) -> JsonObject:
        step = await sample_repair(query, sample, found.source.setup.agent, config.rollout, seed=config.seed)
        return repair_to_json(query, query.repair_id(sample), step)

    samples = range(config.step.num_generations)
    await record_all({q.repair_id(n): partial(one, q, n) for q in prompts for n in samples}, found.setup, journal)

    def of(query: StepPrompt) -> dict[str, Step]:
        rows = {id: journal[id] for id in map(query.repair_id, samples)}
        return {id: repair_from_json(row) for id, row in rows.items() if DROPPED not in row}

    groups = await _rewarded([(query, of(query)) for query in prompts], found)
    return Evidence(groups=groups, num_asked=len(prompts) * config.step.num_generations)


async def _rewarded(sampled: Sequence[tuple[StepPrompt, Mapping[str, Step]]], found: StepRound) -> list[StepGroup]:
    """The repairs with their rewards; what functions of one's own gave is journaled and not asked again."""
    source = found.source
    rewards = load_repair_rewards(found.config.step.reward, source.is_substantial)
    if rewards.is_packaged:
        name = rewards.named[0].name
        return [(query, rewarded(steps, name, source.is_substantial)) for query, steps in sampled]
    parents = {attempt.trajectory.id: attempt for attempt in found.attempts}

    async def judge(query: StepPrompt, steps: Mapping[str, Step]) -> JsonObject:
        parent = parents[query.prefix.parent]
        failed = parent.trajectory.steps[query.prefix.call]
        judged = await judged_repairs(rewards, parent.problem, failed, list(steps.values()))
        return earned_to_json(list(steps), judged)

    work = {q.rewards_id: partial(judge, q, steps) for q, steps in sampled if steps}
    await record_all(work, source.setup, source.rollouts)

    def earned(query: StepPrompt) -> Mapping[str, Judged]:
        row = source.rollouts[query.rewards_id] if query.rewards_id in work else {DROPPED: ""}
        return {} if DROPPED in row else earned_from_json(row)

    return [(q, [with_reward(id, steps[id], judged) for id, judged in earned(q).items()]) for q, steps in sampled]
