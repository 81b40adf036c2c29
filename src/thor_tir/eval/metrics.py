"""Attempts at a set of problems -> its entry of results.json. JSON values only; a number that does not exist is null.

Every interval is over problems (`eval/statistics.py`). Accuracies leave unscored attempts alone and count them.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal

from thor_tir.dialect.near_misses import near_misses
from thor_tir.eval.folder import Evaluation
from thor_tir.eval.results import Average, Averages, Costs, Estimate, Losses, SetResult, ToolSuccess
from thor_tir.eval.statistics import (
    Interval,
    association,
    average_of_sets,
    bootstrap,
    bootstrap_difference,
    bootstrap_share,
    majority_at_k,
    mantel_haenszel,
    pass_at_k,
)
from thor_tir.inference.best_of_n import ballots
from thor_tir.inference.self_correction import RepairCost, repair_cost
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import SIX_SETS, ProblemKind, ProblemSet
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Finish
from thor_tir.verdict import Outcome

Group = Sequence[Attempt]
"""The attempts at one problem."""


def set_result(
    asked: ProblemSet,
    paid: Evaluation,
    chosen: Evaluation,
    seconds: Sequence[float],
    *,
    samples: int,
    seed: int,
) -> SetResult:
    """The entry of one set. Scores and ends are of the `chosen` attempts; pass@k, maj@k and costs of all `paid` ones.

    `seconds` are the wall-clock times of the attempts.
    """
    scored, counted = scored_groups(paid), scored_groups(chosen)
    sizes = [k for k in _sizes(samples) if any(len(group) >= k for group in scored)]
    votes = sizes if asked.kind is ProblemKind.MATHEMATICS else []  # no two programs are spelled alike
    return {
        "name": asked.name,
        "title": asked.title,
        "kind": asked.kind.value,
        "n": len(asked.problems),
        "n_scored": len(counted),
        "notes": list(asked.notes),
        "avg": over(counted, _accuracy, 1, seed),
        "pass_at": {str(k): over(scored, _pass(k), k, seed) for k in sizes},
        "maj_at": {str(k): over(scored, _majority(k), k, seed) for k in votes},
        **costs(paid, chosen, seconds, seed=seed),
        "lost": losses(asked, paid, samples=samples),
        "judged": sum(a.verdict.by_judge for a in chosen.attempts),
        "ends": ends(chosen.attempts, expected=len(asked.problems) * (samples if chosen is paid else 1)),
        "by_subject": broken_down(counted, _extra("subject"), seed=seed),
        "by_level": broken_down(counted, _extra("level"), seed=seed),
        "by_source": broken_down(counted, _source, seed=seed),
        "tool_success": tool_success(scored),
        "failure_classes": failure_classes(paid.attempts),
        "selectors": {},
    }


def averages(results: Sequence[SetResult]) -> Averages:
    """Unweighted means over sets: `average` over those of mathematics, `code_average` over those of programs.

    `six_set_average`, where the paper's six sets are there, is the "Avg." of its Table 1: each set weighs a sixth, so
    that one problem of AIME counts as much as sixteen of MATH500.
    """
    code = [result for result in results if result["kind"] == ProblemKind.CODE]
    others = [result for result in results if result["kind"] != ProblemKind.CODE]
    six = [result for result in others if result["name"] in SIX_SETS]
    is_whole = {result["name"] for result in six} == set(SIX_SETS)
    return {
        "average": _mean_of(others) if others else None,
        "six_set_average": _mean_of(six) if is_whole else None,
        "code_average": _mean_of(code) if code else None,
    }


def costs(paid: Evaluation, chosen: Evaluation, seconds: Sequence[float], *, seed: int) -> Costs:
    """Code ratio, calls, their success, tokens and seconds, per attempt that counts.

    Where one of N attempts is chosen, all N are paid for: calls and tokens are those of all, the code ratio is not.
    """
    attempts = paid.attempts
    num = max(1, len(chosen.attempts))
    calls = [step for a in attempts for step in a.trajectory.calls]
    of_problems = [[step for a in group for step in a.trajectory.calls] for group in paid.groups]
    tried = [(sum(step.succeeded for step in steps), len(steps)) for steps in of_problems if steps]
    success = bootstrap_share(tried, seed=seed) if tried else None
    repairs = sum((repair_cost(a.trajectory) for a in attempts), RepairCost())
    succeeded = sum(step.succeeded for step in calls)
    return {
        "attempts": len(attempts),
        "code_ratio": sum(bool(a.trajectory.calls) for a in chosen.attempts) / num,
        "calls": len(calls) / num,
        "calls_succeeded": succeeded,
        "calls_failed": len(calls) - succeeded,
        "call_success": None if success is None else as_json(success),
        "calls_ran": sum(step.ran for step in calls) / len(calls) if calls else None,
        "call_limit_share": sum(a.trajectory.wanted_more_calls for a in attempts) / max(1, len(attempts)),
        "near_miss_share": sum(near_misses(a.trajectory) > 0 for a in attempts) / max(1, len(attempts)),
        "repairs": repairs.retries / num,
        "correction": {
            "failed": repairs.failed,
            "repaired": repairs.repaired,
            "recovered": repairs.recovered,
            "dropped": repairs.dropped,
            "retries": repairs.retries,
            "repeats": repairs.repeats,
            "discarded_calls": repairs.discarded_calls,
            "discarded_s": repairs.discarded_s,
        },
        "tokens_kept": (sum(a.trajectory.num_model_tokens for a in attempts) - repairs.discarded_tokens) / num,
        "tokens_discarded": repairs.discarded_tokens / num,
        "seconds": sum(seconds) / max(1, len(seconds)),
    }


def losses(asked: ProblemSet, paid: Evaluation, *, samples: int) -> Losses:
    """The attempts that were asked for and measure nothing, by the reason."""
    attempts = paid.attempts
    return {
        "asked": len(asked.problems) * samples,
        "machine": dict(sorted(paid.faults.items())),
        "unscored": sum(end_of(attempt) == "unscored" for attempt in attempts),
        "no_room": sum(end_of(attempt) == "no_room" for attempt in attempts),
    }


def num_lost(lost: Losses) -> int:
    """Attempts lost for whatever reason."""
    return sum(lost["machine"].values()) + lost["unscored"] + lost["no_room"]


def remarks(entry: SetResult) -> list[str]:
    """Sentences that a reader of the scores must know: what was lost, and scores in which nothing differs."""
    title, lost, graded = entry["title"], entry["lost"], entry["ends"]
    asked, said = lost["asked"], []
    if machine := sum(lost["machine"].values()):
        by_fault = ", ".join(f"{count} {fault}" for fault, count in lost["machine"].items())
        said.append(f"{machine} of {asked} attempts were lost to faults of the machine ({by_fault}): they do not count")
    if lost["unscored"]:
        said.append(f"{lost['unscored']} of {asked} attempts could not be graded: they do not count")
    if entry["n_scored"] < entry["n"]:
        without = entry["n"] - entry["n_scored"]
        said.append(
            f"{without} of {entry['n']} problems have no graded attempt: the accuracy is over {entry['n_scored']}"
        )
    if lost["no_room"]:
        said.append(
            f"the prompts of {lost['no_room']} of {asked} attempts fill the model's whole context: nothing could be "
            "written, which counts as wrong"
        )
    if share := entry.get("near_miss_share", 0.0):
        said.append(
            f"{100 * share:.0f} % of the attempts wrote a program in fences that are not read, such as ```py or "
            "indented ones, or a call between <tool_call> tags, and it was not run; --rollout.fences lenient reads "
            "the former, --dialect tool-call the latter"
        )
    right = graded["correct"]
    num = sum(graded.values()) - graded["unscored"] - graded["dropped"]
    if num and right in (0, num):
        said.append(
            f"every graded attempt ({num}) is {'right' if right else 'wrong'}, so nothing tells two problems apart; "
            "look at some with `thor show`"
        )
    return [f"{title}: {sentence}" for sentence in said]


def ends(attempts: Sequence[Attempt], *, expected: int) -> dict[str, int]:
    """Counts of how attempts ended: `correct`, `wrong`, and apart from wrong answers what never became one.

    `truncated` ran into the limit of tokens or calls, `no_room` had a prompt that fills the context, `no_answer` ended
    its turn without an answer that can be found, `unscored` has an answer that the grader could not judge, `dropped`
    was ended by a fault of the machine.
    """
    counts = Counter({"correct": 0, "wrong": 0, "truncated": 0, "no_room": 0, "no_answer": 0, "unscored": 0})
    counts.update(end_of(attempt) for attempt in attempts)
    return {**counts, "dropped": expected - len(attempts)}


def end_of(attempt: Attempt) -> str:
    """The kind of end, of those above, of one attempt."""
    if attempt.verdict.outcome is not Outcome.WRONG:
        return attempt.verdict.outcome.value
    if attempt.trajectory.finish in (Finish.TOKEN_LIMIT, Finish.CALL_LIMIT):
        return "truncated" if attempt.trajectory.num_model_tokens else "no_room"
    return "no_answer" if attempt.verdict.extracted is None else "wrong"


def broken_down(groups: Sequence[Group], field: Callable[[Problem], str | None], *, seed: int) -> dict[str, Estimate]:
    """Accuracy and number of problems by a field of the problems, for those that have it."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for group in groups:
        if (value := field(group[0].problem)) is not None:
            found[value].append(_accuracy(group))
    return {value: {**as_json(bootstrap(rates, seed=seed)), "n": len(rates)} for value, rates in sorted(found.items())}


def _extra(name: str) -> Callable[[Problem], str | None]:
    return lambda problem: str(problem.extra[name]) if name in problem.extra else None


def _source(problem: Problem) -> str:
    """The family or file that a problem comes from."""
    return problem.source.rpartition("/")[2]


def tool_success(groups: Sequence[Group]) -> ToolSuccess:
    """The paper's Table 4, and the same with difficulty taken out: Mantel-Haenszel with a stratum for each problem."""
    tables = [tool_success_table(group) for group in groups]
    pooled = [[sum(table[i][j] for table in tables) for j in (0, 1)] for i in (0, 1)]
    plain, fair = association(pooled), mantel_haenszel(tables)
    return {
        "table": pooled,
        "chi2": plain.chi_squared,
        "p": plain.p_value,
        "phi": plain.phi,
        "odds_ratio": _finite(plain.odds_ratio),
        "stratified": {
            "chi2": fair.chi_squared,
            "p": fair.p_value,
            "odds_ratio": _finite(fair.odds_ratio),
            "ci95": [_finite(fair.low), _finite(fair.high)],
            "informative_problems": fair.informative,
        },
    }


def tool_success_table(attempts: Sequence[Attempt]) -> list[list[int]]:
    """The paper's Table 4, rows and columns swapped: rows all calls ran, some call failed; columns right, wrong."""
    table = [[0, 0], [0, 0]]
    for attempt in attempts:
        if attempt.trajectory.calls and attempt.verdict.outcome is not Outcome.UNSCORED:
            failed = any(step.failed for step in attempt.trajectory.calls)
            table[failed][not attempt.is_correct] += 1
    return table


def failure_classes(attempts: Sequence[Attempt]) -> dict[str, int]:
    """Failed calls by what stopped them: a status, or the exception's type."""
    classes: Counter[str] = Counter()
    for attempt in attempts:
        for step in attempt.trajectory.calls:
            result = step.observation.result if step.observation is not None else None
            if result is not None and not result.succeeds():
                classes[result.failure_class] += 1
    return dict(classes.most_common())


def paired(ours: Evaluation, theirs: Evaluation, *, seed: int) -> Interval | None:
    """Difference in accuracy over the problems that both have scored; None where there are none."""
    both = [(a, b) for a, b in zip(ours.accuracy_P, theirs.accuracy_P, strict=True) if a == a and b == b]
    if not both:
        return None
    return bootstrap_difference([a for a, _ in both], [b for _, b in both], seed=seed)


def interval_of(entry: Estimate) -> Interval:
    """The interval that `value` and `ci95` of an entry give."""
    return Interval(mean=entry["value"], low=entry["ci95"][0], high=entry["ci95"][1])


def scored_groups(evaluation: Evaluation) -> list[Group]:
    """The attempts at each problem that has one with a verdict, without those that have none."""
    return [group for group in map(_scored, evaluation.groups) if group]


def _scored(group: Group) -> list[Attempt]:
    return [attempt for attempt in group if attempt.verdict.outcome is not Outcome.UNSCORED]


def _sizes(samples: int) -> list[int]:
    """1, 2, 4, ... and the number of samples itself."""
    return sorted({samples, *(2**i for i in range(samples.bit_length()) if 2**i <= samples)})


def over(groups: Sequence[Group], measure: Callable[[Group], float], k: int, seed: int) -> Estimate | None:
    """A measure's mean over the problems with at least k scored attempts."""
    values = [measure(group) for group in groups if len(group) >= k]
    return {**as_json(bootstrap(values, seed=seed)), "n": len(values)} if values else None


def _accuracy(group: Group) -> float:
    return sum(attempt.is_correct for attempt in group) / len(group)


def _pass(k: int) -> Callable[[Group], float]:
    return lambda group: pass_at_k(len(group), sum(attempt.is_correct for attempt in group), k)


def _majority(k: int) -> Callable[[Group], float]:
    def measure(group: Group) -> float:
        return majority_at_k(ballots(group), [attempt.is_correct for attempt in group], k)

    return measure


def _mean_of(results: Sequence[SetResult]) -> Average:
    def mean(entries: Sequence[Estimate | None]) -> Estimate | None:
        known = [entry for entry in entries if entry is not None]
        return (
            as_json(average_of_sets([interval_of(e) for e in known])) if known and len(known) == len(entries) else None
        )

    def of_sizes(kind: Literal["pass_at", "maj_at"]) -> dict[str, Estimate | None]:
        shared = [k for k in results[0][kind] if all(k in r[kind] for r in results)]
        return {k: mean([r[kind][k] for r in results]) for k in shared}

    def of_selector(name: str) -> Estimate | None:
        found = [result.get("selectors", {}).get(name) for result in results]
        return mean([None if each is None else each["accuracy"] for each in found])

    average: Average = {
        "of": [result["name"] for result in results],
        "avg": mean([result["avg"] for result in results]),
        "pass_at": of_sizes("pass_at"),
        "maj_at": of_sizes("maj_at"),
        "code_ratio": fmean(result["code_ratio"] for result in results),
        "calls": fmean(result["calls"] for result in results),
        "tokens_kept": fmean(result["tokens_kept"] for result in results),
        "seconds": fmean(result["seconds"] for result in results),
    }
    if compared := results[0].get("selectors", {}):
        average["selectors"] = {name: of_selector(name) for name in compared}
    return average


def as_json(interval: Interval) -> Estimate:
    """An estimate as it stands in results."""
    return {"value": interval.mean, "ci95": [interval.low, interval.high]}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
