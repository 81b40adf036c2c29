"""Commands that make models: their options are the stages' own configuration records."""

import asyncio
import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from thor_tir.app.chips import ClusterOptions
from thor_tir.app.config import CallConfig, EndTokens, ResourceConfig, RunConfig, SandboxState, quickstart
from thor_tir.commands.options import NANO, DryRun, PresetOption, Sharing, check_size, defaults, identity
from thor_tir.commands.plans import tell_plans
from thor_tir.commands.stage import rl_options, sft_options
from thor_tir.console import ConsoleReporter, text_table
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError
from thor_tir.hooks import hook_files
from thor_tir.problems.columns import ANY_FIELDS, ProblemFields
from thor_tir.problems.sources import EVERY, ProblemChoice, is_generated, local_inputs
from thor_tir.rl.config import RLConfig
from thor_tir.sft.config import ChatConfig, ChatFields, SftConfig
from thor_tir.storage.run_lock import Claimed, Growth, check_claim, claim, is_begun, option_defaults

if TYPE_CHECKING:
    from thor_tir.distributed import Ranks


MOST_BY_DEFAULT = 4
"""Processes of a quickstart on a machine with many cores: its models are too small for more."""


EXTEND_HELP = (
    "Go on with the run in --output, finished or not, from its last checkpoint to a larger --num-rounds (rl) or "
    "--num-train-epochs (sft); no other option may differ. The learning rate is from there on that of a run begun with "
    "the larger number: with `constant` the result is that run's, with `cosine_with_min_lr` the rate jumps up, and it "
    "is said from what to what."
)


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """The whole method on the embedded models: TIRGen, cold start, hierarchical RL, self-correction, best of N, report.

    About five minutes on two cores. Killed at any instant, the same command continues.
    """

    output: Path = Path("runs/quickstart")
    """Folder of the run: results.json, report.html and everything that was sampled."""
    problems: str = NANO.problems
    """Data set of one's own (a file or folder of JSONL, JSON, CSV, TSV or Parquet, perhaps with @SPLIT, or one of the
    hub as OWNER/NAME:CONFIG@SPLIT), or reasoning_gym:family,family, or reasoning_gym (the nano families)."""
    test_problems: str = ""
    """Data set of one's own that every model is tested on; without it about a tenth of --problems is held out by a
    digest of the questions, and no stage trains on them."""
    fields: Annotated[ProblemFields, tyro.conf.arg(name="")] = ANY_FIELDS
    """Columns of a data set of one's own."""
    seed: int = 0
    """Seed of the whole run."""
    deterministic: bool = False
    """True gives the same bits for the same seed, even after a kill; slower, since the batch waits for every tool."""
    processes: int = 0
    """Processes that share the work; 0 takes one for each core, at most four, and one alone where --deterministic is
    given, since bits depend on their number, or where servers sample, since each process would start its own."""
    observation: ObservationConfig = NANO.observation
    """Text that the model reads of a program's end."""
    engine: EngineOptions = NANO.resources.engine
    """Engine that samples in every stage."""
    dry_run: DryRun = False
    """True says what would be made, and stops."""

    @property
    def num_processes(self) -> int:
        """Processes that are started."""
        if self.processes < 0:
            raise UsageError(f"--processes is {self.processes}: a number of processes, or 0 for one each core")
        return 1 if self.dry_run else self._sharing

    @property
    def _sharing(self) -> int:
        """Processes that share the work."""
        if self.processes or self.deterministic or self.engine.name != "local":
            return max(1, self.processes)
        return min(MOST_BY_DEFAULT, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)

    def run(self) -> None:
        """Run or continue it and print what came out."""
        from thor_tir.distributed import together

        with together() as ranks:
            self._run(ranks)

    def _run(self, ranks: "Ranks") -> None:
        from thor_tir.app.stages.own_problems import with_own_problems
        from thor_tir.app.stages.quickstart import run_inputs, run_options, run_quickstart
        from thor_tir.eval.metrics import remarks
        from thor_tir.eval.tables import run_table
        from thor_tir.view.export import leave_page

        reporter = ConsoleReporter(is_silent=not ranks.leads)
        config = quickstart(seed=self.seed, deterministic=self.deterministic)
        config = dataclasses.replace(
            config,
            observation=self.observation,
            problems=self.problems,
            test_problems=self.test_problems,
            fields=self.fields,
            resources=dataclasses.replace(config.resources, engine=self.engine),
        )
        if bool(self.engine.address) != bool(self.engine.critic_address):
            raise UsageError("two models sample: name servers of both, with --engine.critic-address, or neither")
        if self.test_problems and is_generated(self.problems):
            raise UsageError(f"--test-problems are for problems of your own, and {self.problems} makes its own test")
        if self.dry_run:
            from thor_tir.app.plan import plan_quickstart

            options, defaults = run_options(config, self._sharing), option_defaults(config)
            check_claim(self.output, options, inputs=run_inputs(config), defaults=defaults)
            with TemporaryDirectory() as folder:
                apart = with_own_problems(config, Path(folder), reporter.say)
                tell_plans(plan_quickstart(apart, reporter.say, processes=self._sharing), reporter)
            return
        outcome = asyncio.run(run_quickstart(config, self.output, reporter, identity(self), ranks))
        if not ranks.leads:
            return
        reporter.show(text_table("Held-out test problems", *run_table(outcome.results)))
        for row in outcome.results:
            for sentence in remarks(row["sets"][0]):
                reporter.say(f"{row['name']}, {sentence}")
        for line in _comparison_lines(outcome.summary):
            reporter.say(line)
        reporter.say(f"results: {self.output / 'results.json'}\nreport:  {leave_page(self.output)}")


def _comparison_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Paired differences in points, and what the wall clock went into."""
    for pair in summary["paired"]:
        low, high = pair["ci95"]
        yield f"{pair['name']}: {100 * pair['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    seconds = summary["seconds"]
    spent = ", ".join(f"{stage} {s:.0f} s" for stage, s in seconds.items())
    yield f"time: {spent}; {sum(seconds.values()) / 60:.1f} minutes in all"


@dataclass(frozen=True, kw_only=True)
class Training(Sharing):
    """Options of every training."""

    extend: Annotated[bool, tyro.conf.arg(help=EXTEND_HELP)] = False
    """True makes the run in --output longer."""
    push_to_hub: str = ""
    """Name on a hub, OWNER/NAME, to which the trained model is pushed, privately (docs/push.md)."""


@dataclass(frozen=True, kw_only=True)
class Sft(Training):
    """Cold-start fine-tuning on TIRGen's data set, or on conversations in other shapes; tool outputs are masked.

    Conversations stand in `messages`, `conversations`, or columns for question and response; their programs in calls of
    tools, ```python or <llm-code>.
    """

    model: str = NANO.actor
    """The actor the data was generated with: hub name, local folder, or nano/actor. For another model its text is
    encoded anew."""
    data: str = "runs/tirgen/dataset.jsonl"
    """Data set that is trained on: what `thor tirgen` wrote, or conversations in a file or folder of JSONL, JSON, CSV
    or Parquet, perhaps with @SPLIT, or in a set of the hub as OWNER/NAME:CONFIG@SPLIT."""
    fields: Annotated[ChatFields, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ChatFields)
    """Columns of conversations."""
    chats: Annotated[ChatConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ChatConfig)
    """Spelling of conversations."""
    reasoning: bool = False
    """True for a reasoning model, whose chat template opens a thinking turn."""
    output: Path = Path("runs/sft")
    """Folder of the run: the model and everything that is needed to continue."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Tools beside Python, and the spelling of calls."""
    state: Annotated[SandboxState, tyro.conf.arg(name="sandbox.state")] = "program"
    """Life of the names that a program defines, as later stages will have it: the rules that the model reads say it."""
    sft: Annotated[SftConfig, tyro.conf.arg(name="")] = NANO.sft
    """Options of training."""
    end_token: EndTokens = ()
    """Token that ends the model's turn beside those that its tokenizer and its chat template name."""
    chat_template: str = ""
    """Chat template for a model that has none, or in place of its own: a Jinja file, or chatml, llama3, gemma, mistral
    or plain. The trained model keeps it."""

    def run(self) -> None:
        """Train or continue, and say where the model is."""
        from thor_tir.app.push import check_push
        from thor_tir.app.stages.sft import fine_tune
        from thor_tir.app.stages.sft_data import SftSource, sft_inputs
        from thor_tir.distributed import together

        if self.push_to_hub:
            check_push(self.push_to_hub)
        check_size(self.model, {"--learning-rate": (self.sft.learning_rate, NANO.sft.learning_rate)})
        self.tell_precision(trains=self.sft.bf16)
        claimed: Claimed = {
            "inputs": (self.model, *sft_inputs(self.data), *self.calls.inputs),
            "defaults": option_defaults(self),
            "growth": self._growth(),
        }
        if self.dry_run:
            check_claim(self.output, identity(self), **claimed)
            self._plan(ConsoleReporter())
            return
        with together() as ranks, ranks.led(claim(self.output, identity(self), **claimed)):
            reporter = ConsoleReporter(is_silent=not ranks.leads)
            model = fine_tune(
                self.model,
                SftSource(data=self.data, fields=self.fields, chats=self.chats),
                self.sft,
                self.output,
                reporter,
                reasoning=self.reasoning,
                calls=self.calls,
                keeps_state=self.state == "trajectory",
                end_tokens=self.end_token,
                chat_template=self.chat_template,
                ranks=ranks,
            )
            reporter.say(f"model: {model}")
            _leave_page(self.output, ranks, reporter)
            _push(self.output, self.push_to_hub, ranks, reporter)

    def _growth(self) -> Growth:
        return Growth(
            option="sft.num_train_epochs",
            is_wanted=self.extend,
            begun_as=sft_options(self.output, data=self.data, preset=self.preset),
        )

    def _plan(self, reporter: ConsoleReporter) -> None:
        from thor_tir.app.plan import plan_sft
        from thor_tir.app.stages.sft import sft_dialect
        from thor_tir.app.stages.sft_data import SftSource
        from thor_tir.engines.loading import load_tokenizer

        tokenizer = load_tokenizer(self.model, self.end_token, self.chat_template)
        dialect = sft_dialect(
            tokenizer, reasoning=self.reasoning, calls=self.calls, keeps_state=self.state == "trajectory"
        )
        source = SftSource(data=self.data, fields=self.fields, chats=self.chats)
        plan = plan_sft(self.sft, self.model, source, dialect, reporter.say, processes=self._sharing)
        tell_plans([plan], reporter)


def _push(folder: Path, name: str, ranks: "Ranks", reporter: ConsoleReporter) -> None:
    """Push the model of a run, by the process that leads, where a name is given."""
    from thor_tir.app.push import find_upload, push

    if name and ranks.leads:
        push(find_upload(folder, name), name, is_public=False, say=reporter.say)


def _leave_page(folder: Path, ranks: "Ranks", reporter: ConsoleReporter) -> None:
    """Write the page of a run, by the process that leads."""
    from thor_tir.view.export import leave_page

    if ranks.leads:
        reporter.say(f"report: {leave_page(folder)}")


@dataclass(frozen=True, kw_only=True)
class Rl(Training):
    """Hierarchical RL: GRPO over trajectories jointly with GRPO over single failed tool calls."""

    model: str = "runs/sft/model"
    """The cold-started model."""
    problems: str = NANO.problems
    """Data set of one's own (a file or folder of JSONL, JSON, CSV, TSV or Parquet, perhaps with @SPLIT, or one of the
    hub as OWNER/NAME:CONFIG@SPLIT), or reasoning_gym:family,family, or reasoning_gym (the nano families)."""
    fields: Annotated[ProblemFields, tyro.conf.arg(name="")] = ANY_FIELDS
    """Columns of a data set of one's own."""
    choice: Annotated[ProblemChoice, tyro.conf.arg(name="")] = EVERY
    """Part of it that is used."""
    count: int = NANO.num_rl
    """Problems that training draws from, by the seed where the data set has more."""
    reasoning: bool = False
    """True for a reasoning model, whose chat template opens a thinking turn."""
    output: Path = Path("runs/rl")
    """Folder of the run: the model, its figures, and everything that was sampled."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    observation: ObservationConfig = NANO.observation
    """Text that the model reads of a program's end."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Tools beside Python, and the spelling of calls."""
    rl: Annotated[RLConfig, tyro.conf.arg(name="")] = NANO.rl
    """Options of training."""
    resources: Annotated[ResourceConfig, tyro.conf.arg(name="")] = NANO.resources
    """Parts of the machine that the run may use."""
    cluster: ClusterOptions = dataclasses.field(default_factory=ClusterOptions)
    """GPUs that --dry-run plans for; the run itself does not read it."""

    def check_places(self) -> None:
        """Raise UsageError for places on a Ray cluster that this run cannot have."""
        super().check_places()
        if self.resources.deterministic and self.ray.min_processes:
            raise UsageError(
                "--deterministic gives the same bits for the same number of processes: leave out --ray.min-processes"
            )

    def run(self) -> None:
        """Train or continue, and say where the model is."""
        from thor_tir.app.push import check_push
        from thor_tir.app.runtime import open_runtime
        from thor_tir.app.stages.rl import reinforce
        from thor_tir.distributed import Ranks, together

        if self.push_to_hub:
            check_push(self.push_to_hub)
        limits = (self.rl.rollout.max_completion_length, NANO.rl.rollout.max_completion_length)
        rates = (self.rl.learning_rate, NANO.rl.learning_rate)
        if not (self.dry_run and self.cluster.gpus and self.cluster.model):  # else --model need not be there yet
            check_size(self.model, {"--rollout.max-completion-length": limits, "--learning-rate": rates})
            self.tell_precision(trains=self.rl.bf16)
        config = RunConfig(
            problems=self.problems,
            fields=self.fields,
            choice=self.choice,
            reasoning=self.reasoning,
            observation=self.observation,
            calls=self.calls,
            num_rl=self.count,
            rl=self.rl,
            resources=self.resources,
            seed=self.rl.seed,
            eval=dataclasses.replace(NANO.eval, seed=self.rl.seed),
        )
        claimed: Claimed = {
            "inputs": (
                self.model,
                *local_inputs(self.problems),
                *local_inputs(self.rl.validation_problems),
                *self.calls.inputs,
            ),
            "functions": hook_files(self.rl.functions),
            "defaults": option_defaults(self),
            "growth": self._growth(),
        }
        if self.dry_run:
            check_claim(self.output, identity(self), **claimed)
            self._plan(config, ConsoleReporter())
            return

        async def work(ranks: Ranks) -> None:
            reporter = ConsoleReporter(is_silent=not ranks.leads)
            async with open_runtime(self.resources, ranks=ranks, calls=self.calls) as runtime:
                model = await reinforce(config, self.model, self.output, runtime, reporter)
            reporter.say(f"model: {model}")
            _leave_page(self.output, ranks, reporter)
            _push(self.output, self.push_to_hub, ranks, reporter)

        with together() as ranks, ranks.led(claim(self.output, identity(self), **claimed)):
            asyncio.run(work(ranks))

    def _growth(self) -> Growth:
        return Growth(
            option="rl.num_rounds",
            is_wanted=self.extend,
            begun_as=rl_options(self.output, model=self.model, problems=self.problems, preset=self.preset),
        )

    def check_typed(self, given: "Rl | None") -> None:
        """Raise UsageError for options of a new run without effect; `given` are those of files, where there are any."""
        from thor_tir.rl.meaning import check_meaning

        if not is_begun(self.output):
            words = ["--preset", self.preset, *(["--reasoning"] if self.reasoning else [])]
            check_meaning(self.rl, defaults("rl", words).rl, None if given is None else given.rl)

    def _plan(self, config: RunConfig, reporter: ConsoleReporter) -> None:
        from thor_tir.app.plan import plan_rl, plan_rl_on

        if not self.cluster.gpus:
            if self.cluster != ClusterOptions():
                reporter.say("--cluster.*: not read without --cluster.gpus; this plan is for this machine")
            plan = plan_rl(config, self.model, reporter.say, processes=self._sharing, is_here=self.is_here)
            tell_plans([plan], reporter)
            return
        plan, planned = plan_rl_on(config, self.model, self.cluster, reporter.say)
        for role in planned.parts:
            title = f"memory of a GPU, {role}"
            reporter.show(text_table(title, ("", ""), planned.memory_rows(role), left=True))
        reporter.show(text_table("time of a round", ("", ""), planned.time_rows, left=True))
        for sentence in planned.assumed:
            reporter.say(sentence)
        tell_plans([plan], reporter)
