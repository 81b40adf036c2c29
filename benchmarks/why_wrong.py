"""Why are attempts wrong whose calls all succeeded, and why does a vote choose better than the share of such calls?

    python benchmarks/why_wrong.py runs/reproduce/nano/seed-*/eval-joint --output docs/results/why_wrong.json

Reads finished evaluations; nothing is sampled. Four tables:

* causes: attempts that called, every call of which succeeded, and whose answer is wrong, by what went wrong first:
  `copied wrong` (a number of two digits or more of the question stands nowhere in what the model wrote, and one stands
  there that is not the question's nor an output's), `slip into the program` (a program has such a number that neither
  its thought nor the question nor an output before it has), `last sentence` (the numbers of the reference are those of
  an output, and the answer says others), `between` (the answer's numbers stand in no output), `program` (the answer
  is what a program printed, and that is wrong);
* predictors: how well a number tells right from wrong attempts at one problem: the area under the curve (0.5 is a coin)
  within problems, and the share of pairs that it cannot tell apart;
* choosing: what pass rate and vote gain over a single attempt with so many candidates, and how many of them share the
  best score. Evaluations `--beside` are of other models: the more calls succeed, the less their share tells;
* both_clean: accuracy on the problems at which every call of every attempt succeeded both in the evaluation `--before`
  and in each one `--after`, so that none is counted which training made clean.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import tyro

from thor_tir.eval.crossed import crossed
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.selectors import accuracy_at_k
from thor_tir.inference.best_of_n import ballots, selector
from thor_tir.provenance import commit, machine, versions
from thor_tir.reproduce.measures import is_clean
from thor_tir.rollout.sample_many import Attempt
from thor_tir.storage.journal import write_atomically

NUMBER = re.compile(r"\d+(?:\.\d+)?")
CAUSES = ("copied wrong", "slip into the program", "program", "between", "last sentence", "no answer")

Group = Sequence[Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Causes of wrong answers, and what chooses among attempts."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Finished evaluations of the same problems, one a seed."""
    beside: tuple[Path, ...] = ()
    """Evaluations of other models, for the table of what chooses."""
    before: Path | None = None
    """Evaluation of the model that training began from."""
    after: tuple[Path, ...] = ()
    """Evaluations of what became of it, on the same problems."""
    candidates: int = 4
    """Candidates in that table; evaluations with fewer attempts are left out."""
    output: Path | None = None
    """Result file."""


def numbers(text: str | None) -> list[float]:
    """All numbers in a text, in order, without signs."""
    return [float(found) for found in NUMBER.findall(text or "")]


def cause(attempt: Attempt) -> str:
    """What went wrong first in an attempt whose calls all succeeded."""
    trajectory = attempt.trajectory
    outputs = [o.result.stdout for step in trajectory.calls if (o := step.observation) is not None]
    asked, printed = set(numbers(attempt.problem.question)), {n for text in outputs for n in numbers(text)}
    written = trajectory.response_text + "\n".join(step.action.code for step in trajectory.steps if step.action)
    said = set(numbers(written))
    if attempt.verdict.extracted is None:
        return "no answer"
    if any(n >= 10 for n in asked - said) and any(n >= 10 for n in said - asked - printed):
        return "copied wrong"
    if slips(attempt, asked):
        return "slip into the program"
    if any(numbers(text) == numbers(attempt.problem.answer) for text in outputs):
        return "last sentence"
    return "program" if set(numbers(attempt.verdict.extracted)) <= printed else "between"


def slips(attempt: Attempt, asked: set[float]) -> bool:
    """True where a program has a number that its thought, the question and the outputs before it have not."""
    known = set(asked)
    for step in attempt.trajectory.calls:
        known |= set(numbers(step.thought.text))
        if step.action is not None and any(n >= 10 and n not in known for n in numbers(step.action.code)):
            return True
        known |= set(numbers(step.observation.result.stdout if step.observation else ""))
    return False


def pass_rate(group: Group) -> list[float]:
    """Share of calls that succeeded, of each attempt; 0 without a call."""
    return [
        sum(step.succeeded for step in a.trajectory.calls) / len(a.trajectory.calls) if a.trajectory.calls else 0.0
        for a in group
    ]


def vote_share(group: Group) -> list[float]:
    """Share of the other attempts that have the same answer."""
    votes = ballots(group)
    counts = Counter(vote for vote in votes if vote is not None)
    return [(counts[vote] - 1) / max(1, len(group) - 1) if vote is not None else 0.0 for vote in votes]


def fewer_tokens(group: Group) -> list[float]:
    """Minus the number of tokens."""
    return [-float(a.trajectory.num_model_tokens) for a in group]


PREDICTORS: Mapping[str, Callable[[Group], list[float]]] = {
    "pass rate": pass_rate,
    "share of the same answer": vote_share,
    "fewer tokens": fewer_tokens,
}


def auc(pairs: Iterator[tuple[float, float]]) -> tuple[float, float]:
    """Share of pairs of a right and a wrong attempt in which the right one has more, ties half; and share of ties."""
    more = ties = all_pairs = 0
    for right, wrong in pairs:
        all_pairs += 1
        more += right > wrong
        ties += right == wrong
    return ((more + ties / 2) / all_pairs, ties / all_pairs) if all_pairs else (float("nan"), float("nan"))


def within(groups: Sequence[Group], number: Callable[[Group], list[float]]) -> Iterator[tuple[float, float]]:
    """The numbers of every right and wrong attempt at one problem."""
    for group in groups:
        values = number(group)
        right = [v for v, a in zip(values, group, strict=True) if a.is_correct]
        yield from product(right, [v for v, a in zip(values, group, strict=True) if not a.is_correct])


def causes(groups: Sequence[Group]) -> tuple[Counter[str], dict[str, Counter[str]], int]:
    """Clean and wrong attempts by cause, the same by family, and the number of clean attempts."""
    clean = [a for group in groups for a in group if is_clean(a)]
    by_family: dict[str, Counter[str]] = {}
    for attempt in clean:
        counts = by_family.setdefault(attempt.problem.source.rpartition("/")[2], Counter())
        counts["clean"] += 1
        if not attempt.is_correct:
            counts[cause(attempt)] += 1
    return sum(by_family.values(), Counter()), by_family, len(clean)


def choosing(name: str, seeds: Sequence[Sequence[Group]], candidates: int) -> Iterator[list[str]]:
    """Gains of selectors over one attempt, over seeds and problems, and how many candidates share the best score."""
    share = fmean(step.succeeded for groups in seeds for g in groups for a in g for step in a.trajectory.calls)
    for each in ("pass-rate", "vote", "pass-rate-then-vote"):
        by = selector(each)
        gains = [
            [accuracy_at_k(g, by, {}, candidates, seed=0) - fmean(a.is_correct for a in g) for g in groups]
            for groups in seeds
        ]
        found = crossed(np.array(gains))
        scores = [by.rank(g[:candidates], {}) for groups in seeds for g in groups]
        gain = f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
        equal = fmean(sum(score == max(of) for score in of) for of in scores)
        yield [name, f"{100 * share:.1f}", each, gain, f"{equal:.1f}"]


def both_clean(before: Sequence[Group], after: Sequence[Group]) -> list[str]:
    """Accuracy before and after on problems whose attempts are all clean in both, and the paired difference."""
    theirs = {group[0].problem.id: group for group in before if all(map(is_clean, group))}
    pairs = [(theirs[g[0].problem.id], g) for g in after if g[0].problem.id in theirs and all(map(is_clean, g))]
    rates = np.array([[fmean(a.is_correct for a in group) for group in pair] for pair in pairs])
    found = crossed((rates[:, 1] - rates[:, 0])[None, :])
    gap = f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return [str(len(pairs)), *(f"{100 * rate:.1f}" for rate in rates.mean(axis=0)), gap]


def attempts_of(path: Path) -> list[Group]:
    """The attempts of an evaluation, problem by problem."""
    folder = EvalFolder(path=path)
    return [group for asked in folder.sets for group in folder.evaluation(asked).groups if group]


def main(options: Options) -> None:
    """Print the tables, and write them."""
    models: dict[str, list[list[Group]]] = {}
    for path in (*options.folders, *options.beside):
        models.setdefault(path.name, []).append(attempts_of(path))
    groups = [group for seeds in models[options.folders[0].name] for group in seeds]
    total, by_family, clean = causes(groups)
    wrong = sum(total[name] for name in CAUSES)
    share = [[name, str(total[name]), f"{100 * total[name] / max(1, wrong):.0f} %"] for name in CAUSES]
    family = [
        [name, str(c["clean"]), f"{100 * sum(c[k] for k in CAUSES) / c['clean']:.0f} %", *(str(c[k]) for k in CAUSES)]
        for name, c in sorted(by_family.items(), key=lambda item: -sum(item[1][k] for k in CAUSES))
    ]
    predictors = []
    for name, number in PREDICTORS.items():
        area, ties = auc(within(groups, number))
        predictors.append([name, f"{area:.3f}", f"{100 * ties:.0f} %"])
    most = options.candidates
    chosen = [
        row
        for name, seeds in models.items()
        if all(len(group) >= most for of in seeds for group in of)
        for row in choosing(name, seeds, most)
    ]
    heads = ("evaluation", "calls that succeed, %", "selector", "over one attempt", "candidates that share the best")
    tables = {
        "causes": {"head": ["first cause", "attempts", "share"], "rows": share},
        "families": {"head": ["family", "clean", "wrong of these", *CAUSES], "rows": family},
        "predictors": {"head": ["number", "AUC within a problem", "pairs that tie"], "rows": predictors},
        "choosing": {"head": heads, "rows": chosen},
    }
    if options.before is not None:
        before = attempts_of(options.before)
        rows = [[path.name, *both_clean(before, attempts_of(path))] for path in options.after]
        head = ("evaluation", "problems", "before, %", "after, %", "difference")
        tables["both_clean"] = {"head": head, "rows": rows}
    figures = {"clean": f"{clean:,}", "wrong": f"{wrong:,}", "wrong-share": f"{100 * wrong / max(1, clean):.1f} %"}
    for name, table in tables.items():
        print(f"\n{name}\n" + "\n".join(" | ".join(row) for row in [table["head"], *table["rows"]]))
    print(figures)
    if options.output is not None:
        names = " ".join(f"{path.parent.name}/{path.name}" for path in options.folders)
        beside = " ".join(f"{path.parent.name}/{path.name}" for path in options.beside)
        command = f"python benchmarks/why_wrong.py {names}" + (f" --beside {beside}" if beside else "")
        if options.before is not None:
            after = " ".join(path.name for path in options.after)
            command += f" --before {options.before.name} --after {after}"
        made = {"command": command, "commit": commit(), "machine": machine(), "versions": versions()}
        record = {"schema": 1, "made": made, "tables": tables, "figures": figures}
        write_atomically(options.output, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
