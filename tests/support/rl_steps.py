"""Steps and attempts made by hand, for rules that look at nothing but the record."""

from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict


def written(text: str) -> Thought:
    """A thought of one token a character."""
    ids = tuple(map(ord, text))
    return Thought(text=text, span=Span(token_ids=ids, author=Author.MODEL, logprobs=(-1.0,) * len(ids)))


def spell(ids) -> str:
    return "".join(map(chr, ids))


def called(thought: str = "", *, code: str = "print(2 + 2)", stdout: str = "4\n", status: Status = Status.OK) -> Step:
    return Step(
        thought=written(thought),
        action=Action(code=code, span=Span(token_ids=(1,), author=Author.MODEL, logprobs=(-1.0,))),
        observation=Observation(
            text=stdout,
            span=Span(token_ids=(2,), author=Author.ENVIRONMENT),
            result=ExecutionResult(status=status, stdout=stdout),
        ),
    )


def said(text: str) -> Step:
    return Step(thought=written(text))


def attempt_with(*steps: Step, finish: Finish = Finish.ENDED, outcome: Outcome = Outcome.WRONG) -> Attempt:
    prompt = Span(token_ids=(3,) * 50, author=Author.PROMPT)
    return Attempt(
        problem=Problem(id="p", question="?", answer="4", source=""),
        trajectory=Trajectory(id="t", problem_id="p", prompt=prompt, steps=steps, finish=finish),
        verdict=Verdict(outcome=outcome, extracted=None, reason=""),
    )
