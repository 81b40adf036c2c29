"""Which tokens of a trajectory the cold start trains."""

import math

from thor_tir.execution import ExecutionResult, Status
from thor_tir.learner.row import Component
from thor_tir.sft.examples import sft_row, within
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory


def model(*ids: int) -> Span:
    return Span(token_ids=ids, author=Author.MODEL)


TRAJECTORY = Trajectory(
    id="t",
    problem_id="p",
    prompt=Span(token_ids=(90, 91, 92), author=Author.PROMPT),
    steps=(
        Step(
            thought=Thought(text="", span=model(1, 2)),
            action=Action(code="", span=model(3)),
            observation=Observation(
                text="",
                span=Span(token_ids=(50, 51), author=Author.ENVIRONMENT),
                result=ExecutionResult(status=Status.OK, stdout=""),
            ),
        ),
        Step(thought=Thought(text="", span=model(4, 5))),
    ),
    finish=Finish.ENDED,
)
PROMPT = Span(token_ids=(80, 81), author=Author.PROMPT)
"""Another than the one the trajectory was generated under."""


def trained_ids(**options) -> list[int]:
    row = sft_row(TRAJECTORY, prompt=PROMPT, **options)
    return [token for token, is_trained in zip(row.token_ids, row.trained, strict=True) if is_trained]


def test_thoughts_actions_and_the_end_are_trained_and_observations_are_not():
    assert trained_ids() == [1, 2, 3, 4, 5]


def test_the_unmasked_loss_of_the_paper_adds_the_observations_but_not_the_prompt():
    assert trained_ids(trains_observations=True) == [1, 2, 3, 50, 51, 4, 5]


def test_the_prompt_is_replaced_and_the_response_is_left_token_for_token():
    row = sft_row(TRAJECTORY, prompt=PROMPT)
    assert row.token_ids == (80, 81, 1, 2, 3, 50, 51, 4, 5)
    assert all(math.isnan(logprob) for logprob in row.old_logprobs)  # nobody of this run sampled them
    assert [term.component for term in row.terms] == [Component.SFT]


def test_a_row_that_is_too_long_is_left_out_whole():
    row = sft_row(TRAJECTORY, prompt=PROMPT)  # 9 tokens
    assert within([row], 9) == [row]
    assert within([row], 8) == []
