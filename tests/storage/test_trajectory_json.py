"""A trajectory survives its way to disk and back exactly; a damaged row is refused with the field's name."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.execution import ExecutionResult, Status
from thor_tir.storage.trajectory_json import MAX_NESTING, counted_row, trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory

finite = st.floats(allow_nan=False, allow_infinity=False)
token_ids = st.lists(st.integers(0, 200_000), max_size=5).map(tuple)
results = st.builds(
    ExecutionResult,
    status=st.sampled_from(Status),
    stdout=st.text(max_size=8),
    stderr=st.text(max_size=8),
    error=st.none() | st.text(max_size=8),
    exit_code=st.none() | st.integers(-64, 255),
    seconds=finite,
    level=st.text(max_size=8),
)


@st.composite
def spans(draw: st.DrawFn, author: Author) -> Span:
    ids = draw(token_ids)
    sampled = author is Author.MODEL and draw(st.booleans())
    logprobs = tuple(draw(finite) for _ in ids) if sampled else None
    return Span(token_ids=ids, author=author, logprobs=logprobs)


@st.composite
def steps(draw: st.DrawFn, depth: int = 2) -> Step:
    action = observation = None
    if draw(st.booleans()):
        action = Action(code=draw(st.text(max_size=8)), span=draw(spans(Author.MODEL)))
        span = draw(spans(Author.ENVIRONMENT))
        observation = Observation(text=draw(st.text(max_size=8)), span=span, result=draw(results))
    discarded = tuple(draw(st.lists(steps(depth - 1), max_size=2))) if depth else ()
    thought = Thought(text=draw(st.text(max_size=8)), span=draw(spans(Author.MODEL)))
    return Step(thought=thought, action=action, observation=observation, discarded=discarded)


trajectories = st.builds(
    Trajectory,
    id=st.text(max_size=8),
    problem_id=st.text(max_size=8),
    prompt=spans(Author.PROMPT),
    steps=st.lists(steps(), max_size=3).map(tuple),
    finish=st.sampled_from(Finish),
    policy_version=st.integers(0, 10**6),
)


def without_ids(step: Step) -> Step:
    def blank(span: Span) -> Span:
        return Span(token_ids=(0,) * len(span), author=span.author)

    return replace(
        step,
        thought=replace(step.thought, span=blank(step.thought.span)),
        action=step.action and replace(step.action, span=blank(step.action.span)),
        observation=step.observation and replace(step.observation, span=blank(step.observation.span)),
        discarded=tuple(map(without_ids, step.discarded)),
    )


@settings(max_examples=40)
@given(trajectories)
def test_a_row_that_is_counted_has_everything_but_ids_and_logprobs(trajectory):
    line = json.dumps({"key": "a", "trajectory": trajectory_to_json(trajectory)}).encode()
    prompt = Span(token_ids=(0,) * len(trajectory.prompt), author=Author.PROMPT)
    expected = replace(trajectory, prompt=prompt, steps=tuple(map(without_ids, trajectory.steps)))
    assert trajectory_from_json(counted_row(line)["trajectory"]) == expected


def failed_step(discarded: tuple[Step, ...] = ()) -> Step:
    return Step(
        thought=Thought(text="halve it", span=Span(token_ids=(5, 6), author=Author.MODEL, logprobs=(-0.1, -1e-300))),
        action=Action(code="1/0", span=Span(token_ids=(7,), author=Author.MODEL, logprobs=(-2.0,))),
        observation=Observation(
            text="ZeroDivisionError",
            span=Span(token_ids=(8,), author=Author.ENVIRONMENT),
            result=ExecutionResult(status=Status.RUNTIME, stdout="", error="ZeroDivisionError", exit_code=1),
        ),
        discarded=discarded,
    )


def trajectory(step: Step) -> Trajectory:
    prompt = Span(token_ids=(1, 2), author=Author.PROMPT)
    return Trajectory(id="p/0", problem_id="p", prompt=prompt, steps=(step,), finish=Finish.ENDED, policy_version=3)


@settings(max_examples=120, deadline=None)
@given(trajectories)
def test_a_trajectory_read_from_its_json_text_equals_the_one_written(original: Trajectory) -> None:
    assert trajectory_from_json(json.loads(json.dumps(trajectory_to_json(original), allow_nan=False))) == original


def test_a_log_probability_is_written_with_its_shortest_exact_digits() -> None:
    # 0.1 + 0.2 is the neighbour of 0.3 whose shortest representation has 17 digits; fewer would read back as 0.3
    span = Span(token_ids=(4,), author=Author.MODEL, logprobs=(-(0.1 + 0.2),))
    text = json.dumps(trajectory_to_json(trajectory(Step(thought=Thought(text="", span=span)))))
    assert "-0.30000000000000004" in text


def test_a_log_probability_that_json_cannot_hold_is_refused_when_written() -> None:
    span = Span(token_ids=(4,), author=Author.MODEL, logprobs=(float("nan"),))
    with pytest.raises(ValueError, match=r"logprobs\[0\]: expected a finite number, found nan"):
        trajectory_to_json(trajectory(Step(thought=Thought(text="", span=span))))


def test_fields_that_others_add_to_a_row_are_left_alone() -> None:
    original = trajectory(failed_step())
    assert trajectory_from_json({"key": "p/0", **trajectory_to_json(original)}) == original


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("id",), 7, r"trajectory\.id: expected a string, found 7"),
        (("finish",), "tired", r"trajectory\.finish: expected one of ended, .* found 'tired'"),
        (("policy_version",), True, r"trajectory\.policy_version: expected a whole number, found True"),
        (("steps",), {"0": {}}, r"trajectory\.steps: expected a list, found dict"),
        (("steps", 0), None, r"trajectory\.steps\[0\]: expected a JSON object, found None"),
        (("steps", 0, "thought", "ids", 1), -1, r"steps\[0\]\.thought\.ids\[1\]: expected a token id"),
        (("steps", 0, "thought", "ids", 1), 2.0, r"steps\[0\]\.thought\.ids\[1\]: expected a token id"),
        (("steps", 0, "thought", "logprobs", 0), float("inf"), r"thought\.logprobs\[0\]: expected a finite number"),
        (("steps", 0, "thought", "logprobs", 0), 10**400, r"thought\.logprobs\[0\]: expected a finite number"),
        (("steps", 0, "thought", "logprobs"), [-0.5], r"steps\[0\]\.thought: 1 log-probabilities for 2 tokens"),
        (("prompt", "logprobs"), [-1, -1], r"trajectory\.prompt: a span by the prompt was not sampled"),
        (("prompt", "ids"), 12, r"trajectory\.prompt\.ids: expected a list, found 12"),
        (("prompt", "ids"), "12", r"trajectory\.prompt\.ids: expected a list, found '12'"),
        (("steps", 0, "action"), None, r"steps\[0\]: `action` and `observation` must both be there"),
        (("steps", 0, "observation", "result", "status"), "infra", r"result\.status: expected one of ok, "),
        (("steps", 0, "observation", "result", "seconds"), "fast", r"result\.seconds: expected a finite number"),
        (("steps", 0, "observation", "result", "exit_code"), 0.5, r"exit_code: expected a whole number, found 0\.5"),
    ],
)
def test_a_damaged_field_is_named(path: tuple[str | int, ...], value: object, message: str) -> None:
    row = copy.deepcopy(trajectory_to_json(trajectory(failed_step())))
    place: object = row
    for name in path[:-1]:
        place = place[name]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    with pytest.raises(ValueError, match=message):
        trajectory_from_json(row)


def test_a_missing_field_is_named() -> None:
    row = trajectory_to_json(trajectory(failed_step()))
    del row["steps"][0]["observation"]["result"]["stdout"]
    with pytest.raises(ValueError, match=r"steps\[0\]\.observation\.result\.stdout is missing"):
        trajectory_from_json(row)


@pytest.mark.parametrize("row", [None, [], "trajectory", 1])
def test_a_row_that_is_no_object_is_refused(row: object) -> None:
    with pytest.raises(ValueError, match="trajectory: expected a JSON object"):
        trajectory_from_json(row)


def test_endless_nesting_is_refused_before_the_interpreter_gives_up() -> None:
    row = trajectory_to_json(trajectory(failed_step()))
    innermost = row["steps"][0]
    for _ in range(MAX_NESTING + 1):
        innermost["discarded"] = [copy.deepcopy({**innermost, "discarded": []})]
        innermost = innermost["discarded"][0]
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        trajectory_from_json(row)
