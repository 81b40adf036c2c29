"""The step methods by name."""

from collections.abc import Mapping

from thor_tir.rl.config import RLConfig, StepMethodName
from thor_tir.rl.step_methods import locate, potential, recovery, returns, thor
from thor_tir.rl.step_methods.method import StepMethod

METHODS: Mapping[StepMethodName, StepMethod] = {
    "thor": thor.METHOD,
    "recovery": recovery.METHOD,
    "returns": returns.METHOD,
    "locate": locate.METHOD,
    "potential": potential.METHOD,
    "none": StepMethod(),
}


def method_of(config: RLConfig) -> StepMethod:
    """The step method of a run; none where it trains on whole trajectories alone."""
    return METHODS["none" if config.levels == "episode" else config.step.method]
