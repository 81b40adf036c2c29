"""Training problems that also occur in a benchmark. Only text is compared: a paraphrase passes."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.columns import QUESTION_FIELDS, question_in
from thor_tir.problems.rows import kind_of, read_rows
from thor_tir.problems.sources import normalised

NGRAM = 13
"""Tokens in a row that count as copying, the length customary since GPT-3 (arXiv 2005.14165, appendix C)."""
_WORDS = re.compile(r"[^\W_]+")
_LAYOUT = re.compile(
    r"\\(?:q?quad|text(?:bf|it|rm)?|math(?:rm|bf|it)|left|right|displaystyle|limits)(?![a-z])"
    r"|\\(?:begin|end)\{(?:align|equation)\*?\}|(?<=\\)[dt](?=frac)"
)
"""LaTeX commands for layout alone, in which copies of one problem differ."""
_SIGNS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """One training problem that should be dropped, and why."""

    train_id: str
    """Id of the training problem."""
    exact: tuple[str, ...]
    """Benchmark problems of the same letters and digits in the same order."""
    shared: tuple[str, ...]
    """Other benchmark problems with enough runs of tokens in common."""
    share: float
    """The largest share of runs in common with one of these; 0 where all overlaps are exact."""
    run: str
    """One such run, as evidence."""


def overlaps(
    train: Iterable[Problem],
    benchmark: Iterable[Problem],
    *,
    ngram: int = NGRAM,
    share: float = 0.0,
    signs: bool = False,
) -> list[Overlap]:
    """The training problems, in their order, that overlap with the benchmark's.

    Two questions overlap if they have the same letters and digits, LaTeX's layout aside, or share `ngram` tokens in a
    row, and of such runs at least the given share of those of the shorter question: phrases such as "where m and n are
    relatively prime positive integers" stand in many. Tokens are words and numbers, with `signs` also single signs, so
    that `2 + 2` and `2 - 2` differ. Raises ValueError unless `ngram` is positive.
    """
    if ngram < 1:
        raise ValueError(f"ngram is {ngram}; a run has at least one token")
    tokens = _SIGNS if signs else _WORDS
    index = _Index(benchmark, ngram, tokens)
    found = (index.look_up(problem, share) for problem in train)
    return [overlap for overlap in found if overlap is not None]


def overlapping_ids(train: Iterable[Problem], benchmark: Iterable[Problem], *, ngram: int = NGRAM) -> set[str]:
    """Ids of the training problems whose question equals a benchmark's or shares `ngram` tokens in a row with one.

    Here signs are tokens, and case and spacing alone make no difference. Questions that a generator fills into a long
    template all share its words: between the splits of `sources.py`, which are disjoint by construction, only the exact
    comparison has a meaning.
    """
    index = _Index(benchmark, ngram, _SIGNS)
    return {
        problem.id
        for problem in train
        if normalised(problem.question) in index.questions or not index.runs.keys().isdisjoint(index.runs_of(problem))
    }


class _Index:
    """Places in the benchmarks of each run of tokens, and of each question as a whole."""

    def __init__(self, benchmark: Iterable[Problem], ngram: int, tokens: re.Pattern[str]) -> None:
        self._ngram, self._tokens = ngram, tokens
        self.questions: set[str] = set()
        self.runs: dict[str, list[str]] = defaultdict(list)
        self._letters: dict[str, list[str]] = defaultdict(list)
        self._num_runs: dict[str, int] = {}
        for problem in benchmark:
            runs = self.runs_of(problem)
            self.questions.add(normalised(problem.question))
            self._letters[_letters(problem.question)].append(problem.id)
            self._num_runs[problem.id] = len(runs)
            for run in runs:
                self.runs[run].append(problem.id)

    def runs_of(self, problem: Problem) -> set[str]:
        words = self._tokens.findall(_plain(problem.question))
        return {" ".join(words[start : start + self._ngram]) for start in range(len(words) - self._ngram + 1)}

    def look_up(self, problem: Problem, share: float) -> Overlap | None:
        exact = self._letters.get(_letters(problem.question), [])
        runs = self.runs_of(problem)
        hits = sorted(run for run in runs if run in self.runs)
        counts = Counter(name for run in hits for name in self.runs[run] if name not in exact)
        shares = {name: count / min(len(runs), self._num_runs[name]) for name, count in counts.items()}
        shared = tuple(name for name in shares if shares[name] >= share)
        if not exact and not shared:
            return None
        return Overlap(
            train_id=problem.id,
            exact=tuple(exact),
            shared=shared,
            share=round(max((shares[name] for name in shared), default=0.0), 4),
            run=next((run for run in hits if not shared or shared[0] in self.runs[run]), ""),
        )


def _letters(question: str) -> str:
    """The letters and digits of a question, which are compared exactly; the question itself where it has none."""
    return "".join(_WORDS.findall(_plain(question))) or question


def _plain(question: str) -> str:
    return _LAYOUT.sub(" ", question).casefold()


def question_files(path: Path) -> Sequence[Path]:
    """The data files of a folder, or the file itself."""
    return sorted(file for file in path.iterdir() if kind_of(file)) if path.is_dir() else [path]


def read_questions(file: Path) -> list[Problem]:
    """The questions of a file, whose answers may be missing or lists: they are not compared. Raises UsageError."""
    found = []
    for number, (where, row) in enumerate(read_rows(file), 1):
        question = question_in(row)
        if question is None:
            raise UsageError(f"{where}: expected JSON with {', '.join(QUESTION_FIELDS)}")
        name = str(row.get("id") or row.get("task_id") or f"{file.stem}, line {number}")
        found.append(Problem(id=name, question=question.text, answer="", source=file.stem))
    return found
