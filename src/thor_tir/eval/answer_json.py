"""An answer as JSON values, in `thor solve --json` and in the field `thor` of `thor serve`."""

from dataclasses import asdict

from thor_tir.inference.self_correction import repair_cost
from thor_tir.rollout.sample_many import Attempt
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import PYTHON, Decode, Step


def answer_json(attempt: Attempt, decode: Decode) -> JsonObject:
    """Final answer, every step as it stands in the context, and what became of failed calls."""
    trajectory = attempt.trajectory
    return {
        "answer": attempt.verdict.extracted,
        "finish": trajectory.finish.value,
        "steps": [step_json(step, decode) for step in trajectory.steps],
        "repairs": asdict(repair_cost(trajectory)),
    }


def step_json(step: Step, decode: Decode) -> JsonObject:
    """One step; code and output are null where it made no call."""
    fields: JsonObject = {"thought": decode(step.thought.span.token_ids), "code": None, "output": None}
    if step.action is not None and step.observation is not None:
        result = step.observation.result
        fields |= {
            "code": step.action.code,
            **({} if step.action.tool == PYTHON else {"tool": step.action.tool}),
            "output": step.observation.text,
            "status": result.status.value,
            "error": result.error,
            "seconds": round(result.seconds, 4),
            "level": result.level,
        }
    if step.discarded:
        fields["discarded"] = [step_json(old, decode) for old in step.discarded]
    return fields


def candidate_json(attempt: Attempt) -> JsonObject:
    """One of several attempts, as far as a choice goes by it."""
    trajectory = attempt.trajectory
    return {
        "kind": "candidate",
        "number": int(trajectory.id),
        "answer": attempt.verdict.extracted,
        "finish": trajectory.finish.value,
        "calls": len(trajectory.calls),
        "succeeded": sum(step.succeeded for step in trajectory.calls),
        "tokens": trajectory.num_model_tokens,
    }
