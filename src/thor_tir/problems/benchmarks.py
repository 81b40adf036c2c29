"""The mathematics benchmarks that are known by name: where their problems come from, and the proof that they are those.

No benchmark's data is part of the package. A file (or a folder of files) that the user names is read as it is; without
one the set is asked of the Hugging Face hub. Either way the number of problems and a digest of them must be the known
ones: published copies differ in their reference answers, up to one in seven, and scores on them cannot be compared.
"""

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.extras import installation
from thor_tir.problem import Problem, digest
from thor_tir.problems.code_tasks import CodeTask
from thor_tir.problems.data_set import kept_of, read_problems


class AnswerType(StrEnum):
    """Type of a set's reference answers."""

    INTEGER = "integer"
    NUMBER = "number"
    EXPRESSION = "expression"
    """Anything that LaTeX writes: numbers, tuples, intervals, formulas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSet:
    """A set on the Hugging Face hub and the columns that are read."""

    path: str
    """Name of the data set on the hub."""
    split: str = "test"
    """Split that is read."""
    config: str | None = None
    """Configuration of the data set; None where it has one alone."""
    question: str = "problem"
    """Column of the questions."""
    answer: str = "answer"
    """Column of the answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One set of problems with everything that must be known to name a score on it."""

    name: str
    """Name on the command line, and the `source` of its problems."""
    title: str
    """Name in tables."""
    files: tuple[str, ...]
    """Names under which its file is found in a folder."""
    size: int
    """Problems."""
    sha256: str
    """See `digest_of`."""
    origin: str
    """Author of the set."""
    licence: str
    """Licence of the problem texts and of the copy that the digest belongs to."""
    answers: AnswerType
    """Type of the answers."""
    hub: HubSet
    """Place of the set on the hub."""
    prompt: str = "question, answer in a box"
    """Prompt with which it is asked; the text is that of `dialect/prompts.py`, with or without tools."""

    @property
    def how_to_obtain(self) -> str:
        """One sentence for a person who has no copy."""
        return (
            f"give --data a folder with {' or '.join(self.files)} ({self.size} lines with `problem` and `answer`), "
            f"or have a network and {installation('datasets')}: {self.hub.path} on the Hugging Face hub"
        )


MAA = "problem texts (c) MAA; do not redistribute"

_KNOWN = (
    Benchmark(
        name="math500",
        title="MATH500",
        files=("math500.jsonl", "math_500.jsonl", "MATH-500.jsonl"),
        size=500,
        sha256="96ab71e252c6e11a34ff2ad7b08cbe30128be01afea4e91e371a6d39fe63f85b",
        origin="MATH (Hendrycks et al., 2021), the 500 test problems of Lightman et al. (2023)",
        licence="MIT (hendrycks/math)",
        answers=AnswerType.EXPRESSION,
        hub=HubSet(path="HuggingFaceH4/MATH-500"),
    ),
    Benchmark(
        name="aime24",
        title="AIME24",
        files=("aime24.jsonl", "aime_2024.jsonl"),
        size=30,
        sha256="cce8ad5d4deda818bbefcdfd13d11c58fd27a8952f2c44eb5246a6e3acac9363",
        origin="American Invitational Mathematics Examination 2024, I and II",
        licence=MAA,
        answers=AnswerType.INTEGER,
        hub=HubSet(path="HuggingFaceH4/aime_2024", split="train"),
    ),
    Benchmark(
        name="aime25",
        title="AIME25",
        files=("aime25.jsonl", "aime_2025.jsonl"),
        size=30,
        sha256="75a2d409ed7f3433532c79a38f10ac9b5879a6b6753787f48b5026896cebe61d",
        origin="American Invitational Mathematics Examination 2025, I and II",
        licence=MAA,
        answers=AnswerType.INTEGER,
        hub=HubSet(path="math-ai/aime25"),
    ),
    Benchmark(
        name="amc23",
        title="AMC23",
        files=("amc23.jsonl",),
        size=40,
        sha256="129c187ed5b0d7d3331ad7e6fb6364060a0fe533f7dd4fb7aa19f58e791f95f5",
        origin="American Mathematics Competitions 12A and 12B of 2023, without the problems that need a figure",
        licence=MAA,
        answers=AnswerType.NUMBER,
        hub=HubSet(path="math-ai/amc23", question="question"),
    ),
    Benchmark(
        name="minerva",
        title="Minerva",
        files=("minerva_math.jsonl", "minerva.jsonl"),
        size=272,
        sha256="abc8c073e9cd074887fdb7fa5e08e52d0e1ab73975305d51f8e39a8ac946ecad",
        origin="OCWCourses of Minerva (Lewkowycz et al., 2022), from MIT OpenCourseWare",
        licence="CC BY-NC-SA 4.0",
        answers=AnswerType.EXPRESSION,
        hub=HubSet(path="math-ai/minervamath", question="question"),
    ),
    Benchmark(
        name="olympiadbench",
        title="Olympiad",
        files=("olympiadbench.jsonl", "olympiad_bench.jsonl"),
        size=675,
        sha256="c562ba26658c5d1924c65e45fba91ed945f97125831988a4cc7a41db4679b59f",
        origin="OlympiadBench (He et al., 2024), open-ended English text-only mathematics",
        licence="Apache-2.0",
        answers=AnswerType.EXPRESSION,
        hub=HubSet(path="math-ai/olympiadbench", question="question", answer="final_answer"),
    ),
    Benchmark(
        name="gsm8k",
        title="GSM8K",
        files=("gsm8k_test.jsonl", "gsm8k.jsonl"),
        size=1319,
        sha256="2d0da8c2b3487aca407f5bed9a455dc8853bfb644d5189ff9db4477d0dd4f471",
        origin="GSM8K (Cobbe et al., 2021), test split",
        licence="MIT",
        answers=AnswerType.NUMBER,
        hub=HubSet(path="openai/gsm8k", config="main", question="question"),
    ),
    Benchmark(
        name="svamp",
        title="SVAMP",
        files=("svamp.jsonl",),
        size=1000,
        sha256="06e90b13e5f83b0b512bb0f3356155b5ee84318e5bb4ddd7671b6c4b31914e05",
        origin="SVAMP (Patel et al., 2021)",
        licence="MIT",
        answers=AnswerType.NUMBER,
        hub=HubSet(path="ChilleD/SVAMP", split="train+test", question="question_concat", answer="Answer"),
    ),
)

BENCHMARKS: Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in _KNOWN}
"""Known sets by name."""

SIX_SETS = ("math500", "aime24", "aime25", "amc23", "minerva", "olympiadbench")
"""The sets whose unweighted mean is the paper's "Avg." (Table 1)."""


class ProblemKind(StrEnum):
    """Kind of the answers."""

    MATHEMATICS = "mathematics"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemSet:
    """Problems under a name, as an evaluation asks them."""

    name: str
    """Short name of the set, as files are named."""
    title: str
    """Name for people."""
    problems: tuple[Problem, ...]
    """Problems that are asked."""
    sha256: str
    """Digest of all problems that were found, whatever is asked of them; see `digest_of`."""
    notes: tuple[str, ...] = field(default=())
    """Departures from the registered set; empty where there are none."""
    kind: ProblemKind = ProblemKind.MATHEMATICS
    """Kind of the problems, which decides prompt and grading."""
    tasks: Mapping[str, CodeTask] = field(default_factory=dict)
    """Tests of each code problem's program, by the problem's id. Not kept with a run."""


def load_benchmark(name: str, data: Path | None = None, *, accept_modified: bool = False) -> ProblemSet:
    """The problems of a registered benchmark.

    `data` is the benchmark's file or a folder that holds it; None asks the hub. Raises UsageError for an unknown name,
    for data that cannot be had, and for data that are not the registered ones unless `accept_modified`.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    problems = (
        of_hub(benchmark, benchmark.how_to_obtain) if data is None else _of_file(_find(benchmark, data), source=name)
    )
    if (notes := differences(benchmark, problems)) and not accept_modified:
        raise UsageError(f"{'; '.join(notes)}: not the known {name}; --accept-modified evaluates it all the same")
    return ProblemSet(
        name=name, title=benchmark.title, problems=tuple(problems), sha256=digest_of(problems), notes=tuple(notes)
    )


def differences(benchmark: Benchmark, problems: Iterable[Problem]) -> list[str]:
    """Sentences about how problems depart from the registered ones; empty where they do not."""
    found = list(problems)
    if len(found) != benchmark.size:
        return [f"{benchmark.name} has {benchmark.size} problems, found {len(found)}"]
    if (sha := digest_of(found)) != benchmark.sha256:
        return [f"{benchmark.name}: the SHA-256 of its problems is {benchmark.sha256[:12]}..., found {sha[:12]}..."]
    return []


def digest_of(problems: Iterable[Problem]) -> str:
    """SHA-256 of questions and answers with blanks run together, whatever their order and their ids."""
    pairs = sorted((" ".join(p.question.split()), " ".join(p.answer.split())) for p in problems)
    return sha256("".join(json.dumps(pair) + "\n" for pair in pairs).encode()).hexdigest()


def _find(benchmark: Benchmark, data: Path) -> Path:
    if data.is_file():
        return data
    if not data.is_dir():
        raise UsageError(f"no file or folder at {data}; {benchmark.how_to_obtain}")
    for name in benchmark.files:
        if (data / name).is_file():
            return data / name
    raise UsageError(f"{data} holds no {benchmark.name}; {benchmark.how_to_obtain}")


def _of_file(path: Path, *, source: str) -> list[Problem]:
    return [replace(p, source=source, answer=_as_known(source, p.answer)) for p in read_problems(path)]


def _as_known(benchmark: str, answer: str) -> str:
    """The answer as the benchmark's digest knows it: GSM8K publishes solutions that end in `#### 1,450`."""
    return (answer.rpartition("####")[2].replace(",", "") if benchmark == "gsm8k" else answer).strip()


def of_hub(benchmark: Benchmark, how_to_obtain: str) -> list[Problem]:
    """The problems of the hub's copy. Raises UsageError as `hub_rows` does."""
    return [_of_hub_row(benchmark, row) for row in hub_rows(benchmark.hub, how_to_obtain)]


def hub_rows(hub: HubSet, how_to_obtain: str) -> list[Mapping[str, Any]]:
    """Ask the hub through the `datasets` package, whose own cache serves a machine that has had the set before.

    Raises UsageError, which ends with `how_to_obtain`, where the package or the set cannot be had.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise UsageError(f"no --data, and `datasets` is not installed; {how_to_obtain}") from error
    try:
        return list(datasets.load_dataset(hub.path, hub.config, split=hub.split))
    # No network, no such set, a set without that split; a file that cannot be read.
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().splitlines()[:1]
        raise UsageError(f"{hub.path} cannot be loaded ({' '.join(reason)}); {how_to_obtain}") from error


def _of_hub_row(benchmark: Benchmark, row: Mapping[str, Any]) -> Problem:
    hub = benchmark.hub
    if hub.question not in row or hub.answer not in row:
        raise UsageError(f"{hub.path} has the columns {', '.join(row)}; expected {hub.question} and {hub.answer}")
    answer = row[hub.answer]
    if isinstance(answer, list) and answer:  # OlympiadBench wraps its answer in a list of one
        answer = answer[0]
    question = str(row[hub.question])
    id = f"{benchmark.name}/{digest(question)}"
    return Problem(
        id=id,
        question=question,
        answer=_as_known(benchmark.name, str(answer)),
        source=benchmark.name,
        extra=kept_of(row),
    )
