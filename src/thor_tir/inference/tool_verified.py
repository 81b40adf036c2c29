"""Tool verification: for each answer that candidates give, the policy writes a program that checks it, which is run.

The last line that the program prints is the verdict. Candidates with one answer share one check. A program that is not
written, fails or prints neither word is no opinion; the vote decides then, which is counted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.observation import middle_out
from thor_tir.dialect.prompts import PromptStyle
from thor_tir.inference.best_of_n import ballots
from thor_tir.inference.opinions import Opinion, step_text
from thor_tir.rollout.loop import Agent, RolloutConfig, take_step
from thor_tir.rollout.sample_many import Attempt
from thor_tir.seeds import seed_of
from thor_tir.trajectory import Author, Step

STYLE = PromptStyle(
    system=(
        "You check proposed answers of mathematics problems with Python and trust none of them.\n"
        "Write one program between a line ```python and a line ```; it stands alone and imports what it needs."
    ),
    user=(
        "{text}\nWrite a program that computes or tests this by itself and compares. Its last line of output is the"
        " single word RIGHT or WRONG."
    ),
)
"""Prompt of a check."""

_VERDICTS = {"RIGHT": 1.0, "WRONG": -1.0}
_MAX_ANSWER_CHARS = 500


class ToolVerified:
    """Asks the policy for a program that checks each answer."""

    def __init__(self, agent: Agent, config: RolloutConfig) -> None:
        dialect = Dialect(agent.dialect.tokenizer, replace(agent.dialect.config, style=STYLE))
        self._agent = replace(agent, dialect=dialect)
        self._config = config

    async def ask(self, question: str, candidates: Sequence[Attempt], *, seed: int) -> Opinion:
        """1 for each candidate whose answer was found right, -1 for wrong; nothing where no check said so."""
        answers: dict[int, str] = {}
        votes = ballots(candidates)
        for candidate, vote in zip(candidates, votes, strict=True):
            if vote is not None:
                answers.setdefault(vote, (candidate.verdict.extracted or "").strip())
        checks = await asyncio.gather(*(self._check(question, a, seed=seed_of(seed, a)) for a in answers.values()))
        found = dict(zip(answers, checks, strict=True))
        return Opinion(
            numbers={
                candidate.trajectory.id: (verdict,)
                for candidate, vote in zip(candidates, votes, strict=True)
                if vote is not None and (verdict := read_verdict(found[vote][0])) is not None
            },
            fallbacks=sum(read_verdict(step) is None for step, _ in checks),
            calls=len(checks),
            read_tokens=sum(read for _, read in checks),
            tokens=sum(len(s) for step, _ in checks for s in step.spans if s.author is Author.MODEL),
            said=tuple(step_text(step) for step, _ in checks),
        )

    async def _check(self, question: str, answer: str, *, seed: int) -> tuple[Step, int]:
        """The step that holds the program and its output, and the tokens of its prompt."""
        shown = middle_out(answer, _MAX_ANSWER_CHARS)
        prompt = self._agent.dialect.prompt(f"Problem:\n{question.strip()}\nProposed answer: {shown}")
        room = self._config.max_completion_length
        with self._agent.policy.attend():
            turn = await take_step(self._agent, prompt.token_ids, self._config, room, may_call=True, seed=seed)
        return turn.step, len(prompt)


def read_verdict(step: Step) -> float | None:
    """1 where the program ran and its last line is RIGHT, -1 where it is WRONG, and None for anything else."""
    result = step.observation.result if step.observation is not None else None
    if result is None or not result.succeeds():
        return None
    return _VERDICTS.get(result.stdout.strip().splitlines()[-1].strip())
