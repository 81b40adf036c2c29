"""Trajectories -> rows of the cold start. The prompt they were generated under may be replaced by the policy's own."""

from collections.abc import Iterable

from thor_tir.learner.row import Component, Row, Term
from thor_tir.trajectory import Author, Span, Trajectory, flatten


def sft_row(trajectory: Trajectory, *, prompt: Span, trains_observations: bool = False) -> Row:
    """One example: thoughts, actions and the end of the turn are trained, the prompt is not.

    The paper's Eq. 3 sums over all response tokens and so teaches the model to predict tool outputs as well;
    `trains_observations` reproduces that. By default observations are masked.
    """
    spans = [prompt, *(span for step in trajectory.steps for span in step.spans)]
    flat = flatten((span, True) for span in spans)
    trained = flat.trained
    if trains_observations:
        trained = tuple(author is not Author.PROMPT for author in flat.authors)
    return Row(
        id=trajectory.id,
        token_ids=flat.token_ids,
        trained=trained,
        old_logprobs=(float("nan"),) * len(flat.token_ids),
        terms=(Term(component=Component.SFT),),
    )


def within(rows: Iterable[Row], max_tokens: int) -> list[Row]:
    """Rows that fit; a longer one is left out whole, since half a program teaches a broken one."""
    return [row for row in rows if len(row.token_ids) <= max_tokens]
