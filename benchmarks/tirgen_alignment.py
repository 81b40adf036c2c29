"""Does TIRGen's text stay close to its actor, and does it matter? (Paper, section 2.2 and figure 4, at nano scale.)

    .venv/bin/python benchmarks/tirgen_alignment.py --output runs/alignment

Three authors solve the same training questions, all with right answers and programs that ran:

* own: the actor itself under the tools prompt (rejection sampling);
* tirgen: Algorithm 1, the actor's words with the critic's programs;
* other: the steps, programs and outputs of `tirgen` with the prose reworded by rules. A stronger model would be the
  natural other author, but the nano critic alone solves nothing; its yield is measured and printed.

Measured: mean log-probability of a model-written token under the actor, prompt and outputs given; then pass@16, pass@1
and the share of attempts that call a program, on test problems, of the actor and of what becomes of it by a cold start
on each author's texts: the same questions, one sample each, in the same order, as many steps at the same rate, several
orders (seeds). Values are means over the seeds; intervals are 95 % bootstrap intervals over problems, and what each
seed alone gave stands beside them. The same command continues where it was stopped.
"""

import argparse
import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from thor_tir.app.config import RunConfig, quickstart
from thor_tir.app.runtime import Runtime, dialect_of, open_runtime
from thor_tir.app.stages.evaluate import EvalRun, EvalSpec, evaluate_within
from thor_tir.app.stages.sft import fine_tune
from thor_tir.app.stages.sft_data import SftSource
from thor_tir.app.stages.tirgen import generate_raw
from thor_tir.app.stages.tirgen_data import filter_raw
from thor_tir.console import ConsoleReporter
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_model
from thor_tir.eval.folder import EvalFolder, Evaluation
from thor_tir.eval.statistics import Interval, bootstrap, bootstrap_difference, pass_at_k
from thor_tir.problems.benchmarks import ProblemSet, digest_of
from thor_tir.problems.sources import Split, load_problems
from thor_tir.rollout.sample_many import Attempt
from thor_tir.sft.examples import sft_row
from thor_tir.storage.journal import line_of, writing_atomically
from thor_tir.tirgen.dataset import SampleFacts, read_dataset, to_row
from thor_tir.tirgen.rules import Candidate
from thor_tir.tirgen.selection import FilterConfig, examine_candidate
from thor_tir.trajectory import Author, Span, Step, Thought, Trajectory
from thor_tir.verdict import Strictness

K = 16
REWORDED = (
    (r"greatest common divisor|GCD", "largest shared factor"),
    (r"\bLCM\b", "smallest shared multiple"),
    (r"[Tt]he final answer is|[Tt]he answer is", "the result equals"),
    (r"\bI look for\b|\bI need\b", "We search for"),
    (r"\bI take the numbers\b", "Given are"),
    (r"\bI work out\b|\bI count\b", "We evaluate"),
    (r"\bI\b", "we"),
    (r"\bfind their\b", "determine the"),
    (r"\bNow\b|\bThen\b", "Next"),
    (r"\bdivide\b", "reduce"),
    (r"\bSo\b|\bTherefore\b", "Hence"),
    (r"\badd up to\b|\badds up to\b", "amount to"),
    (r"\bThe total is\b|\bWhat is left is\b", "Altogether there remain"),
    (r"\bproduct\b", "multiplied value"),
)
"""How another author would say the same, word by word; numbers stay."""


Texts = Mapping[str, Mapping[str, Attempt]]
"""By author and question."""


def by_another_hand(attempt: Attempt, dialect: Dialect) -> Attempt:
    """The same steps, programs and outputs in somebody else's words."""

    def retold(step: Step) -> Step:
        text = step.thought.text
        for pattern, other in REWORDED:
            text = re.sub(pattern, other, text)
        text = text[:1].upper() + text[1:]
        ends = dialect.tokenizer.eos_token_id in step.thought.span.token_ids
        ids = dialect.encode(text) + ((dialect.tokenizer.eos_token_id,) if ends else ())
        return replace(step, thought=Thought(text=text, span=Span(token_ids=ids, author=Author.MODEL)))

    whole = attempt.trajectory
    return replace(attempt, trajectory=replace(whole, steps=tuple(map(retold, whole.steps))))


def logprobs(model: Any, trajectory: Trajectory, prompt: Span) -> dict[str, float]:
    """Mean log-probability, in nats, of a model-written token: of all, of words, of programs."""
    row = sft_row(trajectory, prompt=prompt)
    kinds = ["prompt"] * len(prompt)
    for step in trajectory.steps:
        spans = zip(("words", "programs", "output"), step.spans, strict=False)
        kinds += [kind for kind, span in spans for _ in range(len(span))]
    ids = torch.tensor([row.token_ids])
    with torch.inference_mode():
        table = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    found = table.gather(1, ids[0, 1:, None])[:, 0].tolist()
    told = [(kind, lp) for kind, lp, t in zip(kinds[1:], found, row.trained[1:], strict=True) if t]
    means = {kind: fmean([lp for k, lp in told if k == kind]) for kind in ("words", "programs")}
    return {"all": fmean([lp for _, lp in told]), **means}


def chosen_by_rules(attempts: Sequence[Attempt]) -> dict[str, Attempt]:
    """By question, the first attempt that passes the rules that TIRGen's samples passed."""
    found: dict[str, Attempt] = {}
    for attempt in attempts:
        candidate = Candidate(trajectory=attempt.trajectory, verdict=attempt.verdict)
        if examine_candidate(candidate, FilterConfig()).rejected is None:
            found.setdefault(attempt.problem.id, attempt)
    return found


async def sample(
    name: str, model: str, problems: Sequence[Any], config: RunConfig, folder: Path, tools: Runtime, samples: int
) -> Evaluation:
    """Attempts of one model with tools."""
    asked = ProblemSet(name="test", title="test", problems=tuple(problems), sha256=digest_of(problems))
    run = EvalRun(
        spec=EvalSpec(name=name, model=model, samples=samples, style=TOOLS),
        sets=(asked,),
        config=config,
        folder=EvalFolder(path=folder / name.replace(" ", "-").replace(",", "")),
        strictness=Strictness.STRICT,
    )
    await evaluate_within(run, tools, ConsoleReporter())
    return run.folder.evaluation(asked)


async def texts(
    config: RunConfig, folder: Path, raw: Path | None, tools: Runtime
) -> tuple[dict[str, dict[str, Attempt]], str]:
    """By author and question, one sample each of the questions that all authors solved; and everybody's yield."""
    if raw is None:
        raw = folder / "tirgen"
        await generate_raw(config, raw, tools, ConsoleReporter())
    tirgen = {a.problem.id: a for a in read_dataset(filter_raw([raw], config.filter, folder / "tirgen"))}
    problems = [attempt.problem for attempt in tirgen.values()]
    own = chosen_by_rules((await sample("own", config.actor, problems, config, folder, tools, 1)).attempts)
    critic = (await sample("critic", config.critic, problems[:60], config, folder, tools, 1)).attempts
    common = sorted(tirgen.keys() & own.keys())
    dialect = dialect_of(load_model(config.actor)[1], TOOLS)
    other = {id: by_another_hand(tirgen[id], dialect) for id in common}
    authors = {"own": own, "tirgen": tirgen, "other": other}
    told = (
        f"{len(tirgen)} samples of TIRGen; at their questions, in one attempt each, the actor has {len(own)} of the "
        f"same quality, and the critic alone solves {sum(a.is_correct for a in critic)} of {len(critic)}; "
        f"{len(common)} questions in common"
    )
    return {name: {id: found[id] for id in common} for name, found in authors.items()}, told


def alignment(config: RunConfig, found: Texts) -> list[str]:
    """The first table: log-probabilities under the actor."""
    model, tokenizer = load_model(config.actor)
    model.eval()
    dialect = dialect_of(tokenizer, TOOLS)
    measured = {
        name: [logprobs(model, a.trajectory, dialect.prompt(a.problem.question)) for a in samples.values()]
        for name, samples in found.items()
    }
    lines = ["log-probability of a token under the actor, nats | all | words | programs"]
    for name, rows in measured.items():
        cells = [shown(bootstrap([row[kind] for row in rows], seed=0)) for kind in ("all", "words", "programs")]
        lines.append(" | ".join([name, *cells]))
    for name in ("own", "other"):
        cells = []
        for kind in ("all", "words", "programs"):
            ours, theirs = ([row[kind] for row in measured[who]] for who in ("tirgen", name))
            equal = "0 (the same)" if ours == theirs else shown(bootstrap_difference(ours, theirs, seed=0))
            cells.append(equal)
        lines.append(" | ".join([f"tirgen - {name}", *cells]))
    return lines


async def cold_starts(
    config: RunConfig, found: Texts, folder: Path, tools: Runtime, *, num_test: int, seeds: Sequence[int]
) -> dict[str, list[Evaluation]]:
    """Attempts of the actor, and of what a cold start on each author's texts makes of it, one evaluation a seed."""
    problems = load_problems(config.problems, split=Split.TEST, count=num_test, seed=4, configs=config.families)
    results = {"actor": [await sample("actor", config.actor, problems, config, folder, tools, K)]}
    for seed in seeds:
        for name, samples in found.items():
            data = folder / name / "dataset.jsonl"
            with writing_atomically(data) as out:
                out.writelines(line_of(to_row(attempt, SampleFacts())) for attempt in samples.values())
            place = folder / name / f"sft-{seed}"
            if not (place / "model").exists():
                settings = replace(config.sft, seed=seed, save_steps=1000)
                fine_tune(config.actor, SftSource(data=str(data)), settings, place, ConsoleReporter())
            after = await sample(f"after {name} {seed}", str(place / "model"), problems, config, folder, tools, K)
            results.setdefault(name, []).append(after)
    return results


def pass_1(group: Sequence[Attempt]) -> float:
    """Share of right attempts at one problem."""
    return fmean(a.is_correct for a in group)


def pass_k(group: Sequence[Attempt]) -> float:
    """Whether one of K attempts is right."""
    return pass_at_k(len(group), sum(a.is_correct for a in group), K)


def code_ratio(group: Sequence[Attempt]) -> float:
    """Share of attempts that call a program."""
    return fmean(bool(a.trajectory.calls) for a in group)


MEASURES: Mapping[str, Callable[[Sequence[Attempt]], float]] = {
    "pass@1": pass_1,
    f"pass@{K}": pass_k,
    "code ratio": code_ratio,
}


def outcomes(results: Mapping[str, Sequence[Evaluation]]) -> list[str]:
    """The second table: what each cold start gives, against the actor and against each other."""
    lines = [" | ".join(["after SFT on", *MEASURES])]
    for name, runs in results.items():
        lines.append(" | ".join([name, *(told(by_seed(runs, measure)) for measure in MEASURES.values())]))
    pairs = [(name, "actor") for name in results if name != "actor"] + [("tirgen", "own"), ("tirgen", "other")]
    for ours, theirs in pairs:
        cells = [
            told(by_seed(results[ours], measure), by_seed(results[theirs], measure)) for measure in MEASURES.values()
        ]
        lines.append(" | ".join([f"{ours} - {theirs}", *cells]))
    return lines


def by_seed(runs: Sequence[Evaluation], measure: Callable[[Sequence[Attempt]], float]) -> list[list[float]]:
    """A measure for each seed and problem."""
    return [[measure(group) for group in run.groups] for run in runs]


def told(ours: list[list[float]], theirs: list[list[float]] | None = None) -> str:
    """Mean over seeds with its interval over problems, and each seed's own; of a difference where two are given."""
    pairs = None if theirs is None else theirs * (len(ours) // len(theirs))
    alone = [fmean(row) - (fmean(pairs[i]) if pairs else 0) for i, row in enumerate(ours)]
    over = [[fmean(values) for values in zip(*rows, strict=True)] for rows in (ours, pairs or ours)]
    interval = bootstrap(over[0], seed=0) if pairs is None else bootstrap_difference(over[0], over[1], seed=0)
    each = "" if len(alone) == 1 else f" [{', '.join(f'{value:.3f}' for value in alone)}]"
    return shown(interval) + each


def shown(interval: Interval) -> str:
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"


async def measure(folder: Path, raw: Path | None, *, count: int, num_test: int, seeds: Sequence[int]) -> list[str]:
    nano = quickstart(seed=0)
    config = replace(nano, num_tirgen=count, no_tools_samples=0, filter=FilterConfig(max_share=1))
    async with open_runtime(config.resources) as tools:
        found, yields = await texts(config, folder, raw, tools)
        lines = [yields, "", *alignment(config, found)]
        if num_test:
            results = await cold_starts(config, found, folder, tools, num_test=num_test, seeds=seeds)
            lines += ["", *sizes(found), "", *outcomes(results)]
        return lines


def sizes(found: Texts) -> list[str]:
    """How much there is to learn from, by author."""
    tokens = {name: sum(a.trajectory.num_model_tokens for a in texts.values()) for name, texts in found.items()}
    calls = {name: fmean(len(a.trajectory.calls) for a in texts.values()) for name, texts in found.items()}
    return [f"{name}: {tokens[name]} model-written tokens, {calls[name]:.2f} calls a sample" for name in found]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/alignment"))
    options.add_argument("--raw", type=Path, help="raw trajectories of nano/actor that are there already")
    options.add_argument("--count", type=int, default=240, help="questions to generate for, without --raw")
    options.add_argument("--test", type=int, default=120, help="test problems; 0 leaves the cold starts out")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the cold starts")
    given = options.parse_args()
    lines = asyncio.run(measure(given.output, given.raw, count=given.count, num_test=given.test, seeds=given.seeds))
    (given.output / "alignment.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
