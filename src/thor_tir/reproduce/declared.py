"""The form of an experiment: stages, each a command of THOR with its folder, and rows that are read from evaluations.

A stage is named once and shared by every table that needs it. Its words hold places in braces: `{seed}`, `{actor}`,
`{critic}`, `{preset}`, and `{NAME}` for the folder of another stage, which thereby comes first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from string import Formatter

from thor_tir.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One command, and the folder that it fills."""

    name: str
    """Name of the stage and of its folder."""
    command: str
    """Command of THOR, such as `rl`."""
    words: tuple[str, ...]
    """Its options, with places in braces; --output is added."""
    is_of_seed: bool = True
    """False for what is the same whatever the seed, such as an evaluation of the model that all begin from."""
    output: str = "--output"
    """Option that names the folder; empty for a command that works in the folder of the stage that it needs."""
    seconds: float | None = None
    """Time on the embedded model and one quiet core, for the plan of what was never run; None where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model that experiments are run on."""

    name: str
    """Name of the folder below --output, and of result files."""
    actor: str
    """Model that everything begins from."""
    critic: str
    """Model that rewrites steps as programs."""
    preset: str
    """Preset of its commands."""
    data: str = ""
    """Folder with the files of benchmarks."""
    limit: str = "--num-problems"
    """Option that bounds the problems of an evaluation: another one for problems that are made than for files."""
    begins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options by command where a stage does not name them."""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further options by command and by stage; the last ones win, and those of the stage over those of its command."""
    stages: Mapping[str, Stage] = field(default_factory=dict)
    """Stages that this model needs beside the common ones, or in place of those of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: an evaluation in every seed."""

    name: str
    """Name of the line."""
    evaluation: str
    """Stage whose attempts are measured."""
    select: str = ""
    """Selector that takes one of a problem's attempts; empty where all count."""
    after: str = ""
    """Stage that must be done as well, such as one that asks a reward model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two lines whose difference is measured."""

    ours: str
    """Name of the line."""
    theirs: str
    """Name of the line that is taken from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Numbers that a paper printed for one model."""

    model: str
    """Name of its model."""
    measure: str
    """Measure of ours that stands beside them."""
    values: Mapping[str, float]
    """Number by the name of the row, in the units of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One table or figure."""

    name: str
    """Name on the command line."""
    title: str
    """Title of its page."""
    rows: tuple[Row, ...]
    """Lines in order."""
    measures: tuple[str, ...]
    """Columns, by the names of `measures.MEASURES`; the first is drawn."""
    pairs: tuple[Pair, ...]
    """Differences that the experiment is about, in the first measure unless `compared` names others."""
    compared: tuple[str, ...] = ()
    """Measures whose differences are taken; the first column alone where it is empty."""
    paper: tuple[Reported, ...] = ()
    """Numbers of the paper."""
    is_family: bool = False
    """True where the pairs are one family of comparisons: their p-values are corrected for their number (Holm)."""
    notes: tuple[str, ...] = ()
    """Sentences below the table: what is different from the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stage of one seed, with every place filled."""

    stage: Stage
    """The stage."""
    seed: int | None
    """Its seed; None for a stage without one."""
    folder: Path
    """Folder that it fills."""
    words: tuple[str, ...]
    """Words of its command behind its name."""
    seconds: float | None = None
    """Time that it may take where no seed has had it yet; None where nobody knows."""
    needs: tuple[Path, ...] = ()
    """Folders of the stages that come before it."""

    @property
    def name(self) -> str:
        """Its seed and stage."""
        return self.stage.name if self.seed is None else f"seed {self.seed}, {self.stage.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folders of a subject's stages."""

    subject: Subject
    """The model."""
    root: Path
    """Folder of all runs."""
    stages: Mapping[str, Stage]
    """Every stage that may be asked for."""

    def stage(self, name: str) -> Stage:
        """A stage by its name. Raises UsageError for none such."""
        if (found := self.subject.stages.get(name, self.stages.get(name))) is None:
            raise UsageError(f"no stage is named {name}; there are {', '.join(self.stages)}")
        return found

    def folder(self, name: str, seed: int) -> Path:
        """The folder of a stage in a seed; a stage without a seed has one for all."""
        part = f"seed-{seed}" if self.stage(name).is_of_seed else "every-seed"
        return self.root / self.subject.name / part / name

    def jobs(self, rows: Sequence[Row], seeds: Sequence[int]) -> list[Job]:
        """All that the rows need, each once, what is needed first, one seed after the other."""
        wanted = [name for row in rows for name in (row.evaluation, row.after) if name]
        found: dict[Path, Job] = {}
        for seed in seeds:
            for name in wanted:
                for job in self._with_needs(name, seed):
                    found.setdefault(job.folder, job)
        return list(found.values())

    def filled(self, text: str, seed: int) -> str:
        """A text with its places filled: values of the subject, and folders of stages in a seed."""
        common, places = self._common(seed), _places(text)
        if "data" in places and not self.subject.data:
            raise UsageError("this table asks a benchmark: give --data, the folder with its files")
        return text.format_map({name: common.get(name) or str(self.folder(name, seed)) for name in places})

    def _with_needs(self, name: str, seed: int) -> Iterator[Job]:
        stage, folder = self.stage(name), self.folder(name, seed)
        further = (self.subject.words.get(key, ()) for key in dict.fromkeys((stage.command, name)))
        begins = _unless_named(self.subject.begins.get(stage.command, ()), stage.words)
        words = (*stage.words, *chain.from_iterable(further), *begins)
        needs = [place for word in words for place in _places(word) if place not in self._common(seed)]
        for place in needs:
            yield from self._with_needs(place, seed)
        filled = [self.filled(word, seed) for word in words]
        if stage.output:
            filled += [stage.output, str(folder)]
        yield Job(
            stage=stage,
            seed=seed if stage.is_of_seed else None,
            folder=folder,
            words=tuple(filled),
            seconds=stage.seconds if self.subject.name == "nano" else None,
            needs=tuple(self.folder(place, seed) for place in dict.fromkeys(needs)),
        )

    def _common(self, seed: int) -> dict[str, str]:
        subject = self.subject
        return {
            "seed": str(seed),
            "actor": subject.actor,
            "critic": subject.critic,
            "preset": subject.preset,
            "data": subject.data,
            "limit": subject.limit,
        }


def _unless_named(options: Sequence[str], words: Sequence[str]) -> Iterator[str]:
    """The options, each with its value, that the words do not name."""
    is_kept = True
    for word in options:
        if word.startswith("--"):
            is_kept = word not in words
        if is_kept:
            yield word


def verbatim(text: str) -> str:
    """A text as a word of a stage, without places, whatever braces it has."""
    return text.replace("{", "{{").replace("}", "}}")


def _places(text: str) -> list[str]:
    """Names in braces, in their order."""
    return [name for _, name, _, _ in Formatter().parse(text) if name]
