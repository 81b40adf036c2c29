"""The configuration of a whole run, and what the quickstart sets differently from the paper, with the reason.

Paper-sized values are the defaults of each stage's own record. The embedded models write about sixty tokens a problem
where an 8B model writes thousands, so limits shrink and learning rates grow with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from thor_tir.dialect.dialect import DialectName
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.engines.openai_api.policy import EndpointConfig, ServedAs
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError
from thor_tir.hooks import hook_files
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.problems.columns import ANY_FIELDS, ProblemFields
from thor_tir.problems.sources import EVERY, NANO_FAMILIES, ProblemChoice
from thor_tir.rl.config import EpisodeConfig, RLConfig, StepConfig
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.sft.config import SftConfig
from thor_tir.tirgen.generate import TirgenConfig
from thor_tir.tirgen.schedule import AttemptScheduleConfig
from thor_tir.tirgen.selection import FilterConfig

EndTokens = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
"""Names of tokens, one an option."""


ToolNames = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FILE.py:CLASS")]
"""Tools of one's own, one an option."""


@dataclass(frozen=True, kw_only=True)
class CallConfig:
    """Tools that the model may call, and the spelling of its calls."""

    dialect: DialectName = "fences"
    """Spelling of calls: programs between `fences` (the paper's); `tool-call` is JSON between <tool_call> tags with
    results in turns of their own, as Hermes and Qwen have it; `auto` takes the form that the chat template declares."""
    tool: ToolNames = ()
    """A tool beside Python, as FILE.py:CLASS, module:Class or a short name, arguments behind commas; may be given
    several times. Needs --dialect tool-call or auto."""
    prompts: str = ""
    """TOML file of prompts in place of the packaged ones: tables tools, no-tools, critic, code and code-tools with
    `system` and `user`, in which {text} stands for the question."""

    @property
    def inputs(self) -> list[str]:
        """Files that these options name."""
        return [*hook_files(self.tool), *([self.prompts] if self.prompts else [])]

    def __post_init__(self) -> None:
        if self.tool and self.dialect == "fences":
            raise UsageError(f"--tool {self.tool[0]}: fences can name no tool but Python; give --dialect tool-call")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluated attempts. Sampling is the paper's (section D.3): temperature 0.6, top-k 50."""

    num_problems: int = 408
    """Test problems that reasoning_gym makes; benchmarks and files are asked whole, or up to a limit."""
    samples: int = 2
    """Attempts per problem: k of Avg@k."""
    best_of: Annotated[int, tyro.conf.Suppress] = 8
    """Attempts per problem at the quickstart's trained model, of which the rows of best-of-N choose one."""
    rollout: RolloutConfig = field(default_factory=lambda: RolloutConfig(temperature=0.6, top_k=50))
    """Limits and sampling of each attempt."""
    correction: SelfCorrectionConfig = field(default_factory=SelfCorrectionConfig)
    """Repair of failed calls, where self-correction is asked for."""
    seed: int = 0
    """Seed of attempts, of ties between them, and of intervals."""

    def __post_init__(self) -> None:
        if min(self.samples, self.best_of) < 1:
            raise ValueError(
                f"--samples is {min(self.samples, self.best_of)}; at least one attempt per problem is needed"
            )
        if self.num_problems < 1:
            raise ValueError(f"--num-problems is {self.num_problems}; at least one problem is needed")
        if self.seed < 0:
            raise ValueError(f"--seed is {self.seed}; a seed is 0 or larger")


SandboxState = Literal["program", "trajectory"]
"""Life of the names that a program defines."""


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """Place where programs run, and their time limit."""

    timeout_s: float = 5.0
    """Longest time that a program may take, in seconds."""
    endpoints: tuple[str, ...] = ()
    """Addresses of sandbox servers, such as http://10.0.0.5:8080; none means that programs run on this machine."""
    least: Literal["full", "landlock", "none"] = "landlock"
    """The weakest confinement of programs on this machine that is accepted; the strongest that it offers is taken."""
    state: SandboxState = "program"
    """Life of the names that a program defines: they end with the `program` (the paper's), or a `trajectory`'s later
    programs know them, since the earlier ones that ran are run again before each, without their output."""
    echo: bool = False
    """Print the value of a program's last line where it is an expression, as notebooks do."""

    def __post_init__(self) -> None:
        if self.endpoints and (self.echo or self.state != "program"):
            raise UsageError(
                "--sandbox.state trajectory and --sandbox.echo need programs that run on this machine: leave out "
                "--sandbox.endpoints"
            )

    @property
    def keeps_state(self) -> bool:
        """True where programs know the earlier ones of their trajectory."""
        return self.state == "trajectory"


@dataclass(frozen=True, kw_only=True)
class ResourceConfig:
    """Parts of the machine that a run may use."""

    engine: EngineOptions = field(default_factory=EngineOptions)
    """Engine that samples from local models."""
    sandbox: SandboxOptions = field(default_factory=SandboxOptions)
    """Place where programs run."""
    concurrency: int = 256
    """Attempts in flight, those that wait for tools included; the chunk that is kept whole in deterministic runs."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """Requests to models behind an address: their number at a time, time limits and retries."""
    deterministic: bool = False
    """True gives the same bits for the same seed, even after a kill; slower, since the batch waits for every tool."""
    end_token: EndTokens = ()
    """Token that ends the model's turn beside those that its tokenizer, its generation settings and its chat template
    name; may be given several times."""
    chat_template: str = ""
    """Chat template for a model that has none, or in place of its own: a Jinja file, or chatml, llama3, gemma, mistral
    or plain (which every tokenizer can spell). A trained model keeps it."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"--concurrency is {self.concurrency}; at least one attempt is in flight")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole method on one actor and one critic."""

    actor: str = "nano/actor"
    """Hub name, local folder, an embedded model, or the address that serves it."""
    critic: str = "nano/critic"
    """Model that turns steps into programs, by the same kinds of names."""
    actor_served: ServedAs = field(default_factory=ServedAs)
    """Name, tokenizer and key of an actor behind an address."""
    critic_served: ServedAs = field(default_factory=ServedAs)
    """Name, tokenizer and key of a critic behind an address."""
    reasoning: bool = False
    """The actor is a reasoning model: its chat template opens a thinking turn, in which programs may stand."""
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    """Text that the actor reads of a program's end, in every stage."""
    calls: CallConfig = field(default_factory=CallConfig)
    """Tools beside Python, and the spelling of calls, in every stage."""
    problems: str = "reasoning_gym"
    """Data set of one's own, `reasoning_gym:family,family`, or `reasoning_gym` for the nano families."""
    fields: ProblemFields = ANY_FIELDS
    """Columns of a data set of one's own."""
    choice: ProblemChoice = EVERY
    """Part of it that is used."""
    test_problems: str = ""
    """Data set that a whole run on problems of one's own is tested on; empty holds a part of `problems` out."""
    families: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: NANO_FAMILIES)
    """Settings of each reasoning-gym family, by its name."""
    num_tirgen: int = 144
    """Training problems TIRGen is run on."""
    num_rl: int = 6000
    """Training problems RL draws from."""
    no_tools_samples: int = 1
    """Samples without tools per question, which show whether it is solved without them."""
    schedule: AttemptScheduleConfig = field(default_factory=AttemptScheduleConfig)
    """Attempts at each of these questions, and what they may cost."""
    tirgen: TirgenConfig = field(default_factory=TirgenConfig)
    """Options of generation."""
    filter: FilterConfig = field(default_factory=FilterConfig)
    """Options of the filter."""
    sft: SftConfig = field(default_factory=SftConfig)
    """Options of the cold start."""
    rl: RLConfig = field(default_factory=RLConfig)
    """Options of hierarchical RL."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """Options of the evaluation."""
    resources: ResourceConfig = field(default_factory=ResourceConfig)
    """Parts of the machine that the run may use."""
    seed: int = 0
    """Seed from which every stage derives its own."""


NANO_TOKENS = 320
"""Response limit of the embedded models: four times what a solution takes."""
NANO_SUFFIX = 8
"""L_suf of the embedded models, about half of a thought, as 100 tokens are of a 7B model's."""


def quickstart(*, seed: int = 0, deterministic: bool = False) -> RunConfig:
    """The whole method on the embedded models in about five minutes on two cores."""
    training = RolloutConfig(max_completion_length=NANO_TOKENS, stop_at_failure=True)
    return RunConfig(
        tirgen=TirgenConfig(step_tokens=96, max_completion_length=NANO_TOKENS, max_steps=12),
        sft=SftConfig(
            num_train_epochs=2,
            train_batch_size=16,
            micro_batch_tokens=2048,
            learning_rate=3e-4,
            warmup_steps=2,
            lr_scheduler_type="cosine_with_min_lr",
            seed=seed,
        ),
        rl=RLConfig(
            num_rounds=20,
            problems_per_round=20,
            rollout=training,
            episode=EpisodeConfig(num_generations=8),
            step=StepConfig(num_generations=8, suffix_tokens=NANO_SUFFIX, max_queries_share=0.75),
            learning_rate=2e-4,
            warmup_steps=2,
            lr_scheduler_type="cosine_with_min_lr",
            micro_batch_tokens=2048,
            seed=seed,
            validate_every=5,
        ),
        eval=EvalConfig(
            seed=seed,
            rollout=RolloutConfig(max_completion_length=NANO_TOKENS, temperature=0.6, top_k=50),
            correction=SelfCorrectionConfig(suffix_tokens=NANO_SUFFIX),
        ),
        filter=FilterConfig(max_share=1),  # a cold start of a hundred samples can spare none for balance
        resources=ResourceConfig(engine=EngineOptions(num_threads=1), deterministic=deterministic),
        seed=seed,
    )
