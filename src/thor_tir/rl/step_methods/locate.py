"""Locate: search a wrong trajectory for the first step from behind which nothing succeeds, and learn from the search.

Prefix: the middle between the longest prefix from which something succeeded and the shortest one from which nothing
did, at most `step.probes` of them a trajectory. Group: `step.num_generations` continuations of such a prefix to their
answer. Reward: that of any trajectory. Advantage: among the group (local) plus among all trajectories and continuations
of the problem (global), for all that a continuation wrote; where a whole group fails, the global part alone is left.

The prompt itself counts as recoverable, and only problems are searched of which some trajectory is right. Trajectories
of one step need no search.

After ELPO (arXiv 2602.09598; its text could not be read here, an abstract and a review could). Its choice of
trajectories by entropy gap is a draw here, local and global advantage are added with equal weights, and its wider clip
on the step that is found is left out: with one update a round no ratio reaches a clip.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from thor_tir.rl.algorithms import Advantages, compose
from thor_tir.rl.step import StepPrompt, drawn
from thor_tir.rl.step_methods.branches import after, as_evidence, branches_of
from thor_tir.rl.step_methods.method import OF_GROUPS, Evidence, StepMethod, StepRound
from thor_tir.rollout.sample_many import Attempt
from thor_tir.seeds import seed_of
from thor_tir.verdict import Outcome


@dataclass(slots=True, kw_only=True)
class Search:
    """The search for the first irrecoverable step of one trajectory."""

    num_steps: int
    """Steps of the trajectory: all of them together failed."""
    recoverable: int = 0
    """Steps of the longest prefix from which something succeeded."""
    irrecoverable: int = field(init=False)
    """Steps of the shortest prefix from which nothing did."""
    num_probes: int = 0
    """Prefixes that were tried."""

    def __post_init__(self) -> None:
        self.irrecoverable = self.num_steps

    def next_probe(self, most: int) -> int | None:
        """Steps of the prefix that is tried next; None where the step is found, or no probe is left."""
        if self.irrecoverable - self.recoverable <= 1 or self.num_probes >= most:
            return None
        return (self.recoverable + self.irrecoverable) // 2

    def learn(self, num_steps: int, *, succeeds: bool) -> None:
        """Take in what continuations of so many steps came to."""
        self.num_probes += 1
        if succeeds:
            self.recoverable = num_steps
        else:
            self.irrecoverable = num_steps


def searched(found: StepRound) -> list[Attempt]:
    """Wrong trajectories of several steps at problems that some trajectory solved, down-sampled as queries are."""
    solvable = [group for group in found.groups if any(attempt.is_correct for attempt in group)]
    wrong = [
        attempt
        for group in solvable
        for attempt in group
        if attempt.verdict.outcome is Outcome.WRONG and len(attempt.trajectory.steps) > 1
    ]
    return drawn(wrong, found.max_queries, seed_of(found.config.seed, "queries", found.number))


async def gather(found: StepRound) -> Evidence:
    """The continuations of all searches, one probe of each at a time."""
    attempts = {attempt.trajectory.id: attempt for attempt in searched(found)}
    problems = {id: attempt.problem for id, attempt in attempts.items()}
    searches = {id: Search(num_steps=len(attempt.trajectory.steps)) for id, attempt in attempts.items()}
    prompts: list[StepPrompt] = []
    made: dict[str, Sequence[Attempt]] = {}
    while asked := {id: n for id, s in searches.items() if (n := s.next_probe(found.config.step.probes)) is not None}:
        probed = {id: after(attempts[id].trajectory, num_steps) for id, num_steps in asked.items()}
        grown = await branches_of(found, list(probed.values()), problems)
        for id, num_steps in asked.items():
            searches[id].learn(num_steps, succeeds=any(each.is_correct for each in grown[probed[id].id]))
        prompts += probed.values()
        made.update(grown)
    advantages = compose(found.config.loss, max_tokens=found.config.rollout.max_completion_length).advantages
    standings = global_advantages(found.groups, made.values(), advantages)
    return as_evidence(prompts, made, found.config.step.num_generations, standings)


def global_advantages(
    groups: Sequence[Sequence[Attempt]], branches: Iterable[Sequence[Attempt]], advantages: Advantages
) -> dict[str, float]:
    """Advantage of each continuation among all trajectories and continuations of its problem, by its id."""
    grown: dict[str, list[Attempt]] = {}
    for attempt in (attempt for group in branches for attempt in group):
        grown.setdefault(attempt.problem.id, []).append(attempt)
    standings: dict[str, float] = {}
    for group in groups:
        if not group or not (others := grown.get(group[0].problem.id)):
            continue
        rewards = {a.trajectory.id: a.reward for a in (*group, *others) if a.reward is not None}
        standings |= dict(zip(rewards, advantages(list(rewards.values())), strict=True))
    return standings


METHOD = StepMethod(reads=OF_GROUPS | {"max_queries_share", "probes"}, gather=gather)
