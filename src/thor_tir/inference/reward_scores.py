"""Candidates as a reward model judges them: each by itself, as a whole or step by step."""

from collections.abc import Sequence

from thor_tir.engines.reward_model import Response, RewardModel
from thor_tir.inference.opinions import Opinion, step_text
from thor_tir.rollout.sample_many import Attempt


class RewardAsker:
    """Asks a reward model about every candidate."""

    def __init__(self, model: RewardModel, *, is_process: bool) -> None:
        self._model = model
        self._is_process = is_process

    async def ask(self, question: str, candidates: Sequence[Attempt], *, seed: int) -> Opinion:
        """The numbers of each candidate: one, or one for each of its steps."""
        responses = [response_of(question, candidate) for candidate in candidates]
        given = await self._model.rewards(responses, is_process=self._is_process)
        return Opinion(
            numbers={c.trajectory.id: r.numbers for c, r in zip(candidates, given, strict=True) if r.numbers},
            fallbacks=sum(not rewards.numbers for rewards in given),
            calls=len(given),
            read_tokens=sum(rewards.tokens for rewards in given),
        )


def response_of(question: str, attempt: Attempt) -> Response:
    """A candidate as reward models read it."""
    trajectory = attempt.trajectory
    return Response(
        question=question,
        steps=tuple(map(step_text, trajectory.steps)),
        prompt_ids=trajectory.prompt.token_ids,
        step_ids=tuple(tuple(i for span in step.spans for i in span.token_ids) for step in trajectory.steps),
    )
