"""The command that answers the questions of other programs."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from thor_tir.app.config import CallConfig, ResourceConfig
from thor_tir.commands.options import NANO, PresetOption, check_size, tell_precision
from thor_tir.console import ConsoleReporter
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.inference.best_of_n import USABLE, usable
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.serving.queue import QueueConfig
from thor_tir.serving.requests import Bounds
from thor_tir.storage.journal import JsonObject

if TYPE_CHECKING:
    from thor_tir.app.runtime import LoadedModel, Runtime
    from thor_tir.inference.asking import Chooser
    from thor_tir.serving.answers import Served
    from thor_tir.serving.service import ServeConfig

STRICT = replace(NANO.resources, sandbox=replace(NANO.resources.sandbox, least="full"))
"""Programs of strangers run under full confinement, unless an option asks for less."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Answer questions over OpenAI's API until SIGTERM or Ctrl-C: programs, repairs and best-of-N run inside.

    Any client of OpenAI's works with base_url http://HOST:PORT/v1; docs/serving.md says what it may ask for.
    """

    model: str = ""
    """Hub name, local folder or the address that serves it; by default the newest trained model of runs/quickstart,
    else the embedded one."""
    model_name: str = ""
    """Model at an address that serves several."""
    model_tokenizer: str = ""
    """Tokenizer of a model at an address, a folder or hub name; without it only text is exchanged."""
    model_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of an address."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn, and its thoughts come as reasoning_content."""
    served_name: str = ""
    """Name by which clients ask for the model; by default the model's own."""
    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs a key."""
    port: int = 8000
    """Port to listen on; 0 lets the system choose."""
    key_file: Path | None = None
    """File with lines KEY or NAME KEY that only its owner can read; keys may also stand in THOR_SERVE_KEYS."""
    audit_log: Path | None = None
    """JSONL file that gets a line for each request: who, limits, digests of programs, how it ended, and no text."""
    request_s: float = 600.0
    """Longest time that a request may be in work, in seconds."""
    drain_s: float = 60.0
    """After SIGTERM, what is in work may take that long to finish."""
    selectors: tuple[str, ...] = ()
    """Selectors that requests may name besides the packaged ones: reward:PLACE and the like, or file.py:function."""
    rewards: RewardOptions = field(default_factory=RewardOptions)
    """Reward models behind addresses, for selectors that ask them."""
    queue: QueueConfig = field(default_factory=QueueConfig)
    """Attempts in work, requests that wait, and shares of each key."""
    bounds: Bounds = field(default_factory=Bounds)
    """The most that a request may ask for."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    observation: ObservationConfig = NANO.observation
    """Text that the model reads of a program's end."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Tools beside Python, and the spelling of calls."""
    rollout: RolloutConfig = NANO.eval.rollout
    """Limits and sampling of a request that does not say otherwise."""
    correction: SelfCorrectionConfig = NANO.eval.correction
    """Repair of failed calls, for a request that does not say otherwise."""
    resources: Annotated[ResourceConfig, tyro.conf.arg(name="")] = STRICT
    """Parts of the machine that the server may use."""

    def run(self) -> None:
        """Load, serve, and say where."""
        from thor_tir.app.ask import usual_model
        from thor_tir.app.runtime import open_runtime
        from thor_tir.engines.openai_api.policy import ServedAs
        from thor_tir.serving.app import answer_server
        from thor_tir.serving.audit import AuditLog
        from thor_tir.serving.keys import Keys, read_keys
        from thor_tir.serving.requests import ServedDefaults
        from thor_tir.serving.service import AnswerService

        config, keys = self._config(), Keys(read_keys(self.key_file))
        config.check_keys(keys)  # before a model is loaded
        names = tuple(dict.fromkeys((*USABLE, *self.selectors)))
        for name in names:
            usable(name)
        defaults = ServedDefaults(rollout=self.rollout, correction=self.correction, bounds=self.bounds, selectors=names)
        model = self.model or usual_model()
        served_as = ServedAs(model=self.model_name, tokenizer=self.model_tokenizer, key_variable=self.model_key)
        reporter, audit = ConsoleReporter(), AuditLog(self.audit_log)
        if self.model:
            limits = (self.rollout.max_completion_length, NANO.eval.rollout.max_completion_length)
            check_size(self.model, {"--rollout.max-completion-length": limits}, reporter.say)
            tell_precision(reporter.say, engine=self.resources.engine, models=[self.model])

        async def work() -> None:
            async with (
                AsyncExitStack() as stack,
                open_runtime(self.resources, calls=self.calls) as runtime,
                runtime.load(model, served_as, reporter, thinks=self.reasoning) as loaded,
            ):
                plain = self._served(model, runtime, loaded)
                served = replace(plain, choosers=await self._choosers(names, plain, reporter, stack))
                service = AnswerService(served, defaults, config, keys, audit)
                who = f"{len(keys)} keys" if len(keys) else "no key, for this machine alone"
                details = f"model {served.name}, sandbox level {runtime.sandbox.level}, {who}"
                await answer_server(
                    service, lambda address: reporter.say(f"serving at {address}/v1 ({details})")
                ).until_ended()
                if service.num_dropped:
                    reporter.say(f"{service.num_dropped} requests did not end in time and were dropped")

        try:
            asyncio.run(work())
        finally:
            audit.close()
        reporter.say("server ended")

    async def _choosers(
        self, names: Sequence[str], served: "Served", reporter: ConsoleReporter, stack: AsyncExitStack
    ) -> "dict[str, Chooser]":
        """Every selector that requests may name, with what it asks, until the stack is closed."""
        from thor_tir.inference.asking import AskingSetup, open_chooser
        from thor_tir.rollout.loop import Agent

        agent = Agent(policy=served.policy, sandbox=served.sandbox, dialect=served.with_tools, tools=served.tools)
        setup = AskingSetup(
            agent=agent,
            config=self.rollout,
            tokenizer=served.with_tools.tokenizer,
            rewards=self.rewards,
            say=reporter.say,
        )
        return {name: await stack.enter_async_context(open_chooser(usable(name), setup)) for name in names}

    def _config(self) -> "ServeConfig":
        from thor_tir.serving.service import ServeConfig

        return ServeConfig(
            host=self.host, port=self.port, queue=self.queue, request_s=self.request_s, drain_s=self.drain_s
        )

    def _served(self, model: str, runtime: "Runtime", loaded: "LoadedModel") -> "Served":
        from thor_tir.dialect.prompts import NO_TOOLS, TOOLS
        from thor_tir.engines.openai_api.text_codec import TextTokenizer
        from thor_tir.serving.answers import Served

        about = loaded.about()
        options: JsonObject = {"reasoning": self.reasoning, "observation": self.observation}
        own_name = str(about["model"])
        return Served(
            name=self.served_name or (Path(own_name).name if Path(own_name).is_dir() else own_name),
            policy=loaded.policy,
            sandbox=runtime.sandbox,
            tools=runtime.tools,
            with_tools=runtime.dialect(loaded.tokenizer, TOOLS, **options),
            in_words=runtime.dialect(loaded.tokenizer, NO_TOOLS, **options),
            continues_text=not isinstance(loaded.tokenizer, TextTokenizer),
        )
