"""A short trajectory in which self-correction replaced two failed calls, for the tests of what people see."""

from collections.abc import Sequence

from thor_tir.execution import ExecutionResult, Status
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory, with_discarded

WORDS = {1: "<|user|>3+4?", 2: "Let us compute.", 3: "```python\n", 4: "print(3+4)", 5: "\n```", 6: "7", 7: "So 7."}
WORDS |= {8: "print(x)", 9: "NameError: x"}


def decode(ids: Sequence[int]) -> str:
    return "".join(WORDS[i] for i in ids)


def model(*ids: int) -> Span:
    return Span(token_ids=ids, author=Author.MODEL, logprobs=(-0.5,) * len(ids))


def call(code: int, output: int, status: Status) -> Step:
    return Step(
        thought=Thought(text=WORDS[2], span=model(2)),
        action=Action(code=WORDS[code], span=model(3, code, 5)),
        observation=Observation(
            text=WORDS[output],
            span=Span(token_ids=(output,), author=Author.ENVIRONMENT),
            result=ExecutionResult(status=status, stdout=WORDS[output]),
        ),
    )


FAILED = call(8, 9, Status.RUNTIME)
CORRECTED = Trajectory(
    id="sum/0",
    problem_id="sum",
    prompt=Span(token_ids=(1,), author=Author.PROMPT),
    steps=(
        with_discarded(call(4, 6, Status.OK), (FAILED, FAILED)),
        Step(thought=Thought(text=WORDS[7], span=model(7))),
    ),
    finish=Finish.ENDED,
)
