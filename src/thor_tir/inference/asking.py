"""Selectors that ask a model, made ready: `best_of_n.py` turns the opinions that they get into choices."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter

from thor_tir.address import is_address
from thor_tir.engines.openai_api.reward_endpoint import RewardEndpoint, RewardOptions
from thor_tir.engines.reward_model import load_reward_model
from thor_tir.errors import UsageError
from thor_tir.inference.best_of_n import ASKED, GEN_SELECT, Choice, Selector, choose
from thor_tir.inference.gen_select import GenSelect
from thor_tir.inference.opinions import Asker, Opinion
from thor_tir.inference.reward_scores import RewardAsker
from thor_tir.inference.tool_verified import ToolVerified
from thor_tir.pretrained import Tokenizer
from thor_tir.rollout.loop import Agent, RolloutConfig
from thor_tir.rollout.sample_many import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingSetup:
    """Everything that asking needs."""

    agent: Agent | None
    """Policy, sandbox and dialect of the candidates; None where no policy is there to be asked."""
    config: RolloutConfig
    """Limits and sampling of what the policy writes when it is asked."""
    tokenizer: Tokenizer | None
    """Tokenizer of the candidates' tokens; None where it is not known."""
    rewards: RewardOptions = field(default_factory=RewardOptions)
    """Reward models behind addresses."""
    say: Callable[[str], None] = print
    """Function that tells a person that a server does not answer."""


@asynccontextmanager
async def open_asker(asks: str, setup: AskingSetup) -> AsyncIterator[Asker]:
    """The model that a selector asks, for as long as it is asked. Raises UsageError for what cannot be had."""
    kind, _, place = asks.partition(":")
    if asks in ASKED:
        if setup.agent is None:
            raise UsageError(f"{asks} asks the model that wrote the candidates, and it is not loaded")
        yield (GenSelect if asks == GEN_SELECT else ToolVerified)(setup.agent, setup.config)
    elif is_address(place):
        async with RewardEndpoint(place, setup.rewards, setup.say) as endpoint:
            yield RewardAsker(endpoint, is_process=kind == "process")
    else:
        yield RewardAsker(load_reward_model(place, setup.tokenizer), is_process=kind == "process")


class Chooser:
    """A selector with what it asks."""

    def __init__(self, by: Selector, asker: Asker | None) -> None:
        self.by = by
        self._asker = asker

    async def choose(self, question: str, candidates: Sequence[Attempt], *, seed: int) -> tuple[Choice, Opinion | None]:
        """The best candidate, and the opinion that was asked for. Raises faults of the machine."""
        if self._asker is None or len(candidates) == 1:
            return choose(candidates, self.by, seed=seed), None
        opinion = await timed(self._asker, question, candidates, seed=seed)
        return choose(candidates, self.by, seed=seed, opinions=opinion.numbers), opinion


@asynccontextmanager
async def open_chooser(by: Selector, setup: AskingSetup) -> AsyncIterator[Chooser]:
    """A selector that is ready to choose, for as long as it is needed. Raises UsageError for what it cannot ask."""
    if not by.asks:
        yield Chooser(by, None)
        return
    async with open_asker(by.asks, setup) as asker:
        yield Chooser(by, asker)


async def timed(asker: Asker, question: str, candidates: Sequence[Attempt], *, seed: int) -> Opinion:
    """An opinion with the time that it took."""
    began = perf_counter()
    opinion = await asker.ask(question, candidates, seed=seed)
    return replace(opinion, seconds=perf_counter() - began)
