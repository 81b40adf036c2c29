"""Questions of a person to one model: it is loaded once, and answers as often as it is asked."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from thor_tir.app.config import CallConfig, ResourceConfig
from thor_tir.app.runtime import open_runtime
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.errors import UsageError
from thor_tir.eval.answer_json import answer_json, candidate_json
from thor_tir.inference.answering import Answer, AttemptLimits, Ears, answer, asked_prompt
from thor_tir.inference.asking import AskingSetup, Chooser, open_chooser
from thor_tir.inference.best_of_n import usable
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.pretrained import ChatTurn
from thor_tir.progress import Reporter
from thor_tir.rollout.loop import Agent, RolloutConfig
from thor_tir.rollout.overheard import Event
from thor_tir.storage.journal import JsonObject

TRAINED = (Path("runs/quickstart/rl/model"), Path("runs/quickstart/sft/model"))
"""Looked for in this order when no model is named."""
EMBEDDED = "nano/actor"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskConfig:
    """The model that is asked, and the way in which it answers."""

    model: str = ""
    """Model by name or address; empty for the newest trained model of the quickstart, else the embedded one."""
    served: ServedAs = field(default_factory=ServedAs)
    """Model, tokenizer and key of an address."""
    reasoning: bool = False
    """True for a reasoning model, whose chat template opens a thinking turn."""
    end_tokens: tuple[str, ...] = ()
    """Further tokens that end the model's turn."""
    chat_template: str = ""
    """Chat template in place of the model's own."""
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    """Form in which the model is shown what a program printed."""
    calls: CallConfig = field(default_factory=CallConfig)
    """Tools beside Python, and the spelling of calls."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Limits and sampling of each attempt."""
    correction: SelfCorrectionConfig = field(default_factory=SelfCorrectionConfig)
    """Repair of failed calls where there is one attempt."""
    attempts: int = 1
    """Number of attempts; a single one is made with self-correction, several without."""
    select: str = "pass-rate"
    """Name of the selector that chooses among several attempts."""
    rewards: RewardOptions = field(default_factory=RewardOptions)
    """Reward models behind addresses, for selectors that ask them."""

    def check(self) -> None:
        """Refuse what cannot be asked. Raises UsageError."""
        if self.attempts < 1:
            raise UsageError(f"attempts is {self.attempts}; at least one is needed")
        usable(self.select)


def solved_json(answer: Answer) -> JsonObject:
    """An answer as `thor solve --json` prints it."""
    fields = {
        **answer_json(answer.chosen, answer.dialect.decode),
        "tokens": answer.sampled_tokens,
        "seed": answer.seed,
        "seconds": round(answer.seconds, 3),
    }
    if len(answer.candidates) > 1:
        fields["candidates"] = [candidate_json(candidate) for candidate in answer.candidates]
        fields["chosen"] = {"number": answer.choice.place, "reason": answer.choice.reason}
    if answer.opinion is not None:
        fields["asked"] = answer.opinion.cost
    return fields


class Asked:
    """A model that is loaded, and answers."""

    def __init__(self, agent: Agent, config: AskConfig, chooser: Chooser) -> None:
        self._agent = agent
        self._config = config
        self._chooser = chooser

    async def answer(self, turns: Sequence[ChatTurn], *, seed: int, hear: Callable[[Event], None] | None) -> Answer:
        """Answer the last turn of a conversation.

        A single attempt is heard while it is written, of several the chosen one when it has been chosen.
        Raises ContextFull where the turns leave no room, and faults of the machine.
        """
        config = self._config
        correction = config.correction if config.attempts == 1 else None
        limits = AttemptLimits(rollout=config.rollout, correction=correction, attempts=config.attempts)
        ears = Ears() if hear is None else Ears(hear=hear, is_live=True)
        asked = asked_prompt(self._agent.dialect, turns)
        return await answer(asked, limits, self._agent, self._chooser, ears, seed=seed)


def usual_model() -> str:
    """The model that is asked where none is named."""
    return next((str(path) for path in TRAINED if path.is_dir()), EMBEDDED)


@asynccontextmanager
async def opened(config: AskConfig, reporter: Reporter) -> AsyncIterator[Asked]:
    """The model, a sandbox and a grader, for as long as questions are asked. Raises UsageError for no such model."""
    config.check()
    name = config.model or usual_model()
    resources = ResourceConfig(end_token=config.end_tokens, chat_template=config.chat_template)
    async with (
        open_runtime(resources, calls=config.calls) as runtime,
        runtime.load(name, config.served, reporter, thinks=config.reasoning) as loaded,
    ):
        reporter.say(f"model: {name}")
        dialect = runtime.dialect(loaded.tokenizer, TOOLS, reasoning=config.reasoning, observation=config.observation)
        agent = runtime.setup(loaded.policy, dialect, config.rollout).agent
        async with ready(agent, config, reporter.say) as asked:
            yield asked


@asynccontextmanager
async def ready(agent: Agent, config: AskConfig, say: Callable[[str], None]) -> AsyncIterator[Asked]:
    """A model that is loaded, with what its selector asks. Raises UsageError for what cannot be had."""
    asking = AskingSetup(
        agent=agent, config=config.rollout, tokenizer=agent.dialect.tokenizer, rewards=config.rewards, say=say
    )
    async with open_chooser(usable(config.select), asking) as chooser:
        yield Asked(agent, config, chooser)
