"""Text that the critic is fine-tuned on: isolated steps, each with the answer that a critic shall give.

Half of it are steps that the actor itself wrote on training questions, answered by rules that see the step alone
(`labels.py`); the other half is what the embedded critic was pretrained on, worked solutions of the same families.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from nano_models.corpus import NOTHING_TO_COMPUTE, MixtureConfig, critic_documents
from real_model.labels import rewritten
from thor_tir.dialect.prompts import CRITIC, messages
from thor_tir.problem import Problem
from thor_tir.problems.sources import NANO_FAMILIES, Split, reasoning_gym_problems
from thor_tir.storage.journal import JsonObject, write_atomically

Pair = tuple[str, str]
"""A step, and the answer to it."""

MOST_IDLE = 0.4
"""Share of the actor's steps, at most, in which there is nothing to compute."""


def training_questions(count: int, seed: int) -> list[Problem]:
    """Questions of the training split on which the actor writes its steps."""
    return reasoning_gym_problems(NANO_FAMILIES, split=Split.TRAIN, count=count, seed=seed)


def write_questions(path: Path, count: int, seed: int) -> None:
    """Write these questions as a data set."""
    rows = ({"question": p.question, "answer": p.answer} for p in training_questions(count, seed))
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_corpus(path: Path, attempts: Path, *, count: int, seed: int) -> None:
    """Write a data set of conversations for `thor sft`, from the actor's attempts at training questions."""
    rng = Random(seed)
    own = _with_few_idle(list(actor_pairs(attempts)), rng)
    pairs = [*own, *nano_pairs(max(0, count - len(own)), seed)]
    rng.shuffle(pairs)
    write_atomically(path, "".join(json.dumps(_chat(pair)) + "\n" for pair in pairs))


def actor_pairs(attempts: Path) -> Iterator[Pair]:
    """Paragraphs of the actor's answers; an answer's last one may be cut off, and counts as well."""
    for line in attempts.read_text(encoding="utf-8").splitlines():
        text = "".join(step["thought"]["text"] for step in json.loads(line)["trajectory"]["steps"])
        for step in re.split(r"(?<=\n\n)", text):
            if step.strip() and "```" not in step:
                yield step, rewritten(step)


def nano_pairs(count: int, seed: int) -> Iterator[Pair]:
    """What the embedded critic reads, without its drills in copying."""
    documents = critic_documents(training_questions(max(1, count), seed), Random(seed), MixtureConfig(drills=0))
    return ((document.request, document.pieces[0][0]) for document in islice(documents, count))


def _with_few_idle(pairs: Sequence[Pair], rng: Random) -> list[Pair]:
    busy = [pair for pair in pairs if pair[1] != NOTHING_TO_COMPUTE]
    idle = [pair for pair in pairs if pair[1] == NOTHING_TO_COMPUTE]
    most = int(len(busy) * MOST_IDLE / (1 - MOST_IDLE))
    return [*busy, *rng.sample(idle, min(most, len(idle)))]


def _chat(pair: Pair) -> JsonObject:
    step, answer = pair
    return {"messages": [*messages(CRITIC, step), {"role": "assistant", "content": answer}]}
