"""Sources of problems: a data set of the user's own, or the generators of `reasoning-gym`.

The questions and the scorers of `reasoning-gym` were written by its authors. This file only decides which of a
generator's questions belong to which split, and it decides that from the question's text alone: a question can never be
trained on under one seed and tested on under another. It does not choose families or difficulties; a recipe does.
"""

import difflib
import json
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import zip_longest
from types import MappingProxyType, ModuleType
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.extras import need
from thor_tir.hooks import hook_files
from thor_tir.problem import Problem, digest
from thor_tir.problems.columns import ANY_FIELDS, ProblemFields
from thor_tir.problems.data_set import DataSet, place_of, read_data_set

GYM = "reasoning_gym"
"""Prefix of the source of every generated problem (`reasoning_gym/gcd`) and of a spec (`reasoning_gym:gcd`)."""

Families = Mapping[str, Mapping[str, object]] | Sequence[str]
"""Names of generators, with the options that differ from the generator's own defaults where it is a mapping."""

_STREAM_SIZE = 2**31
"""Virtual length of a generator's stream; nothing of this size is ever allocated."""

_CLOCK_METADATA = {"time_intervals": ("start_time", "end_time")}
"""Metadata in which a generator writes today's date. No scorer reads it, and with it a seed would not mean one set."""


NANO_FAMILIES: Mapping[str, Mapping[str, object]] = {
    "gcd": {"min_value": 10, "max_value": 1000},
    "lcm": {"min_value": 5, "max_value": 150},
    "chain_sum": {"min_terms": 2, "max_terms": 5, "min_digits": 1, "max_digits": 4},
    "products": {"min_digits": 1, "max_digits": 4},
    "fraction_simplification": {"min_value": 1, "max_value": 300, "max_factor": 60, "styles": ("plain",)},
    "base_conversion": {"min_base": 2, "max_base": 16, "min_value": 5, "max_value": 2000},
    "complex_arithmetic": {
        "min_real": -30,
        "max_real": 30,
        "min_imag": -30,
        "max_imag": 30,
        "operations_weights": (0.25, 0.25, 0.25, 0.25),
    },
    "simple_equations": {"min_terms": 2, "max_terms": 3, "min_value": 1, "max_value": 100},
    "leg_counting": {"min_animals": 2, "max_animals": 5, "max_instances": 15},
    "simple_geometry": {"min_sides": 3, "max_sides": 6},
    "prime_factorization": {"min_value": 2, "max_value": 3000},
    "count_bits": {"min_n": 1, "max_n": 100_000_000},
}
"""The families of the embedded default, with the fields that differ from the library's defaults.

Their difficulties leave room at every stage: some need one call, some two or three (`lcm`, fractions, bases, complex
numbers, legs, polygons); small numbers can be done in one's head, large ones cannot.
"""


class Split(StrEnum):
    """Disjoint by question text, whatever the seed, the options and the family."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


_TENTHS = {Split.TRAIN: 8, Split.VALIDATION: 1, Split.TEST: 1}
"""Tenths of all questions that each split owns."""


def normalised(text: str) -> str:
    """Case and spacing taken out: two questions with the same normal form are the same question."""
    return " ".join(text.casefold().split())


_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", re.DOTALL)
_DRESS = re.compile(r"[\s$`\u200b-\u200f\u2060\ufeff]|\\[()\[\]]")
"""Characters that change how a question looks and not what it asks."""


def bare_question(text: str) -> str:
    """The question without spacing, case, layout and final punctuation: `Add 3+1.` asks what `add $3 + 1$` asks.

    Signs and operators stay: other numbers or operations make other questions.
    """
    bare = _DRESS.sub("", _BOLD.sub(r"\1", unicodedata.normalize("NFKC", text).casefold()))
    return bare.rstrip(".?!:;") or normalised(text)


def not_asked_in(problems: Sequence[Problem], others: Sequence[Problem]) -> list[Problem]:
    """The problems whose question none of the others asks, in their order."""
    asked = {bare_question(other.question) for other in others}
    return [problem for problem in problems if bare_question(problem.question) not in asked]


def split_of(question: str) -> Split:
    """The one split that a question belongs to, from a digest of its normal form."""
    tenth = int(digest(normalised(question)), 16) % 10
    return [split for split, tenths in _TENTHS.items() for _ in range(tenths)][tenth]


def held_out(
    problems: Sequence[Problem], most: int, split: Split = Split.VALIDATION
) -> tuple[list[Problem], list[Problem]]:
    """Problems to train on, and at most `most` that are kept from training, of those that a split owns.

    A digest of the question decides, so that neither the order of a file nor a seed moves a problem from one part to
    the other. A question that stands in a file twice, however it is spaced and dressed, is in one part alone.
    """
    alike: dict[str, list[Problem]] = {}
    for problem in problems:
        alike.setdefault(bare_question(problem.question), []).append(problem)
    spelled = {min(normalised(p.question) for p in same): bare for bare, same in alike.items()}
    owned = sorted((spelling for spelling in spelled if split_of(spelling) is split), key=digest)
    kept = [alike[spelled[spelling]][0] for spelling in owned[:most]]
    return not_asked_in(problems, kept), kept


@dataclass(frozen=True, kw_only=True)
class ProblemChoice:
    """The part of a data set of one's own that is used."""

    first: int | None = None
    """The first so many problems of a file or data set, in place of --count, which draws them by the seed."""

    def __post_init__(self) -> None:
        if self.first is not None and self.first < 1:
            raise ValueError(f"--first is {self.first}; at least one problem is needed")

    def of(self, problems: Sequence[Problem], count: int | None, seed: int) -> tuple[tuple[Problem, ...], str]:
        """The problems that are used, in their order, and a sentence where others are left.

        A draw by the seed of more problems holds that of fewer.
        """
        total, most = len(problems), self.first or count
        if most is None or most >= total:
            return tuple(problems), ""
        if self.first:
            return tuple(problems[:most]), f"the first {most:,} of {total:,} problems are used"
        places = sorted(range(total), key=lambda place: digest(f"{seed} {problems[place].id}"))
        kept = tuple(problems[place] for place in sorted(places[:most]))
        return kept, f"{most:,} of {total:,} problems are drawn by the seed; --count takes more, --first the first"


EVERY = ProblemChoice()


def is_generated(spec: str) -> bool:
    """True for families of `reasoning-gym`, false for a data set of one's own."""
    return spec.partition(":")[0] == GYM


def local_inputs(spec: str) -> list[str]:
    """The file or folder that `spec` names, for the record of a run; nothing for families and sets of the hub.

    Raises UsageError where there is none.
    """
    place = None if not spec or is_generated(spec) else place_of(spec)
    if place is not None and place.is_source:
        return hook_files([spec])
    return [place.name] if place is not None and place.is_local else []


def load_problems(
    spec: str,
    *,
    split: Split = Split.TRAIN,
    count: int | None = None,
    seed: int = 0,
    configs: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
    fields: ProblemFields = ANY_FIELDS,
    choice: ProblemChoice = EVERY,
) -> DataSet:
    """Problems named on a command line.

    `spec` is a data set of one's own (see `read_data_set`; `count` of its problems drawn by `seed`, or the first ones
    by `choice`; of a file, which is one set, `split` says nothing), or `reasoning_gym:gcd,lcm`, or `reasoning_gym`
    alone for every family of `configs`, which holds the options to use for the families it names. Raises UsageError for
    anything else.
    """
    if count is not None and count < 1:
        raise UsageError(f"count is {count}; ask for at least one problem")
    if not is_generated(spec):
        most = choice.first or count
        found = read_data_set(spec, fields, default_split=split.value, count=most, seed=seed)
        problems, sentence = choice.of(found.problems, count, seed)
        return replace(found, problems=problems, left_out=(*found.left_out, *filter(None, (sentence,))))
    names = spec.partition(":")[2]
    chosen = [name.strip() for name in names.split(",") if name.strip()] or list(configs)
    if fields != ANY_FIELDS:
        raise UsageError(f"columns are named for a data set of one's own, and {spec} is generated: leave out --*-field")
    if not chosen:
        raise UsageError(f"{spec!r} names no families; write for example {GYM}:gcd,lcm")
    if (most := choice.first or count) is None:
        raise UsageError(f"{spec!r} can make any number of problems; say how many")
    families = {name: configs.get(name, {}) for name in chosen}
    made = reasoning_gym_problems(families, split=split, count=most, seed=seed)
    return DataSet(problems=tuple(made), taken="", is_usual=True)


def reasoning_gym_problems(families: Families, *, split: Split, count: int, seed: int) -> list[Problem]:
    """`count` distinct problems of a split, one from each family in turn.

    The same arguments give the same problems on every machine, and a larger `count` begins with the problems of a
    smaller one. The id is `<family>-<digest of the question>`, and `extra["metadata"]` is what the family's own scorer
    reads. Raises UsageError for an unknown family or option, and for a family with too few questions.
    """
    options = dict(families) if isinstance(families, Mapping) else {name: {} for name in families}
    if not options:
        raise UsageError(f"no families named; {GYM} problems need at least one")
    datasets = {family: _dataset(family, config, seed) for family, config in options.items()}
    drawn = [
        _distinct(family, dataset, split=split, count=len(range(place, count, len(datasets))))
        for place, (family, dataset) in enumerate(datasets.items())
    ]
    return [problem for turn in zip_longest(*drawn) for problem in turn if problem is not None]


def _distinct(family: str, dataset: Any, *, split: Split, count: int) -> list[Problem]:
    """The first `count` distinct questions of the split in the family's stream."""
    found: dict[str, Problem] = {}
    num_drawn = last_new = 0
    while len(found) < count:
        entry = dataset[num_drawn]
        num_drawn += 1
        key = normalised(entry["question"])
        if key not in found and split_of(key) is split:
            found[key] = _problem(family, entry)
            last_new = num_drawn
        # A question as likely as those already found stays away for so many draws with probability exp(-20).
        elif num_drawn - last_new > 200 / _TENTHS[split] * (len(found) + 1):
            raise UsageError(
                f"{GYM} family {family!r} has only about {len(found)} distinct questions in its {split} split "
                f"({num_drawn} drawn) and {count} were asked for; ask for fewer or widen its options"
            )
    return list(found.values())


def _dataset(family: str, config: Mapping[str, object], seed: int) -> Any:
    gym = _gym()
    known = gym.factory.DATASETS
    if family not in known:
        near = difflib.get_close_matches(family, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown {GYM} family {family!r}; {hint}known: {', '.join(sorted(known))}")
    # Item i of a stream is drawn from seed + i, so neighbouring seeds would share all but one item: spread them.
    spread = int(digest(f"{GYM} {family} {seed}"), 16)
    try:
        return gym.create_dataset(family, **config, seed=spread, size=_STREAM_SIZE)
    except (TypeError, AssertionError, ValueError) as error:
        raise UsageError(f"{GYM} family {family!r} does not accept the options {dict(config)}: {error}") from error


def _problem(family: str, entry: Mapping[str, Any]) -> Problem:
    unstable = _CLOCK_METADATA.get(family, ())
    try:
        # Through JSON and back, so that a problem just made equals the same problem read from a file.
        metadata = json.loads(json.dumps({k: v for k, v in entry["metadata"].items() if k not in unstable}))
    except TypeError as error:
        raise UsageError(f"{GYM} family {family!r} cannot be kept on disk: {error}") from error
    return Problem(
        id=f"{family}-{digest(normalised(entry['question']))}",
        question=entry["question"],
        answer=entry["answer"],
        source=f"{GYM}/{family}",
        extra={"metadata": metadata},
    )


@cache
def _gym() -> ModuleType:
    """Imported at first use: it takes seconds, and one of its dependencies warns when it is first compiled."""
    need("reasoning_gym", "a family of reasoning_gym")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import reasoning_gym

    return reasoning_gym  # type: ignore[no-any-return]
