"""The command that runs the paper's tables."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from thor_tir.commands.options import DryRun
from thor_tir.console import ConsoleReporter, text_table
from thor_tir.errors import UsageError

if TYPE_CHECKING:
    from thor_tir.reproduce.declared import Experiment, Job, Layout, Row, Subject

RESULTS = "results"
"""Folder of the tables beside the folders of the models."""


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Run a table of the paper: what is missing is run, over several seeds, and tables with intervals are written.

    Every stage is a run of an ordinary command of THOR in a folder of its own, shared by all tables; killed at any
    instant, the same command continues. Given in several shells, or on machines that share the folder, it divides the
    stages among them.
    """

    names: tyro.conf.Positional[tuple[str, ...]]
    """Tables: table2, table3, table4, table5, table6, table7, figure4; `all` for every one of these; `family` and
    `family-time` for the step methods side by side; `ladder` for
    the method in one run of RL a seed, `gsm8k` for that benchmark."""
    model: str = ""
    """Model that they are run on: nano (the default), nano-thinker, smollm2-135m, or a folder or hub name, for which
    the five options that follow are."""
    like: str = ""
    """Preset of a model that is given by its folder or hub name; by default nano."""
    critic: str = ""
    """Model that rewrites the steps of such a model as programs; by default that model itself, nano/critic of an
    embedded one."""
    problems: str = ""
    """Problems that such a model is trained on, as `thor tirgen` and `thor rl` take them; by default those of its
    preset."""
    count: int | None = None
    """Problems of these that TIRGen asks; by default as many as `thor tirgen` does."""
    test_problems: str = ""
    """File of the problems that its rows are asked, all of them (figure 4 the first 120); questions that stand there
    are not trained on. By default reasoning-gym makes them."""
    seeds: int = 5
    """Number of seeds: 0, 1 and so on."""
    preset: Literal["", "paper"] = ""
    """`paper` says what the same command would run on the paper's models and what it would cost, and stops."""
    measure: bool = False
    """True runs nothing, and measures the seeds that are finished, or the rows that the first has finished, in each
    seed that has them all."""
    output: Path = Path("runs/reproduce")
    """Folder of the runs, one a model, and of `results`."""
    minutes: float = 0
    """Longest time of one stage in this call, in minutes: a stage that needs more ends the call, and the same command
    goes on with it; 0 sets no bound."""
    data: str = ""
    """Folder with the files of benchmarks, for tables that ask one (gsm8k)."""
    dry_run: DryRun = False
    """True says what would be run, what of it is done and how long the rest may take, and stops."""

    def run(self) -> None:
        """Run what is missing, measure, print and write."""
        from thor_tir.reproduce.declared import Layout
        from thor_tir.reproduce.precision import here
        from thor_tir.reproduce.runner import check_files
        from thor_tir.reproduce.stages import STAGES

        self._check()
        reporter = ConsoleReporter()
        experiments = self._experiments()
        rows = [row for each in experiments for row in each.rows]
        if self.preset:
            self._tell_paper(rows, reporter)
            return
        subject = here(replace(self._subject(), data=self.data), reporter.say)
        layout = Layout(subject=subject, root=self.output, stages=STAGES)
        self._check_data(layout.jobs(rows, [0]))
        check_files(layout.jobs(rows, range(self.seeds)), [self.problems, self.test_problems])
        if self.dry_run or (self._words_of_own and not self.measure):
            _check_models(layout.jobs(rows, [0]), reporter)
        if self.dry_run:
            _tell(layout.jobs(rows, range(self.seeds)), reporter)
            return
        if self.measure:
            for each in experiments:
                self._measure(each, layout, reporter)
            return
        self._run(experiments, layout, reporter)

    def _run(self, experiments: "Sequence[Experiment]", layout: "Layout", reporter: ConsoleReporter) -> None:
        """Run what is missing; tables are written whenever a seed is finished."""
        from thor_tir.reproduce.runner import OutOfTime, run_missing
        from thor_tir.storage.record_lock import held

        rows = [row for each in experiments for row in each.rows]
        jobs, execute = layout.jobs(rows, range(self.seeds)), partial(_carry_out, minutes=self.minutes)
        written: list[int] = []

        def write() -> None:
            nonlocal written
            if self._finished(rows, layout) == written:
                return
            with held(self.output / RESULTS / ".lock", waits=True):  # so that an older table never replaces a newer one
                written = self._finished(rows, layout)
                for each in experiments:
                    self._write(each, layout, written, reporter)

        try:
            write()
            for _ in run_missing(jobs, execute, reporter):
                write()
            write()
        except OutOfTime:
            reporter.say(f"the stage has used its {self.minutes:g} minutes: the same command goes on with it")
            if not written:
                self._write_what_there_is(experiments, layout, reporter)

    def _finished(self, rows: "Sequence[Row]", layout: "Layout") -> list[int]:
        """The seeds whose stages are all done, those that this call did not ask for too."""
        from thor_tir.reproduce.runner import plan

        folders = layout.folder("tirgen", 0).parents[1].glob("seed-*")
        known = {int(number) for folder in folders if (number := folder.name.removeprefix("seed-")).isdecimal()}
        seeds = sorted(known.union(range(self.seeds)))
        return [s for s in seeds if all(each.is_done for each in plan(layout.jobs(rows, [s])))]

    def _check(self) -> None:
        """Raise UsageError for numbers out of bounds, and for options that nothing would read."""
        from thor_tir.commands.options import PRESETS
        from thor_tir.reproduce.stages import SUBJECTS

        if self.seeds < 1 or self.minutes < 0:
            raise UsageError(f"--seeds is at least 1 and --minutes at least 0, found {self.seeds} and {self.minutes:g}")
        of_runs = {"--model": self.model, **self._of_own, "--minutes": self.minutes, "--measure": self.measure}
        if self.preset and (given := [option for option, value in of_runs.items() if value]):
            raise UsageError(
                f"--preset paper says what the paper's own models would run, and runs nothing: leave out "
                f"{' and '.join(given)}"
            )
        if self.measure and (self.dry_run or self.minutes):
            raise UsageError(f"--measure runs nothing: leave out {'--dry-run' if self.dry_run else '--minutes'}")
        if self.like and self.like not in PRESETS:
            raise UsageError(f"--like is one of {', '.join(PRESETS)}, found {self.like!r}")
        if self._model in SUBJECTS and any(self._of_own.values()):
            raise UsageError(
                f"{', '.join(option for option, value in self._of_own.items() if value)}: for a model that is given by "
                f"its folder or hub name alone; {self._model} has options of its own"
            )
        self._check_problems()

    def _check_problems(self) -> None:
        """Raise UsageError for problems of one's own that a stage could not read, or would train on and then ask."""
        from thor_tir.problems.sets import is_benchmark
        from thor_tir.problems.sources import local_inputs

        asked = self.test_problems
        if "gsm8k" in self.names and (self.problems or asked):
            raise UsageError("gsm8k has problems of its own: leave out --problems and --test-problems")
        is_there = self.measure or Path(asked).is_file()
        if asked and (not is_there or "," in asked or is_benchmark(asked)):
            raise UsageError(f"--test-problems {asked}: give a file that is there, without a comma in its name")
        if self.count is not None and (self.count < 1 or not self.problems):
            raise UsageError("--count is the number of --problems that TIRGen asks, at least 1")
        if not self.measure:
            self._check_contents(local_inputs(self.problems))

    def _check_contents(self, files: Sequence[str]) -> None:
        """Read problems of one's own, so that they are refused before the first stage and not by a later one."""
        from thor_tir.problems.sets import own_set
        from thor_tir.problems.sources import load_problems, not_asked_in

        try:
            test = own_set(self.test_problems).problems if self.test_problems else ()
            train = load_problems(self.problems, seed=0).problems if files else ()
        except UsageError as error:
            has_no_option = "; `thor reproduce` has none of these options: rename the columns"
            raise UsageError(f"{error}{has_no_option if '-field' in str(error) else ''}") from error
        if files and not not_asked_in(train, test):
            raise UsageError(
                f"every problem of {self.problems} stands in {self.test_problems} too: nothing is left to train on"
            )

    def _check_data(self, jobs: "Sequence[Job]") -> None:
        """Raise UsageError for a file of --data that is missing, and that a stage asks for, perhaps hours from now."""
        if not self.data:
            return
        if not _ask_benchmarks(jobs):
            raise UsageError(f"--data {self.data}: none of {', '.join(self.names)} asks a benchmark; leave it out")
        for word in (w for job in jobs for w in job.words if w == self.data or w.startswith(f"{self.data}/")):
            if not self.measure and not Path(word).exists():
                raise UsageError(f"{word} is not there, and a stage needs it: --data is the folder with the benchmark")

    def _measure(self, experiment: "Experiment", layout: "Layout", reporter: ConsoleReporter) -> None:
        if done := self._finished(experiment.rows, layout):
            self._write(experiment, layout, done, reporter)
        elif not self._write_what_there_is([experiment], layout, reporter):
            reporter.say(f"{experiment.name}: no row is finished")

    def _tell_paper(self, rows: "Sequence[Row]", reporter: ConsoleReporter) -> None:
        from thor_tir import commands
        from thor_tir.reproduce.cost import PAPER, costs
        from thor_tir.reproduce.declared import Layout
        from thor_tir.reproduce.report import counted
        from thor_tir.reproduce.stages import STAGES

        for paper in PAPER:
            subject = replace(paper.subject, data=self.data or paper.subject.data)
            jobs = Layout(subject=subject, root=self.output, stages=STAGES).jobs(rows, range(self.seeds))
            options = {
                job.stage.name: commands.parsed(job.stage.command, list(job.words))
                for job in jobs
                if job.seed in (None, 0)  # other seeds differ in nothing that costs
            }
            hours = costs(paper, [(job, options[job.stage.name]) for job in jobs])
            for job, cost in zip(jobs, hours, strict=True):
                if job.seed in (None, 0):
                    reporter.say(f"{cost:9,.1f} h  thor {shlex.join([*job.stage.command.split(), *job.words])}")
            stages = f"{counted(len(jobs), 'stage')} of {counted(self.seeds, 'seed')}"
            reporter.say(f"{subject.actor}, {stages}: {counted(round(sum(hours)), 'hour')} of one H100 at least\n")

    @property
    def _model(self) -> str:
        return self.model or "nano"

    @property
    def _of_own(self) -> dict[str, str]:
        """Options of a model that is given by its folder or hub name, and their values; empty ones were not given."""
        return {
            "--like": self.like,
            "--critic": self.critic,
            "--problems": self.problems,
            "--count": "" if self.count is None else str(self.count),
            "--test-problems": self.test_problems,
        }

    @property
    def _words_of_own(self) -> list[str]:
        return [word for option, value in self._of_own.items() if value for word in (option, value)]

    def _subject(self) -> "Subject":
        from thor_tir.engines.loading import EMBEDDED
        from thor_tir.reproduce.declared import Subject, verbatim
        from thor_tir.reproduce.runner import folder_name
        from thor_tir.reproduce.stages import SUBJECTS

        if (known := SUBJECTS.get(self._model)) is not None:
            return known
        trained = ("--problems", verbatim(self.problems)) if self.problems else ()
        count = ("--count", str(self.count)) if self.count is not None else ()
        asked = verbatim(self.test_problems)
        left_out = ("--filter.benchmarks", asked, "--filter.overlap-share", "1")  # texts of one template may differ
        return Subject(
            name=folder_name(self.model, self.output, taken=[*SUBJECTS, RESULTS]),
            actor=self.model,
            critic=self.critic or ("nano/critic" if self.model in EMBEDDED else self.model),
            preset=self.like or "nano",
            limit="--limit" if asked else "--num-problems",
            begins={
                "tirgen": (*trained, *count, *(left_out if asked else ())),
                "rl": (*trained, *(("--validation-problems", asked) if asked else ())),
                "eval": ("--problems", asked) if asked else (),
            },
        )

    def _experiments(self) -> "list[Experiment]":
        from thor_tir.reproduce.tables import EXPERIMENTS, PAPER

        names = list(PAPER) if "all" in self.names else list(dict.fromkeys(self.names))
        unknown = [name for name in names if name not in EXPERIMENTS]
        if unknown or not names:
            raise UsageError(f"name tables, of {', '.join(EXPERIMENTS)} or all; found {' '.join(unknown) or 'none'}")
        return [EXPERIMENTS[name] for name in names]

    def _write_what_there_is(
        self, experiments: "Sequence[Experiment]", layout: "Layout", reporter: ConsoleReporter
    ) -> bool:
        """Write tables of the rows that the first seed has finished, of every seed that has them all; those of whole
        seeds are written when a seed ends.

        Returns True where there is such a row.
        """
        from thor_tir.reproduce.runner import measurable

        found = [measurable(each, layout, [0]) for each in experiments]
        for each in found:
            if each.rows:
                self._write(each, layout, self._finished(each.rows, layout), reporter)
        return any(each.rows for each in found)

    def _write(
        self, experiment: "Experiment", layout: "Layout", seeds: Sequence[int], reporter: ConsoleReporter
    ) -> None:
        from thor_tir.reproduce.report import counted, draw, markdown, table
        from thor_tir.reproduce.results import result_of
        from thor_tir.reproduce.tables import EXPERIMENTS
        from thor_tir.storage.journal import make_folder, write_atomically

        wanted = max(self.seeds, *(seed + 1 for seed in seeds))
        words = ["--model", self._model, *self._words_of_own, "--seeds", str(wanted)]
        words += ["--data", self.data] if _ask_benchmarks(layout.jobs(experiment.rows, seeds[:1])) else []
        command = shlex.join(["thor", "reproduce", experiment.name, *words])
        result = result_of(experiment, layout, seeds, wanted=wanted, command=command)
        make_folder(self.output / RESULTS)
        place = self.output / RESULTS / f"{experiment.name}_{layout.subject.name}"
        write_atomically(place.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
        picture = place.with_suffix(".png")
        figure = picture.name if draw(result, picture) else ""
        write_atomically(place.with_suffix(".md"), markdown(result, figure))
        if self.measure or len(seeds) >= self.seeds:
            reporter.show(text_table(f"{result['title']}, {counted(len(seeds), 'seed')}", *table(result)))
        whole = EXPERIMENTS[experiment.name]
        rows = f" {len(experiment.rows)} of {len(whole.rows)} rows," if experiment.rows != whole.rows else ""
        of_seeds = f"{len(seeds)} of {counted(wanted, 'seed')}"
        reporter.say(f"{experiment.name},{rows} {of_seeds}: {place.with_suffix('.md')}")


def _ask_benchmarks(jobs: "Sequence[Job]") -> bool:
    """True where a stage reads a file of --data."""
    return any("{data}" in word for job in jobs for word in job.stage.words)


def _carry_out(command: str, words: Sequence[str], minutes: float) -> None:
    """Carry out a command in this process, whose record then holds its own command line.

    Raises OutOfTime where it takes more minutes, if there are any.
    """
    from thor_tir import commands
    from thor_tir.reproduce.runner import within

    name, *rest = command.split()
    before, sys.argv = sys.argv, ["thor", name, *rest, *words]
    try:
        with within(minutes):
            commands.run(name, [*rest, *words])
        if name == "tirgen":
            _check_samples(Path(words[words.index("--output") + 1]))
    finally:
        sys.argv = before


def _check_samples(folder: Path) -> None:
    """Raise UsageError for a TIRGen that left nothing to train on; it is not finished then."""
    data = folder / "dataset.jsonl"
    if data.is_file() and not data.stat().st_size:
        raise UsageError(
            f"{data} has no sample to train on ({folder / 'rejected.jsonl'} says why): name a --critic that can "
            "rewrite this model's steps, or more problems by --count, and another --output"
        )


def _check_models(jobs: "Sequence[Job]", reporter: ConsoleReporter) -> None:
    """Raise UsageError for models that the stages that come first would refuse."""
    from thor_tir import commands
    from thor_tir.address import is_address
    from thor_tir.engines.loading import EMBEDDED, model_config
    from thor_tir.reproduce.runner import plan

    for each in plan([job for job in jobs if not job.needs]):
        if each.is_done:
            continue
        options = commands.parsed(each.job.stage.command, list(each.job.words))
        options.check_limits(reporter)
        for model in {getattr(options, name) for name in ("model", "actor", "critic") if hasattr(options, name)}:
            if model not in EMBEDDED and not is_address(model):
                model_config(model)


def _tell(jobs: "Sequence[Job]", reporter: ConsoleReporter) -> None:
    from thor_tir.progress import duration
    from thor_tir.reproduce.report import counted
    from thor_tir.reproduce.runner import left, plan

    planned = plan(jobs)
    for each in planned:
        cost = "" if each.seconds is None else duration(each.seconds)
        state = "done" if each.is_done else "to do"
        words = shlex.join([*each.job.stage.command.split(), *each.job.words])
        reporter.say(f"{state:<6}{cost:>8}  {each.job.name}: thor {words}")
    todo = [each for each in planned if not each.is_done]
    reporter.say(f"{counted(len(planned), 'stage')}, {len(planned) - len(todo)} of them done; {left(todo)}")
