"""Resources that the stages of a run share: models by name, an engine over each, one sandbox, one grader, journals."""

import filecmp
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from thor_tir.address import is_address
from thor_tir.app.config import CallConfig, ResourceConfig
from thor_tir.dialect.dialect import Dialect, DialectConfig, DialectName, thinking_of, unless_cut_short
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.dialect.prompt_file import Prompts, read_prompts
from thor_tir.dialect.prompts import PromptStyle
from thor_tir.distributed import ALONE, Ranks
from thor_tir.engines.loading import check_engines, keeping_servers, load_model, open_engine, stored_dtype
from thor_tir.engines.local.step_barrier import StepBarrier
from thor_tir.engines.openai_api.policy import EndpointPolicy, ServedAs
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.protocol import OpenableEngine, Policy
from thor_tir.errors import UsageError
from thor_tir.extras import need
from thor_tir.grading.grader import Grader, Judge
from thor_tir.learner.config import AdapterConfig, SaveDtype
from thor_tir.pretrained import CausalLM, ModelTokenizer, Tokenizer
from thor_tir.progress import Reporter
from thor_tir.rollout.loop import Agent, RolloutConfig
from thor_tir.rollout.sample_many import SamplingSetup, written_text
from thor_tir.rollout.toolbox import Toolbox
from thor_tir.sandbox.batch import OpenableSandbox
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits, Sandbox
from thor_tir.sandbox.remote.client import RemoteSandbox, RemoteSandboxConfig
from thor_tir.storage.journal import Brief, Journal, told_when_full, write_atomically
from thor_tir.storage.shared_journal import open_shared
from thor_tir.tools.loading import LoadedTool, load_tools
from thor_tir.verdict import Strictness

if TYPE_CHECKING:
    import torch

PYTHON_ALONE = CallConfig()
DIALECT = "dialect.json"
"""Name of the record of a run's spelling of calls, which is not there where they stand between the paper's fences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that is ready to be sampled from."""

    policy: Policy
    """Engine or client that samples from the model."""
    tokenizer: Tokenizer
    """Tokenizer for a dialect of this model."""
    model: CausalLM | None
    """The loaded weights; None where they are elsewhere."""
    about: Callable[[], Mapping[str, Any]]
    """Function that says how the model is reached and what it cost so far, for the run's record."""


class Runtime:
    """Resources that stages share: a sandbox and a grader that are started once, and how engines are made."""

    def __init__(
        self,
        resources: ResourceConfig,
        sandbox: Sandbox,
        grader: Grader,
        ranks: Ranks = ALONE,
        calls: DialectName = "fences",
        tools: Sequence[LoadedTool] = (),
        prompts: Prompts = MappingProxyType({}),
    ) -> None:
        self.ranks = ranks
        self.prompts = prompts
        self.calls = calls
        sandboxed = resources.sandbox
        self.tools = Toolbox(tools, keeps_state=sandboxed.keeps_state, echoes=sandboxed.echo)
        self.resources = resources
        self.sandbox = sandbox
        self.grader = grader

    def engine(
        self,
        model: CausalLM,
        tokenizer: ModelTokenizer,
        say: Callable[[str], None],
        barrier: StepBarrier | None = None,
        *,
        options: EngineOptions | None = None,
        trained_in: "torch.dtype | None" = None,
    ) -> OpenableEngine:
        """An engine over a loaded model, by the run's `options` or other ones; `say` tells of its servers.

        `trained_in` is the precision in which a model that is trained meanwhile multiplies; servers have it too.
        """
        options = options or self.resources.engine
        if trained_in is not None:
            options = replace(options, bf16=str(trained_in) == "torch.bfloat16")
        return open_engine(
            model,
            tokenizer,
            options,
            deterministic=self.resources.deterministic,
            barrier=barrier,
            trains=trained_in is not None,
            say=say,
        )

    @asynccontextmanager
    async def load(
        self,
        name: str,
        served: ServedAs,
        reporter: Reporter,
        barrier: StepBarrier | None = None,
        *,
        thinks: bool = False,
        end_tokens: Sequence[str] | None = None,
        chat_template: str | None = None,
        engine_options: EngineOptions | None = None,
    ) -> AsyncIterator[LoadedModel]:
        """A model to sample from, by whatever name, for as long as it is needed.

        `served` is about addresses alone. `reporter` tells a person that a server does not answer and is waited for.
        `thinks` says that it thinks in turns that are interrupted, by programs for example, and go on. `end_tokens`,
        `chat_template` and `engine_options` take the place of those that the run names.

        Raises UsageError for what cannot be loaded, is not served or could not think on, EngineFault when a server does
        not answer at all.
        """
        ends = self.resources.end_token if end_tokens is None else end_tokens
        template = self.resources.chat_template if chat_template is None else chat_template
        check_served(name, served, thinks=thinks)
        if is_address(name):
            endpoint = self.resources.endpoint
            async with EndpointPolicy(name, served, endpoint, reporter.say, ends, template) as policy:
                yield LoadedModel(policy=policy, tokenizer=policy.tokenizer, model=None, about=lambda: policy.about)
            return
        need("torch", f"the model {name!r}")
        import torch

        options = engine_options or self.resources.engine
        apart = options.name != "local"  # servers sample, so the GPUs are theirs
        is_half = options.bf16 or (apart and torch.cuda.is_available())
        model, tokenizer = load_model(
            name,
            dtype=torch.bfloat16 if is_half else None,
            device="cpu" if apart else None,
            end_tokens=ends,
            chat_template=template,
        )
        async with self.engine(model, tokenizer, reporter.say, barrier, options=options) as engine:

            def about() -> Mapping[str, Any]:
                figures = engine.take_figures()
                return {"model": name, **({"engines": figures} if figures else {})}

            yield LoadedModel(policy=engine, tokenizer=tokenizer, model=model, about=about)

    def dialect(
        self,
        tokenizer: Tokenizer,
        style: PromptStyle,
        *,
        reasoning: bool = False,
        observation: ObservationConfig | None = None,
    ) -> Dialect:
        """The conventions of one model under one prompt, with the run's tools, prompts and spelling of calls."""
        tools = tuple(self.tools.tools.values())
        return dialect_of(
            tokenizer,
            self.prompts.get(style, style),
            reasoning=reasoning,
            observation=observation,
            calls=self.calls,
            tools=tools,
            keeps_state=self.tools.keeps_state,
        )

    def setup(self, policy: Policy, dialect: Dialect, config: RolloutConfig) -> SamplingSetup:
        """Attempts by one policy."""
        return SamplingSetup(
            agent=Agent(policy=policy, sandbox=self.sandbox, dialect=dialect, tools=self.tools),
            grade=self.grader.grade,
            config=config,
            graded=unless_cut_short(written_text, thinking_of(dialect)),
            concurrency=self.resources.concurrency,
            ranks=self.ranks,
        )

    def journal(self, path: Path, brief: Brief | None = None) -> Journal:
        """A journal that is committed unit by unit, or chunk by chunk where bits must not depend on a kill."""
        return open_shared(path, self.ranks, hold=self.resources.deterministic, brief=brief)


def check_served(name: str, served: ServedAs, *, thinks: bool) -> None:
    """Raise UsageError for a model at an address that could not think on, and one here with options of addresses."""
    if not is_address(name) and (served.model or served.tokenizer):
        raise UsageError(f"{name!r} is no address, so it has no name on a server and brings its own tokenizer")
    if is_address(name) and thinks and not served.tokenizer:
        raise UsageError(
            f"the thoughts of {name} could not go on after a program, because chat templates rewrite the thoughts in "
            "messages: name the model's tokenizer (--model-tokenizer, or --actor-tokenizer)"
        )


def check_resources(
    resources: ResourceConfig,
    engines: Sequence[EngineOptions] | None = None,
    *,
    processes: int = 1,
    trains: bool = False,
    is_here: bool = True,
) -> None:
    """Raise UsageError for a sandbox or engines that no run could open, those of the run where none are named."""
    _sandbox(resources)
    check_engines(
        [resources.engine] if engines is None else engines,
        deterministic=resources.deterministic,
        processes=processes,
        trains=trains,
        is_here=is_here,
    )


@asynccontextmanager
async def open_runtime(
    resources: ResourceConfig,
    strictness: Strictness = Strictness.STRICT,
    ranks: Ranks = ALONE,
    judge: Judge | None = None,
    calls: CallConfig = PYTHON_ALONE,
    tools: Sequence[LoadedTool] = (),
) -> AsyncIterator[Runtime]:
    """Sandbox, tools and grader for as long as the stages run; `tools` are further ones, which have no name to load.

    Raises SandboxUnavailable when programs cannot be run here, UsageError for a tool that cannot be had.
    """
    tools, prompts = (*load_tools(calls.tool), *tools), read_prompts(calls.prompts)
    async with (
        _sandbox(resources) as sandbox,
        Grader(strictness=strictness, judge=judge) as grader,
        keeping_servers(resources.engine),
    ):
        yield Runtime(resources, sandbox, grader, ranks, calls.dialect, tools, prompts)


def _sandbox(resources: ResourceConfig) -> OpenableSandbox:
    """The sandbox of this machine, or of the servers that the run names."""
    limits = Limits(timeout_s=resources.sandbox.timeout_s)
    if resources.sandbox.endpoints:
        return RemoteSandbox(RemoteSandboxConfig(endpoints=resources.sandbox.endpoints, limits=limits))
    return LocalSandbox(LocalSandboxConfig(limits=limits, least=resources.sandbox.least))


def dialect_of(
    tokenizer: Tokenizer,
    style: PromptStyle,
    *,
    reasoning: bool = False,
    observation: ObservationConfig | None = None,
    calls: DialectName = "fences",
    tools: Sequence[LoadedTool] = (),
    keeps_state: bool = False,
) -> Dialect:
    """The conventions of one model under one prompt; the rest matters where programs are run.

    Raises UsageError for a chat template that has no place for results.
    """
    config = DialectConfig(
        style=style,
        is_reasoning=reasoning,
        observation=observation or ObservationConfig(),
        calls=calls,
        tools=tuple(tool.spec for tool in tools),
        keeps_state=keeps_state,
    )
    return Dialect(tokenizer, config)


def announce(dialect: Dialect, folder: Path, say: Callable[[str], None]) -> None:
    """Say how a run spells calls, and write it into `dialect.json`, unless it has the paper's fences as usual."""
    if dialect.config.calls == "fences":
        return
    about = dialect.about
    how = f"declared by the {about['declared_by']}, results in turns of the {about['results_in']}"
    say(f"calls: {about['calls']}, tools {', '.join(about['tools'])}" + ("" if dialect.is_fenced else f", {how}"))
    write_atomically(folder / DIALECT, json.dumps(about, indent=1) + "\n")


def without_tools(max_tokens: int) -> RolloutConfig:
    """Answers without tools."""
    return RolloutConfig(max_completion_length=max_tokens, max_tool_calling_iterations=0, temperature=0.6, top_k=50)


def load_trainable(
    name: str, adapters: AdapterConfig, ranks: Ranks, end_tokens: Sequence[str] = (), chat_template: str = ""
) -> tuple[CausalLM, ModelTokenizer]:
    """A model to be trained, with its adapters, and its tokenizer. One to be shared out waits in the host's memory."""
    need("torch", "training")
    import torch

    from thor_tir.learner.trainable import with_adapters

    device = None if ranks.is_alone else "cpu"
    model, tokenizer = load_model(
        name, dtype=torch.float32, device=device, end_tokens=end_tokens, chat_template=chat_template
    )
    return with_adapters(model, adapters), tokenizer


def publishing_dtype(name: str, wanted: SaveDtype) -> "torch.dtype":
    """The type in which the model that `name` was trained into is written."""
    import torch

    return torch.float32 if wanted == "float32" else stored_dtype(name)


def publish(
    model: CausalLM, tokenizer: ModelTokenizer, path: Path, *, dtype: "torch.dtype", say: Callable[[str], None]
) -> Path:
    """Write a model folder whole, adapters merged: beside its place first, then renamed into it.

    The model is cast in place, since writing it is the last that is done with it. Of a folder that is there already,
    left by a run that had finished, files that are damaged, missing or of a shorter run are written again, and `say`
    names them.
    """
    from thor_tir.learner.trainable import merged

    draft = path.with_name(f".{path.name}.draft")
    if draft.exists():
        shutil.rmtree(draft)
    with told_when_full(path):
        merged(model).to(dtype=dtype).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        if not path.exists():
            draft.rename(path)
            return path
        found = [file.relative_to(draft) for file in sorted(draft.rglob("*")) if file.is_file()]
        if other := [file for file in found if not _is_same(draft / file, path / file)]:
            for file in other:
                (path / file).parent.mkdir(parents=True, exist_ok=True)
                (draft / file).replace(path / file)
            say(f"{', '.join(map(str, other))} in {path} did not hold what is trained now, and is written again")
        shutil.rmtree(draft)
    return path


def _is_same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)
