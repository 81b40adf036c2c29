"""Problems of one's own for a whole run: one part is trained on, another is the test, and no question is in both."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from thor_tir.app.config import RunConfig
from thor_tir.errors import UsageError
from thor_tir.problem import Problem, write_problems
from thor_tir.problems.columns import ANY_FIELDS
from thor_tir.problems.sets import load_set
from thor_tir.problems.sources import Split, held_out, is_generated, load_problems, not_asked_in
from thor_tir.seeds import seed_for

TRAIN, TEST = Path("problems/train.jsonl"), Path("problems/test.jsonl")
"""Places of the two parts in a run's folder."""
FEW = 30
"""Problems of a test below which a run says that they tell little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A data set of one's own in two parts that share no question."""

    train: tuple[Problem, ...]
    """Problems that every stage of training draws from."""
    test: tuple[Problem, ...]
    """Problems that are asked of every model, and of none in training."""
    remark: str
    """Sentence that says where they come from."""


def parts_of(config: RunConfig) -> Parts:
    """The parts of the problems that a run names. Raises UsageError where one of them is empty."""
    spec, most = config.problems, config.eval.num_problems
    found = load_problems(spec, seed=seed_for("tirgen", config.seed), fields=config.fields, choice=config.choice)
    if config.test_problems:
        test = list(load_set(config.test_problems, fields=config.fields).problems[:most])
        train = not_asked_in(found.problems, test)
        gone = len(found.problems) - len(train)
        origin = f"from {config.test_problems}" + (
            f", {gone} of which are in {spec} too and are left out" if gone else ""
        )
    else:
        train, test = held_out(found.problems, most, Split.TEST)
        origin = f"held out of {spec} by a digest of the question"
    if not train or not test:
        raise UsageError(
            f"of {len(found.problems)} problems of {spec} {len(train)} are left to train on and {len(test)} to test "
            "on: give more problems, or others to test on by --test-problems"
        )
    few = "" if len(test) >= FEW else "; so few tell little: name more by --test-problems"
    said = "; ".join([f"problems: {len(train)} to train on", *filter(None, [found.taken]), *found.left_out])
    return Parts(
        train=tuple(train),
        test=tuple(test),
        remark=f"{said}\ntest: {len(test)} problems {origin}; no stage trains on them{few}",
    )


def with_own_problems(config: RunConfig, folder: Path, say: Callable[[str], None]) -> RunConfig:
    """The configuration that trains and tests on the parts, which are written into the run's folder."""
    if is_generated(config.problems):
        return config
    parts = parts_of(config)
    say(parts.remark)
    for place, problems in ((TRAIN, parts.train), (TEST, parts.test)):
        (folder / place).parent.mkdir(exist_ok=True)
        write_problems(folder / place, problems)
    return replace(config, problems=str(folder / TRAIN), test_problems=str(folder / TEST), fields=ANY_FIELDS)
