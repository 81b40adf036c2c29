"""Commands that build tool-integrated data."""

import asyncio
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from thor_tir.app.config import ResourceConfig, RunConfig
from thor_tir.commands.options import NANO, PresetOption
from thor_tir.commands.tirgen_data import tell_funnel
from thor_tir.console import ConsoleReporter
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.errors import UsageError
from thor_tir.storage.shard import shard_of
from thor_tir.tirgen.filters import FilterConfig
from thor_tir.tirgen.generate import TirgenConfig
from thor_tir.tirgen.schedule import AttemptScheduleConfig


@dataclass(frozen=True, kw_only=True)
class TirgenGenerate:
    """Raw trajectories: an actor reasons, a critic turns steps into programs, the sandbox runs them.

    Killed at any instant, the same command continues.
    """

    actor: str = NANO.actor
    """Hub name, local folder, nano/actor, or the address that serves it, such as http://10.0.0.5:8000/v1. The model
    that will be trained."""
    actor_model: str = ""
    """Name of the actor on its server; not needed where it serves one model alone."""
    actor_tokenizer: str = ""
    """Tokenizer of an actor behind an address, a folder or hub name. Without it text is all there is, see
    docs/tirgen.md."""
    actor_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the actor's server."""
    critic: str = NANO.critic
    """Hub name, local folder, nano/critic, or an address. Sees isolated steps only."""
    critic_model: str = ""
    """Name of the critic on its server."""
    critic_tokenizer: str = ""
    """Tokenizer of a critic behind an address."""
    critic_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the critic's server."""
    problems: str = NANO.problems
    """JSONL file with `question` and `answer`, or reasoning_gym:family,family, or reasoning_gym (the nano families)."""
    count: int = NANO.num_tirgen
    """Questions that are asked."""
    words_samples: int = NANO.words_samples
    """Tool-free samples per question, to leave out what words alone solve; 0 for none."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    output: Path = Path("runs/tirgen")
    """Folder of the run."""
    shard: str = ""
    """i/n: only this part of the questions, into the same folder as the other parts, by any number of processes."""
    seed: int = 0
    """Seed of the whole run."""
    schedule: Annotated[AttemptScheduleConfig, tyro.conf.arg(name="")] = NANO.schedule
    """Attempts at each question, and what they may cost."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    observation: ObservationConfig = NANO.observation
    """Text that the actor reads of a program's end."""
    tirgen: Annotated[TirgenConfig, tyro.conf.arg(name="")] = NANO.tirgen
    """Options of generation."""
    resources: Annotated[ResourceConfig, tyro.conf.arg(name="")] = NANO.resources
    """Parts of the machine that the run may use."""

    def run(self) -> None:
        """Generate, and say where the rows are."""
        from thor_tir.app.runtime import open_runtime
        from thor_tir.app.stages.tirgen import generate_raw
        from thor_tir.storage.run_lock import claim

        reporter = ConsoleReporter()

        async def work() -> None:
            async with open_runtime(self.resources) as runtime:
                await generate_raw(self.config(), self.output, runtime, reporter, shard)

        shard = shard_of(self.shard)
        with claim(self.output, self.options(), shard, inputs=self.inputs):
            asyncio.run(work())
        reporter.say(f"raw trajectories: {shard.file(self.output, 'raw')}")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Files and folders that the run is made from, where they are local."""
        return self.actor, self.critic, self.problems

    def options(self) -> dict[str, Any]:
        """What makes two commands the same run: not where it is kept, which part is done, and how much is tried."""
        return {name: v for name, v in dataclasses.asdict(self).items() if name not in ("shard", "output", "schedule")}

    def config(self) -> RunConfig:
        """The options as a run's configuration."""
        return RunConfig(
            actor=self.actor,
            critic=self.critic,
            actor_served=ServedAs(model=self.actor_model, tokenizer=self.actor_tokenizer, key_variable=self.actor_key),
            critic_served=ServedAs(
                model=self.critic_model, tokenizer=self.critic_tokenizer, key_variable=self.critic_key
            ),
            problems=self.problems,
            num_tirgen=self.count,
            reasoning=self.reasoning,
            observation=self.observation,
            words_samples=self.words_samples,
            schedule=self.schedule,
            tirgen=self.tirgen,
            resources=self.resources,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class Tirgen(TirgenGenerate):
    """Build tool-integrated data: an actor reasons, a critic turns steps into programs, the sandbox runs them, and a
    filter keeps what is right, clean and worth learning.
    """

    filter: FilterConfig = NANO.filter
    """Options of the filter."""

    def run(self) -> None:
        """Generate, filter, and say what each stage of the filter left."""
        from thor_tir.app.runtime import open_runtime
        from thor_tir.app.stages.tirgen import generate_data
        from thor_tir.storage.run_lock import claim

        config = dataclasses.replace(self.config(), filter=self.filter)
        reporter = ConsoleReporter()

        async def work() -> Path:
            async with open_runtime(self.resources) as runtime:
                return await generate_data(config, self.output, runtime, reporter)

        if self.shard:
            raise UsageError("a shard is generated alone: `thor tirgen generate --shard`, then `merge` and `filter`")
        with claim(self.output, self.options(), inputs=self.inputs):
            path = asyncio.run(work())
        tell_funnel(self.output, reporter)
        reporter.say(f"data set: {path}")
