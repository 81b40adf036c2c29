"""The trajectories of a problem as a tree: some are sampled whole first, the others go on from a turn of one of these.

`entropy`: after ARPO (arXiv 2507.19849, its released rollout code). A chain branches behind an observation where
u - w (H_t - H_0), clamped to [0, 1], is at most 1/2, with u uniform and w = 1/2: rather where the model is less sure
than at its first turn. H is there the entropy of a turn's first tokens over the logarithm of the vocabulary, from the
ten most likely ones; here it is their mean surprise in nats, which needs the drawn tokens alone. Chains are finished
before they branch, and what no place asks for is sampled whole.

`tree`: after Tree-GRPO (arXiv 2509.21240). Each of the first chains is the root of a tree; the others re-expand a
random turn of it that is not its last, or the prompt where it has no other. Advantage: among the members of its tree
plus among all of the problem; a tree of one adds nothing. The paper adds the two, its released code normalises one
after the other.

A branch is a row like any other, whose prefix was sampled by another trajectory under the same weights: prefix tokens
stand in several rows, each time with the advantage of that row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import fsum
from random import Random

from thor_tir.rl.algorithms import Advantages
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.step import StepPrompt
from thor_tir.rl.step_methods.branches import Branch, after, grown
from thor_tir.rollout.sample_many import (
    DROPPED,
    Attempt,
    AttemptRequest,
    SamplingSetup,
    attempt,
    attempt_from_json,
    attempt_to_json,
    record_all,
)
from thor_tir.storage.journal import Journal, JsonObject
from thor_tir.trajectory import Step, Trajectory

FIRST_TOKENS = 10
"""Tokens at the beginning of a turn whose surprise is looked at."""
WEIGHT = 0.5
"""w: weight of the difference in entropy."""
THRESHOLD = 0.5
"""Largest number at which a chain branches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """The groups of some problems."""

    groups: Sequence[Sequence[Attempt]]
    """Trajectories of each problem, without those that were lost."""
    roots: Mapping[str, str]
    """Id of the first trajectory of a member's tree, by the member's id; empty where no trees are compared."""
    num_shared: int = 0
    """Sampled tokens that stand in a trajectory and were sampled for another one."""


def surprise(step: Step) -> float:
    """Mean -log probability of the first tokens that the model wrote in a turn: an estimate of its entropy, in nats."""
    written = [lp for span in step.spans for lp in span.logprobs or ()][:FIRST_TOKENS]
    return -fsum(written) / max(1, len(written))


def branches_at(drawn: float, gain: float) -> bool:
    """True where a chain branches: `gain` is H_t - H_0, `drawn` uniform in [0, 1]."""
    return min(1.0, max(0.0, drawn - WEIGHT * gain)) <= THRESHOLD


def entropy_places(chains: Sequence[Trajectory], wanted: int, *, seed: str) -> list[StepPrompt | None]:
    """Prefixes behind observations at which chains branch, filled up with None: whole trajectories."""
    rng, places = Random(seed), list[StepPrompt | None]()
    for chain in chains:
        for turn, step in enumerate(chain.steps[1:], 1):
            if branches_at(rng.random(), surprise(step) - surprise(chain.steps[0])):
                places.append(after(chain, turn))
    return [*places[:wanted], *[None] * (wanted - len(places))]


def tree_places(chains: Sequence[Trajectory], wanted: int, *, seed: str) -> list[StepPrompt | None]:
    """A random turn of each chain in turns that is not its last, or its prompt; None where there is no chain."""
    rng = Random(seed)
    if not chains:
        return [None] * wanted
    roots = [chains[number % len(chains)] for number in range(wanted)]
    return [after(root, rng.randrange(1, max(2, len(root.steps))) if len(root.steps) > 1 else 0) for root in roots]


async def grow(
    requests: Sequence[Sequence[AttemptRequest]], setup: SamplingSetup, journal: Journal, config: EpisodeConfig
) -> Grown:
    """A group of attempts for each group of requests, grown as the configuration has it."""

    async def whole(request: AttemptRequest) -> JsonObject:
        return attempt_to_json(await attempt(request, setup))

    async def branch(request: AttemptRequest, prompt: StepPrompt) -> JsonObject:
        going_on = Branch(id=request.id, problem=request.problem, prompt=prompt, seed=request.seed)
        return attempt_to_json(await grown(going_on, setup))

    def made(asked: Sequence[AttemptRequest]) -> list[Attempt]:
        return [attempt_from_json(journal[r.id], r.problem) for r in asked if DROPPED not in journal[r.id]]

    first = config.num_chains
    await record_all({r.id: partial(whole, r) for group in requests for r in group[:first]}, setup, journal)
    if config.grouping == "chains":
        return Grown(groups=list(map(made, requests)), roots={})
    places: dict[str, StepPrompt | None] = {}
    roots: dict[str, str] = {}
    for group in requests:
        chains, wanted = [a.trajectory for a in made(group[:first])], group[first:]
        seed = f"{config.grouping} {group[0].seed}"
        if config.grouping == "entropy":
            found = entropy_places(chains, len(wanted), seed=seed)
        else:
            found = tree_places(chains, len(wanted), seed=seed)
            roots |= {chain.id: chain.id for chain in chains}
            roots |= {r.id: p.prefix.parent for r, p in zip(wanted, found, strict=True) if p is not None}
        places |= {request.id: place for request, place in zip(wanted, found, strict=True)}
    later = [request for group in requests for request in group[first:]]
    work = {r.id: partial(whole, r) if (p := places[r.id]) is None else partial(branch, r, p) for r in later}
    await record_all(work, setup, journal)
    kept = {a.trajectory.id for group in requests for a in made(group)}
    shared = [step for id, place in places.items() if place is not None and id in kept for step in place.earlier]
    return Grown(groups=list(map(made, requests)), roots=roots, num_shared=sum(step.num_sampled for step in shared))


def in_trees(
    members: Sequence[Attempt], rewards: Sequence[float], roots: Mapping[str, str], advantages: Advantages
) -> list[float]:
    """Advantage of each member among all plus among its tree."""
    trees: dict[str, list[int]] = {}
    for number, member in enumerate(members):
        trees.setdefault(roots.get(member.trajectory.id, member.trajectory.id), []).append(number)
    found = advantages(rewards)
    for tree in trees.values():
        if len(tree) > 1:
            for number, credit in zip(tree, advantages([rewards[n] for n in tree]), strict=True):
                found[number] += credit
    return found
