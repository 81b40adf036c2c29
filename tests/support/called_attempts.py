"""Attempts with scripted calls and answers, for the tests of what chooses among them."""

from scripted_agent import result_of
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

PROBLEM = Problem(id="p", question="?", answer="1", source="test")


def step_of(code: str) -> Step:
    model, environment = (Span(token_ids=(1,), author=author) for author in (Author.MODEL, Author.ENVIRONMENT))
    return Step(
        thought=Thought(text="", span=model),
        action=Action(code=code, span=model),
        observation=Observation(text="", span=environment, result=result_of(code)),
    )


def attempt_of(calls: str, answer: str | None = "1", *, outcome: Outcome = Outcome.WRONG, id: str = "t") -> Attempt:
    """`calls` holds one letter for each call: + succeeds, - fails, . runs in silence, which is no success."""
    steps = tuple(step_of({"+": "1", "-": "boom", ".": "pass"}[call]) for call in calls)
    prompt = Span(token_ids=(7,), author=Author.PROMPT)
    trajectory = Trajectory(id=id, problem_id="p", prompt=prompt, steps=steps, finish=Finish.ENDED)
    return Attempt(
        problem=PROBLEM, trajectory=trajectory, verdict=Verdict(outcome=outcome, extracted=answer, reason="")
    )
