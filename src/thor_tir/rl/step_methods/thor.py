"""The paper's method (section 2.3.2): delete a failed call with its error, write the step again, reward its execution.

Prefix: the trajectory up to L_suf tokens before the call. Group: `step.num_generations` single steps. Reward: the call
was executed and succeeded. Advantage: among the group, for the rewritten suffix and call.
"""

from thor_tir.rl.step import before_the_call
from thor_tir.rl.step_methods.method import OF_GROUPS, Evidence, StepMethod, StepRound
from thor_tir.rl.step_methods.repairs import failed_calls, repairs_of


async def gather(found: StepRound) -> Evidence:
    """Repairs of the failed calls."""
    return await repairs_of(found, failed_calls(found, before_the_call))


METHOD = StepMethod(reads=OF_GROUPS | {"which", "max_queries_share", "suffix_tokens", "cut", "reward"}, gather=gather)
