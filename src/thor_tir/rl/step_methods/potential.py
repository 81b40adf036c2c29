"""Potential: after each turn the model is asked for its answer at once, and a turn is credited by what it adds to that.

Prefix: the trajectory up to the end of each turn but the last, and `step.probe` behind it. Group:
`step.num_generations` short answers, which are never trained. From them: acc, the share that is right, and conf, the
mean of exp(mean log probability of an answer's tokens). Potential: Phi = 1.5 acc conf + 0.5 acc - conf, between -1 and
1. Advantage of turn t: A f_t + `step.shaping` (Phi_t - Phi_{t-1}), where A is the trajectory's own; f_t is 1, and 1/2
once Phi was above 0.9 before the turn: what follows a solution earns less. The last turn has no probe behind it: its
answer is in A.

After SPAE (arXiv 2601.03823; Phi from its released example). There acc is the mean probability of the reference's
tokens, which takes the weights to score; here the share of right answers, which any engine gives. There conf has the
entropy of whole distributions, here its unbiased estimate from the tokens that were drawn. Its functions of saturation
and difference could not be read; the forms are those above.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import exp, fsum

from thor_tir.learner.sample import TrainingSample
from thor_tir.problem import Problem
from thor_tir.rl.config import RLConfig
from thor_tir.rl.samples import EPISODE
from thor_tir.rl.shaping import CreditGroup, Shape, with_credit
from thor_tir.rl.step import StepPrompt
from thor_tir.rl.step_methods.branches import after
from thor_tir.rl.step_methods.method import Evidence, StepMethod, StepRound
from thor_tir.rl.step_methods.returns import by_turn
from thor_tir.rollout.sample_many import DROPPED, Attempt, record_all
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import JsonObject
from thor_tir.verdict import Outcome

SATURATED = 0.9
"""Potential above which an answer counts as found."""
AFTERWARDS = 0.5
"""Factor of the trajectory's advantage in turns that begin with the answer found."""


def potential(acc: float, conf: float) -> float:
    """Phi: 1 where the model is sure and right, -1 where it is sure and wrong, 0 where it knows nothing."""
    return 1.5 * acc * conf + 0.5 * acc - conf


def turn_advantages(advantage: float, potentials: Sequence[float], *, shaping: float) -> list[float]:
    """Advantage of each turn; `potentials` are those before the first and behind every turn but the last."""
    found = []
    for turn, before in enumerate(potentials):
        is_found = max(potentials[: turn + 1]) > SATURATED
        gain = potentials[turn + 1] - before if turn + 1 < len(potentials) else 0.0
        found.append(advantage * (AFTERWARDS if is_found else 1.0) + shaping * gain)
    return found


async def _probe(prompt: StepPrompt, sample: int, problem: Problem, found: StepRound) -> JsonObject:
    """One answer at once, judged. Machine faults pass through."""
    config, agent = found.config.step, found.setup.agent
    sampling = found.setup.config.sampling(
        config.probe_tokens, stop=("}",), seed=seed_of(found.config.seed, prompt.id, "probe", sample)
    )
    with agent.policy.attend():
        asked = (*prompt.prefix.token_ids, *agent.dialect.encode(config.probe))
        span = (await agent.policy.sample(asked, sampling)).span
    verdict = await found.setup.grade(problem, config.probe + agent.dialect.decode(span.token_ids))
    surprise = -fsum(span.logprobs or ()) / max(1, len(span))
    return {"probe": {"outcome": verdict.outcome.value, "surprise": surprise, "tokens": len(span)}}


async def gather(found: StepRound) -> Evidence:
    """Potentials of all trajectories; those of which a probe was lost have none."""
    points: dict[str, list[StepPrompt]] = {}
    problems: dict[str, Problem] = {}
    for group in found.groups:
        for attempt in group:
            first, steps = after(group[0].trajectory, 0), len(attempt.trajectory.steps)
            points[attempt.trajectory.id] = [first, *(after(attempt.trajectory, n) for n in range(1, steps))]
            problems |= {prompt.id: attempt.problem for prompt in points[attempt.trajectory.id]}
    prompts = {prompt.id: prompt for own in points.values() for prompt in own}
    samples = range(found.config.step.num_generations)
    work = {
        f"{id}/probe{sample}": partial(_probe, prompt, sample, problems[id], found)
        for id, prompt in prompts.items()
        for sample in samples
    }
    journal = found.source.rollouts
    await record_all(work, found.setup, journal)
    rows = {id: [journal[f"{id}/probe{sample}"] for sample in samples] for id in prompts}
    lost = sum(DROPPED in row for own in rows.values() for row in own)
    known = {id: _potential_of(own) for id, own in rows.items()}
    potentials = {id: [known[prompt.id] for prompt in own] for id, own in points.items()}
    return Evidence(
        potentials={id: [p for p in own if p is not None] for id, own in potentials.items() if None not in own},
        probe_tokens=sum(row["probe"]["tokens"] for own in rows.values() for row in own if DROPPED not in row),
        unrewarded=Counter({"potential: probe lost": lost} if lost else {}),
    )


def _potential_of(rows: Sequence[JsonObject]) -> float | None:
    probes: list[JsonObject] = [row["probe"] for row in rows if DROPPED not in row]
    if not probes:
        return None
    acc = sum(probe["outcome"] == Outcome.CORRECT.value for probe in probes) / len(probes)
    return potential(acc, fsum(exp(-probe["surprise"]) for probe in probes) / len(probes))


def _shape(config: RLConfig, evidence: Evidence, group: CreditGroup, nll_weight: float) -> list[TrainingSample]:
    if group.level != EPISODE:
        return list(group.rows)
    attempts: Sequence[Attempt] = group.samples
    rows = []
    for row, attempt, advantage in zip(group.rows, attempts, group.advantages, strict=True):
        potentials = evidence.potentials.get(attempt.trajectory.id)
        if potentials is None:
            rows.append(row)
            continue
        turns = turn_advantages(advantage, potentials, shaping=config.step.shaping)
        said = "the step method potential"
        rows.append(with_credit(row, by_turn(attempt.trajectory, turns), EPISODE, nll_weight, said))
    return rows


def credit(config: RLConfig, evidence: Evidence) -> Shape:
    """One advantage a turn, by the potentials around it."""
    return partial(_shape, config, evidence)


METHOD = StepMethod(
    reads=frozenset({"num_generations", "probe", "probe_tokens", "shaping"}), gather=gather, credit=credit
)
