"""Questions of a person to one model: it is loaded once, and answers as often as it is asked."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from thor_tir.app.config import CallConfig, ResourceConfig
from thor_tir.app.runtime import open_runtime
from thor_tir.dialect.dialect import Dialect, thinking_of
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.dialect.prompts import TOOLS, conversation_messages
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.errors import UsageError
from thor_tir.eval.answer_json import answer_json, candidate_json
from thor_tir.inference.answering import AttemptLimits, heard_attempt
from thor_tir.inference.asking import AskingSetup, Chooser, open_chooser
from thor_tir.inference.best_of_n import Choice, usable
from thor_tir.inference.opinions import Opinion
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.pretrained import ChatTurn
from thor_tir.progress import Reporter
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig
from thor_tir.rollout.overheard import Event, Overheard
from thor_tir.rollout.sample_many import Attempt, in_parallel
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Decode

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer to a question."""

    choice: Choice
    """Attempt that is the answer, and why."""
    candidates: tuple[Attempt, ...]
    """All attempts."""
    decode: Decode
    """Function from token ids to text."""
    seed: int
    """Seed that gives this answer again."""
    seconds: float
    """Time from the first sample to the choice."""
    opinion: Opinion | None = None
    """Opinion that the selector asked for; None for a rule."""

    @property
    def attempt(self) -> Attempt:
        """The attempt that is the answer."""
        return self.choice.chosen

    @property
    def text(self) -> str:
        """The answer as it was found; empty where there is none."""
        return (self.attempt.verdict.extracted or "").strip()

    def as_json(self) -> JsonObject:
        """The answer as `thor solve --json` prints it."""
        fields = {
            **answer_json(self.attempt, self.decode),
            "tokens": sum(candidate.trajectory.num_model_tokens for candidate in self.candidates),
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
        }
        if len(self.candidates) > 1:
            fields["candidates"] = [candidate_json(candidate) for candidate in self.candidates]
            fields["chosen"] = {"number": self.choice.place, "reason": self.choice.reason}
        if self.opinion is not None:
            fields["asked"] = self.opinion.cost
        return fields


class Asked:
    """A model that is loaded, and answers."""

    def __init__(self, agent: Agent, config: AskConfig, chooser: Chooser) -> None:
        self._agent = agent
        self._config = config
        self._chooser = chooser

    @property
    def dialect(self) -> Dialect:
        """The model's conventions."""
        return self._agent.dialect

    async def answer(self, turns: Sequence[ChatTurn], *, seed: int, hear: Callable[[Event], None] | None) -> Answered:
        """Answer the last turn of a conversation.

        A single attempt is heard while it is written, of several the chosen one when it has been chosen.
        Raises ContextFull where the turns leave no room, and faults of the machine.
        """
        config, dialect, began = self._config, self._agent.dialect, monotonic()
        prompt = dialect.chat(conversation_messages(dialect.config.style, turns))
        is_live = config.attempts == 1 and hear is not None
        limits = AttemptLimits(rollout=config.rollout, correction=config.correction if config.attempts == 1 else None)
        found: dict[int, Attempt] = {}
        events: list[list[Event]] = [[] for _ in range(config.attempts)]

        async def one(number: int) -> None:
            draft = Draft(id=str(number), problem_id="", prompt=prompt, seed=seed_of(seed, number))
            heard = hear if is_live and hear is not None else events[number].append
            overheard = Overheard(self._agent, heard, is_live=is_live)
            found[number] = await heard_attempt(draft, limits, overheard, thinking_of(dialect))

        await in_parallel(range(config.attempts), one, config.attempts)
        candidates = tuple(found[number] for number in range(config.attempts))
        choice, opinion = await self._chooser.choose(str(turns[-1]["content"]), candidates, seed=seed)
        if hear is not None:
            for event in events[choice.place]:
                hear(event)
        return Answered(
            choice=choice,
            candidates=candidates,
            decode=dialect.decode,
            seed=seed,
            seconds=monotonic() - began,
            opinion=opinion,
        )


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
