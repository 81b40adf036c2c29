"""Rows from credit: which tokens of a trajectory or of a repaired step are trained, and with which terms."""

from collections.abc import Iterable, Sequence

from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.rl.algorithms import POSITIVE
from thor_tir.trajectory import Author, Prefix, Span, Step, Trajectory, flatten

EPISODE, STEP = "episode", "step"
"""Names of the surrogates over whole trajectories (paper, Eq. 4) and over repaired steps (paper, Eq. 8)."""


def episode_row(trajectory: Trajectory, *, advantage: float, nll_weight: float, group: str) -> TrainingSample:
    """A whole trajectory: every thought and action is trained, prompt and observations are not (paper, Eq. 4).

    Raises ValueError where the model's tokens have no sampling log-probabilities.
    """
    terms = terms_of(EPISODE, advantage=advantage, nll_weight=nll_weight)
    spans = ((span, True) for span in trajectory.spans)
    return _row(trajectory.id, spans, terms, group=group, version=trajectory.policy_version)


def step_row(
    prefix: Prefix,
    step: Step,
    *,
    id: str,
    advantage: float,
    nll_weight: float,
    group: str,
    later: Sequence[Step] = (),
) -> TrainingSample:
    """A repaired step: the regenerated suffix and the action are trained, nothing before them (paper, Eq. 8).

    `step.thought` holds the regenerated suffix alone. `later` steps, which the paper does not sample, are trained too.
    The last observation is left out: nothing trained follows it.
    """
    written = [span for each in (step, *later) for span in each.spans]
    if written[-1].author is Author.ENVIRONMENT:
        del written[-1]
    spans = [*((span, False) for span in prefix.spans), *((span, True) for span in written)]
    terms = terms_of(STEP, advantage=advantage, nll_weight=nll_weight)
    return _row(id, spans, terms, group=group, parent=prefix.parent)


def terms_of(level: str, *, advantage: float, nll_weight: float) -> tuple[Term, ...]:
    """The surrogate of a level, and for samples of positive advantage their NLL (paper, Eq. 4 and 8, last terms)."""
    credit = Term(name=level, formula="surrogate", advantage=advantage)
    return (credit, Term(name=f"{level}_nll", formula="nll", weight=nll_weight)) if advantage > POSITIVE else (credit,)


def surrogate_of(row: TrainingSample) -> Term:
    """The term that holds the row's advantage."""
    return next(term for term in row.terms if term.formula == "surrogate")


def kl_terms(row: TrainingSample, *, weight: float) -> tuple[Term, ...]:
    """A KL to the reference policy beside each surrogate of a row; not in the paper."""
    surrogates = (term for term in row.terms if term.formula == "surrogate")
    return tuple(Term(name=f"{term.name}_kl", formula="kl", weight=weight) for term in surrogates)


def _row(
    id: str,
    spans: Iterable[tuple[Span, bool]],
    terms: tuple[Term, ...],
    *,
    group: str,
    parent: str = "",
    version: int = 0,
) -> TrainingSample:
    flat = flatten(spans, version)
    return TrainingSample(
        id=id,
        token_ids=flat.token_ids,
        trained=flat.trained,
        old_logprobs=flat.logprobs,
        terms=terms,
        group=group,
        parent=parent,
        versions=flat.versions,
    )
