"""Trajectories -> rows of the cold start. The prompt they were generated under may be replaced by the policy's own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.openai_api.text_codec import is_text_level
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.trajectory import Author, Finish, Observation, Span, Step, Thought, Trajectory, flatten

SFT = "sft"
"""Name of the cross-entropy of the cold start (paper, Eq. 3)."""


def sft_row(trajectory: Trajectory, *, prompt: Span, trains_observations: bool = False) -> TrainingSample:
    """One example: thoughts, actions and the end of the turn are trained, the prompt is not.

    The paper's Eq. 3 sums over all response tokens and so teaches the model to predict tool outputs as well;
    `trains_observations` reproduces that. By default observations are masked.
    """
    spans = [prompt, *(span for step in trajectory.steps for span in step.spans)]
    return training_row(trajectory.id, [(span, True) for span in spans], trains_observations=trains_observations)


def training_row(id: str, spans: Sequence[tuple[Span, bool]], *, trains_observations: bool = False) -> TrainingSample:
    """Spans side by side, each with whether it is trained if its author is one who is."""
    learnt = {Author.MODEL, Author.ENVIRONMENT} if trains_observations else {Author.MODEL}
    flat = flatten(spans)
    return TrainingSample(
        id=id,
        token_ids=flat.token_ids,
        trained=tuple(is_trained and span.author in learnt for span, is_trained in spans for _ in range(len(span))),
        old_logprobs=(float("nan"),) * len(flat.token_ids),
        terms=(Term(name=SFT, formula="nll"),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FittingRows:
    """Rows that are no longer than a limit, and what became of the others."""

    rows: Sequence[TrainingSample]
    """Rows that fit."""
    num_too_long: int
    """Number of rows that were left out."""
    longest: int
    """Tokens of the longest row, whether it fits or not."""


def fitting(rows: Iterable[TrainingSample], max_tokens: int) -> FittingRows:
    """Rows that fit; a longer one is left out whole, since half a program teaches a broken one."""
    every = list(rows)
    kept = [row for row in every if len(row.token_ids) <= max_tokens]
    longest = max((len(row.token_ids) for row in every), default=0)
    return FittingRows(rows=kept, num_too_long=len(every) - len(kept), longest=longest)


def spelled_for(trajectory: Trajectory, dialect: Dialect) -> Trajectory:
    """The same trajectory in the trained model's own tokens.

    That is the trajectory itself, token for token, unless its ids are another's: of a model with another tokenizer, or
    of one that was reached by text alone (`engines/openai_api/text_codec.py`). Then its text is encoded here.
    """
    if is_own(trajectory, dialect):
        return trajectory
    steps = [_spelled(step, dialect) for step in trajectory.steps]
    if steps and trajectory.finish is Finish.ENDED and (end := dialect.ends.written) is not None:
        last = steps[-1]
        span = last.thought.span + Span(token_ids=(end,), author=Author.MODEL)
        steps[-1] = replace(last, thought=replace(last.thought, span=span))
    return replace(trajectory, prompt=replace(trajectory.prompt, token_ids=()), steps=tuple(steps))


TORN = "\N{REPLACEMENT CHARACTER}"
"""Stands in a text where a thought ends within the bytes of a character; the ids that follow may complete it."""


def is_own(trajectory: Trajectory, dialect: Dialect) -> bool:
    """True where a model reads in the ids of a trajectory what was written there."""
    ids = [token for step in trajectory.steps for span in step.spans for token in span.token_ids]
    if ids and is_text_level(ids):
        return False
    read = dialect.decode(ids)
    texts = (step.thought.text for step in trajectory.steps)
    calls = (step.action for step in trajectory.steps if step.action is not None)
    return all(part in read for text in texts for part in text.split(TORN)) and all(map(dialect.writes, calls))


def _spelled(step: Step, dialect: Dialect) -> Step:
    def span(text: str) -> Span:
        return Span(token_ids=dialect.encode(text), author=Author.MODEL)

    thought = Thought(text=step.thought.text, span=span(step.thought.text))
    if step.action is None or step.observation is None:
        return Step(thought=thought)
    action, text = dialect.call(step.action.code, step.action.tool), step.observation.text
    shown = Span(token_ids=dialect.result_ids(text, after=action), author=Author.ENVIRONMENT)
    return Step(
        thought=thought,
        action=action,
        observation=Observation(text=text, span=shown, result=step.observation.result),
    )
