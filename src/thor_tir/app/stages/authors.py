"""One question, three authors: data sets for the claim that training texts should be the actor's own (figure 4).

* `own`: the actor itself with tools, its first attempt at a question that passes, of one or more (rejection sampling);
* `tirgen`: Algorithm 1, the actor's words with the critic's programs;
* `reworded`: the same steps, programs and outputs with the prose reworded by rules, as another author would say it. A
  stronger model would be the natural other author; the embedded critic alone solves nothing.

All texts are right and passed the same rules. The questions are those that both authors solved, in one order, and each
data set ends where its model-written tokens reach those of the shortest, so that the sets have equal numbers of tokens.
A fourth, `reworded-all`, is all that TIRGen made, reworded, to stand beside TIRGen's own data set. It needs no samples
of the actor's, which may solve too few of the questions for the other three.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from thor_tir.app.config import RunConfig
from thor_tir.app.runtime import Runtime, dialect_of
from thor_tir.app.stages.evaluate import EvalRun, EvalSpec, evaluate_within
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_model, load_tokenizer
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.statistics import Interval, bootstrap
from thor_tir.problems.benchmarks import ProblemSet, digest_of
from thor_tir.progress import Reporter
from thor_tir.rollout.sample_many import Attempt
from thor_tir.sft.examples import sft_row
from thor_tir.storage.journal import line_of, write_atomically, writing_atomically
from thor_tir.tirgen.dataset import SampleFacts, read_dataset, to_row
from thor_tir.tirgen.rules import Candidate
from thor_tir.tirgen.selection import FilterConfig, examine_candidate
from thor_tir.trajectory import Author, Span, Step, Thought, Trajectory
from thor_tir.verdict import Strictness

AUTHORS = ("own", "tirgen", "reworded")
"""Names of the data sets of equal tokens."""
ALL_REWORDED = "reworded-all"
"""Name of the data set of all that TIRGen made, in another's words."""
_REWORDED = (
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
"""Words of another author, one for one; numbers stay."""

Texts = Mapping[str, Sequence[Attempt]]
"""Samples by author, the same questions in the same order."""


def write_reworded(model: str, data: Path, folder: Path) -> None:
    """Write TIRGen's whole data set in another's words."""
    dialect = dialect_of(load_tokenizer(model), TOOLS)
    _write(folder, ALL_REWORDED, [by_another_hand(attempt, dialect) for attempt in read_dataset(data)])


async def write_authors(config: RunConfig, data: Path, folder: Path, runtime: Runtime, reporter: Reporter) -> None:
    """Write a data set for each author of TIRGen's questions in `data`, and `authors.json` with what was measured.

    Raises UsageError where the actor solves so few of them alone that a data set of equal tokens would be empty.
    """
    tirgen = {attempt.problem.id: attempt for attempt in read_dataset(data)}
    own = await _own(config, list(tirgen.values()), folder, runtime, reporter)
    dialect = dialect_of(load_tokenizer(config.actor), TOOLS)
    common = [id for id in tirgen if id in own]
    texts: Texts = {
        "own": [own[id] for id in common],
        "tirgen": [tirgen[id] for id in common],
        "reworded": [by_another_hand(tirgen[id], dialect) for id in common],
    }
    kept = equal_tokens(texts)
    if len(common) < 2 or not all(kept.values()):  # one text has no interval
        raise UsageError(
            f"the actor itself solved {len(common)} of TIRGen's {len(tirgen)} questions by TIRGen's rules with "
            f"--attempts {config.eval.samples} at each, too few for data sets of equal tokens; give it "
            "more, or ask more questions"
        )
    for name, attempts in kept.items():
        _write(folder, name, attempts)
    model, _ = load_model(config.actor)
    measured = {
        name: {
            "samples": len(kept[name]),
            "tokens": sum(a.trajectory.num_model_tokens for a in kept[name]),
            "logprobs": alignment(model, dialect, attempts),
        }
        for name, attempts in texts.items()
    }
    found = {"questions": len(tirgen), "own_solved": len(own), "common": len(common), "authors": measured}
    write_atomically(folder / "authors.json", json.dumps(found, indent=1) + "\n")
    reporter.say(
        f"{len(tirgen)} questions that TIRGen solved, of which the actor solved {len(own)} with --attempts "
        f"{config.eval.samples} at each; "
        + ", ".join(f"{name} {found['samples']} samples" for name, found in measured.items())
    )


def _write(folder: Path, name: str, attempts: Iterable[Attempt]) -> None:
    with writing_atomically(folder / f"{name}.jsonl") as out:
        out.writelines(line_of(to_row(attempt, SampleFacts())) for attempt in attempts)


async def _own(
    config: RunConfig, samples: Sequence[Attempt], folder: Path, runtime: Runtime, reporter: Reporter
) -> dict[str, Attempt]:
    """The actor's first attempt at each of these questions that passes the rules which TIRGen's samples passed."""
    problems = tuple(attempt.problem for attempt in samples)
    run = EvalRun(
        spec=EvalSpec(name="own", model=config.actor, samples=config.eval.samples),
        sets=(ProblemSet(name="questions", title="questions", problems=problems, sha256=digest_of(problems)),),
        config=config,
        folder=EvalFolder(path=folder / "attempts"),
        strictness=Strictness.STRICT,
    )
    await evaluate_within(run, runtime, reporter)
    return first_passing(run.folder.evaluation(run.sets[0]).groups)


def first_passing(groups: Iterable[Sequence[Attempt]]) -> dict[str, Attempt]:
    """The first attempt of each group that passes TIRGen's rules, by the id of its problem."""
    passed = [list(filter(_passes, group)) for group in groups]
    return {attempts[0].problem.id: attempts[0] for attempts in passed if attempts}


def _passes(attempt: Attempt) -> bool:
    candidate = Candidate(trajectory=attempt.trajectory, verdict=attempt.verdict)
    return examine_candidate(candidate, FilterConfig()).rejected is None


def equal_tokens(texts: Texts) -> dict[str, list[Attempt]]:
    """The first samples of each author, as many as do not exceed the model-written tokens of the shortest set."""
    least = min(sum(a.trajectory.num_model_tokens for a in attempts) for attempts in texts.values())
    return {name: list(_within(attempts, least)) for name, attempts in texts.items()}


def _within(attempts: Iterable[Attempt], most: int) -> Iterable[Attempt]:
    spent = 0
    for attempt in attempts:
        spent += attempt.trajectory.num_model_tokens
        if spent > most:
            return
        yield attempt


def by_another_hand(attempt: Attempt, dialect: Dialect) -> Attempt:
    """The same steps, programs and outputs in somebody else's words."""

    def retold(step: Step) -> Step:
        text = step.thought.text
        for pattern, other in _REWORDED:
            text = re.sub(pattern, other, text)
        text = text[:1].upper() + text[1:]
        end = dialect.tokenizer.eos_token_id
        is_last = end is not None and end in step.thought.span.token_ids
        ids = dialect.encode(text) + ((end,) if end is not None and is_last else ())
        return replace(step, thought=Thought(text=text, span=Span(token_ids=ids, author=Author.MODEL)))

    whole = attempt.trajectory
    return replace(attempt, trajectory=replace(whole, steps=tuple(map(retold, whole.steps))))


def alignment(model: Any, dialect: Dialect, attempts: Sequence[Attempt]) -> dict[str, list[float]]:
    """Mean log-probability under the model of a model-written token, with its interval over questions, in nats."""
    rows = [_logprobs(model, a.trajectory, dialect.prompt(a.problem.question)) for a in attempts]
    return {kind: _listed(bootstrap([row[kind] for row in rows], seed=0)) for kind in ("all", "words", "programs")}


def _listed(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]


def _logprobs(model: Any, trajectory: Trajectory, prompt: Span) -> dict[str, float]:
    """Mean log-probability of a sample's tokens: of all, of words, of programs."""
    row = sft_row(trajectory, prompt=prompt)
    kinds = ["prompt"] * len(prompt)
    for step in trajectory.steps:
        spans = zip(("words", "programs", "output"), step.spans, strict=False)
        kinds += [kind for kind, span in spans for _ in range(len(span))]
    ids = torch.tensor([row.token_ids], device=model.device)
    with torch.inference_mode():
        table = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    found = table.gather(1, ids[0, 1:, None])[:, 0].tolist()
    told = [(kind, lp) for kind, lp, t in zip(kinds[1:], found, row.trained[1:], strict=True) if t]
    means = {kind: fmean([lp for k, lp in told if k == kind]) for kind in ("words", "programs")}
    return {"all": fmean([lp for _, lp in told]), **means}
