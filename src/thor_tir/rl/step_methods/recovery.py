"""Recovery: the failed call and its error stay in the context, and what is learnt is to go on from there.

Prefix: the trajectory up to the end of the error's observation. Group: `step.num_generations` continuations, to the
next call or to the answer. Reward: that call succeeded, or the answer is right. Advantage: among the group, for all
that the model wrote behind the error.

After Fission-GRPO (arXiv 2601.15625), which puts the diagnosis of a fine-tuned error simulator in place of the error
and keeps failed trajectories in a buffer over rounds. Here the error is the sandbox's own, and each round repairs its
own failures.
"""

from thor_tir.rl.config import StepConfig
from thor_tir.rl.step import StepPrompt
from thor_tir.rl.step_methods.branches import after, as_evidence, branches_of
from thor_tir.rl.step_methods.method import OF_GROUPS, Evidence, StepMethod, StepRound
from thor_tir.rl.step_methods.repairs import failed_calls, repairs_of
from thor_tir.trajectory import Trajectory


def after_the_error(trajectory: Trajectory, call: int, config: StepConfig) -> StepPrompt:
    """The prefix that ends with the observation of the failed call."""
    return after(trajectory, call + 1)


async def gather(found: StepRound) -> Evidence:
    """Continuations of the failed calls."""
    prompts = failed_calls(found, after_the_error)
    if found.config.step.horizon == "call":
        return await repairs_of(found, prompts)
    problems = {attempt.trajectory.id: attempt.problem for attempt in found.attempts}
    made = await branches_of(found, prompts, problems)
    return as_evidence(prompts, made, found.config.step.num_generations)


METHOD = StepMethod(reads=OF_GROUPS | {"which", "max_queries_share", "horizon", "reward"}, gather=gather)
