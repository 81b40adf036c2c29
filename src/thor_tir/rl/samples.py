"""Credit becomes rows: which tokens of a trajectory or of a repaired step are trained, and with which terms."""

from collections.abc import Iterable

from thor_tir.learner.sample import Component, Term, TrainingSample
from thor_tir.rl.advantage import POSITIVE
from thor_tir.trajectory import Prefix, Span, Step, Trajectory, flatten


def episode_row(trajectory: Trajectory, *, advantage: float, nll_weight: float, group: str) -> TrainingSample:
    """A whole trajectory: every thought and action is trained, prompt and observations are not (paper, Eq. 4).

    Raises ValueError where the model's tokens have no sampling log-probabilities.
    """
    terms = _terms(Component.EPISODE, Component.EPISODE_NLL, advantage=advantage, nll_weight=nll_weight)
    return _row(trajectory.id, ((span, True) for span in trajectory.spans), terms, group=group)


def step_row(prefix: Prefix, step: Step, *, id: str, advantage: float, nll_weight: float, group: str) -> TrainingSample:
    """A repaired step: the regenerated suffix and the action are trained, nothing before them (paper, Eq. 8).

    `step.thought` holds the regenerated suffix alone. The observation is left out: nothing trained follows it.
    """
    written = (step.thought.span,) if step.action is None else (step.thought.span, step.action.span)
    spans = [*((span, False) for span in prefix.spans), *((span, True) for span in written)]
    terms = _terms(Component.STEP, Component.STEP_NLL, advantage=advantage, nll_weight=nll_weight)
    return _row(id, spans, terms, group=group, parent=prefix.parent)


def _terms(surrogate: Component, nll: Component, *, advantage: float, nll_weight: float) -> tuple[Term, ...]:
    """The surrogate, and for samples of positive advantage their share in the NLL."""
    credit = Term(component=surrogate, advantage=advantage)
    return (credit, Term(component=nll, weight=nll_weight)) if advantage > POSITIVE else (credit,)


def _row(
    id: str, spans: Iterable[tuple[Span, bool]], terms: tuple[Term, ...], *, group: str, parent: str = ""
) -> TrainingSample:
    flat = flatten(spans)
    return TrainingSample(
        id=id,
        token_ids=flat.token_ids,
        trained=flat.trained,
        old_logprobs=flat.logprobs,
        terms=terms,
        group=group,
        parent=parent,
    )
