"""The commands behind the command line: typed options, and what each one runs.

Options of a stage are the stage's own configuration record. `--preset nano` (the default) fits the embedded models,
`--preset paper` starts from the paper's values; single options override either.
"""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import tyro
from transformers.utils.logging import disable_progress_bar

from thor_tir.console import ConsoleReporter, differences, results_table
from thor_tir.faults import UsageError
from thor_tir.recipes.settings import EvalConfig, Machinery, RunConfig, quickstart
from thor_tir.rl.train import RLConfig
from thor_tir.sft.train import SftConfig
from thor_tir.tirgen.filters import FilterConfig
from thor_tir.tirgen.generate import TirgenConfig

NANO = quickstart()
PRESETS: Mapping[str, RunConfig] = {"nano": NANO, "paper": RunConfig()}


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """The whole method on the embedded models: TIRGen, cold start, hierarchical RL, self-correction, best of N, report.

    About ten minutes on two cores. Killed at any instant, the same command continues.
    """

    output: Path = Path("runs/quickstart")
    """Folder of the run: results.json, report.html and everything that was sampled."""
    seed: int = 0
    deterministic: bool = False
    """Same seed, same bits, even after a kill; slower, since the batch waits for every tool."""

    def run(self) -> None:
        """Run or continue it and print what came out."""
        from thor_tir.recipes import quickstart as recipe

        reporter = ConsoleReporter()
        config = quickstart(seed=self.seed, deterministic=self.deterministic)
        outcome = asyncio.run(recipe.run(config, self.output, reporter))
        reporter.console.print(results_table(outcome.results))
        reporter.say(differences(outcome.summary))
        reporter.say(f"results: {self.output / 'results.json'}\nreport:  {outcome.report}")


@dataclass(frozen=True, kw_only=True)
class NanoPretrain:
    """Pretrain an embedded model from scratch on text that this package generates. Resumes where it was killed."""

    action: tyro.conf.Positional[Literal["pretrain"]] = "pretrain"
    role: Literal["actor", "critic"] = "actor"
    num_steps: int = 3000
    seed: int = 0
    output: Path | None = None
    """Where the model folder goes; by default runs/nano/<role>."""

    def run(self) -> None:
        """Train and write weights and card."""
        from thor_tir.nano.pretrain import PretrainConfig, pretrain

        output = self.output or Path("runs/nano") / self.role
        config = PretrainConfig(role=self.role, num_steps=self.num_steps, seed=self.seed)
        reporter = ConsoleReporter()
        with reporter.stage(f"pretraining nano/{self.role}", self.num_steps) as progress:
            pretrain(config, output, output.with_name(f"{output.name}.work"), progress)
        reporter.say(f"model: {output}")


@dataclass(frozen=True, kw_only=True)
class Tirgen:
    """Build tool-integrated data: an actor reasons, a critic turns steps into programs, the sandbox runs them."""

    actor: str = NANO.actor
    """Hub name, local folder, or nano/actor. The model that will be trained."""
    critic: str = NANO.critic
    """Hub name, local folder, or nano/critic. Sees isolated steps only."""
    problems: str = NANO.problems
    """JSONL file with `question` and `answer`, or reasoning_gym:family,family, or reasoning_gym (the nano families)."""
    count: int = NANO.num_tirgen
    words_samples: int = NANO.words_samples
    """Tool-free samples per question, to leave out what words alone solve; 0 for none."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    output: Path = Path("runs/tirgen")
    seed: int = 0
    tirgen: TirgenConfig = NANO.tirgen
    filter: FilterConfig = NANO.filter
    machinery: Machinery = NANO.machinery

    def run(self) -> None:
        """Generate, filter, and say what each stage of the filter left."""
        from thor_tir.recipes.stages import bench, claim, generate_data

        config = RunConfig(
            actor=self.actor,
            critic=self.critic,
            problems=self.problems,
            num_tirgen=self.count,
            reasoning=self.reasoning,
            words_samples=self.words_samples,
            tirgen=self.tirgen,
            filter=self.filter,
            machinery=self.machinery,
            seed=self.seed,
        )
        reporter = ConsoleReporter()

        async def work() -> Path:
            async with bench(self.machinery) as tools:
                return await generate_data(config, self.output, tools, reporter)

        with claim(self.output, dataclasses.asdict(self)):
            path = asyncio.run(work())
        for stage in json.loads((self.output / "funnel.json").read_text(encoding="utf-8"))["stages"]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in stage["rejected"].items())
            reporter.say(f"{stage['kept']:>7} after {stage['name']}" + (f" (dropped: {reasons})" if reasons else ""))
        reporter.say(f"data set: {path}")


@dataclass(frozen=True, kw_only=True)
class Sft:
    """Cold-start fine-tuning on a data set that `thor tirgen` wrote, tool outputs masked."""

    model: str = NANO.actor
    """The actor the data was generated with: hub name, local folder, or nano/actor."""
    data: Path = Path("runs/tirgen/dataset.jsonl")
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    output: Path = Path("runs/sft")
    sft: SftConfig = NANO.sft

    def run(self) -> None:
        """Train or continue, and say where the model is."""
        from thor_tir.recipes.stages import claim, fine_tune

        reporter = ConsoleReporter()
        with claim(self.output, dataclasses.asdict(self)):
            model = fine_tune(self.model, self.data, self.sft, self.output, reporter, reasoning=self.reasoning)
        reporter.say(f"model: {model}")


@dataclass(frozen=True, kw_only=True)
class Rl:
    """Hierarchical RL: GRPO over trajectories jointly with GRPO over single failed tool calls."""

    model: str = "runs/sft/model"
    """The cold-started model."""
    problems: str = NANO.problems
    """JSONL file with `question` and `answer`, or reasoning_gym:family,family, or reasoning_gym (the nano families)."""
    count: int = NANO.num_rl
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    output: Path = Path("runs/rl")
    seed: int = 0
    episode_only: bool = False
    """Ablation: no step level."""
    rl: RLConfig = NANO.rl
    machinery: Machinery = NANO.machinery

    def run(self) -> None:
        """Train or continue, and say where the model is."""
        from thor_tir.recipes.stages import bench, claim, reinforce

        rl = dataclasses.replace(self.rl, step=None) if self.episode_only else self.rl
        config = RunConfig(
            problems=self.problems,
            reasoning=self.reasoning,
            num_rl=self.count,
            rl=rl,
            machinery=self.machinery,
            seed=self.seed,
            eval=NANO.eval,
        )
        reporter = ConsoleReporter()

        async def work() -> Path:
            async with bench(self.machinery) as tools:
                return await reinforce(config, self.model, self.output, tools, reporter)

        with claim(self.output, dataclasses.asdict(self)):
            model = asyncio.run(work())
        reporter.say(f"model: {model}")


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Accuracy, call success and cost of a model on problems, with 95 % intervals over the problems."""

    model: str = NANO.actor
    """Hub name, local folder, or nano/actor."""
    problems: str = NANO.problems
    """JSONL file, reasoning_gym:family,family, or reasoning_gym for the nano families (their test split)."""
    output: Path | None = None
    """Where attempts and results go; by default a folder of runs/eval named after these options."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    words: bool = False
    """Without tools: reasoning in words alone."""
    correct: bool = False
    """With self-correction: a failed call is backtracked and written again."""
    eval: EvalConfig = NANO.eval
    machinery: Machinery = NANO.machinery

    def run(self) -> None:
        """Sample, grade and print one row."""
        from thor_tir.dialect.prompts import TOOLS, WORDS
        from thor_tir.eval.run import result_row
        from thor_tir.journal import write_atomically
        from thor_tir.problem import digest
        from thor_tir.problems.sources import Split, load_problems
        from thor_tir.recipes.stages import Contestant, bench, claim, evaluate_model

        config = RunConfig(problems=self.problems, reasoning=self.reasoning, eval=self.eval, machinery=self.machinery)
        problems = load_problems(
            self.problems,
            split=Split.TEST,
            count=self.eval.num_problems,
            seed=self.eval.seed + 4,
            configs=config.families,
        )
        contestant = Contestant(
            name="words" if self.words else "corrected" if self.correct else "tools",
            model=self.model,
            samples=self.eval.samples,
            style=WORDS if self.words else TOOLS,
            correction=self.eval.correction if self.correct else None,
        )
        reporter = ConsoleReporter()
        options = dataclasses.asdict(self)
        output = self.output or Path("runs/eval") / digest(json.dumps(options, default=str))

        async def work() -> Any:
            async with bench(self.machinery) as tools:
                return await evaluate_model(contestant, problems, config, output, tools, reporter)

        with claim(output, options):
            row = result_row(asyncio.run(work()))
        write_atomically(output / "results.json", json.dumps([row], indent=1) + "\n")
        reporter.console.print(results_table([row]))
        reporter.say(f"attempts and results: {output}")


@dataclass(frozen=True, kw_only=True)
class Solve:
    """Answer one question with tools and self-correction, and show the whole transcript."""

    question: tyro.conf.Positional[str]
    model: str = ""
    """Hub name or local folder; by default the newest trained model of runs/quickstart, else the embedded one."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    attempts: int = 1
    """More than one: self-rewarded best of so many, without self-correction."""
    seed: int = 0
    eval: EvalConfig = NANO.eval

    def run(self) -> None:
        """Sample and print."""
        from thor_tir.recipes.solve import Question, solve

        task = Question(text=self.question, model=self.model, reasoning=self.reasoning)
        solve(task, self.eval, ConsoleReporter(), attempts=self.attempts, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Show:
    """Look at stored trajectories of a run; with --report write its report.html again."""

    folder: tyro.conf.Positional[Path]
    id: tyro.conf.Positional[str] = ""
    """A trajectory's id, or the beginning of one; without it the known ids are listed."""
    report: bool = False

    def run(self) -> None:
        """Print one transcript, a list, or the report's path."""
        from thor_tir.recipes.solve import show

        reporter = ConsoleReporter()
        if self.report:
            from thor_tir.eval.report import write_report

            reporter.say(f"report: {write_report(self.folder)}")
        else:
            show(self.folder, self.id, reporter)


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """What this machine offers: cores, torch, sandbox layers, embedded models. Exit status 0 if THOR can run."""

    def run(self) -> None:
        """Look and print."""
        from thor_tir.recipes.doctor import examine

        examine(ConsoleReporter())


OPTIONS: Mapping[str, type[Any]] = {
    "quickstart": Quickstart,
    "nano": NanoPretrain,
    "tirgen": Tirgen,
    "sft": Sft,
    "rl": Rl,
    "solve": Solve,
    "eval": Eval,
    "show": Show,
    "doctor": Doctor,
}


def run(name: str, args: list[str]) -> None:
    """Parse the options of one command and carry it out. Raises UsageError for contradictions between options."""
    kind = OPTIONS[name]
    disable_progress_bar()  # of transformers, which draws one for every checkpoint of a few megabytes
    default = _preset(kind, name, args)
    try:
        options = tyro.cli(kind, args=args, prog=f"thor {name}", default=default)
    except ValueError as error:
        raise UsageError(str(error)) from error
    cast(Callable[[], None], options.run)()


def _preset(kind: type[Any], name: str, args: list[str]) -> Any:
    """Take `--preset NAME` out of the arguments: the command's defaults under it, None for its own."""
    if "--preset" not in args:
        return None
    at = args.index("--preset")
    value = args[at + 1] if at + 1 < len(args) else ""
    if value not in PRESETS:
        raise UsageError(f"--preset is one of {', '.join(PRESETS)}, found {value!r}")
    del args[at : at + 2]
    fields = {f.name for f in dataclasses.fields(kind)}
    staged = fields & {"tirgen", "filter", "sft", "rl", "eval"}
    if not staged:
        raise UsageError(f"`thor {name}` has no presets; tirgen, sft, rl, eval and solve have")
    required = {"question": tyro.MISSING} if "question" in fields else {}
    return kind(**required, **{stage: getattr(PRESETS[value], stage) for stage in staged})
