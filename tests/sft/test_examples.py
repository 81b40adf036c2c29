"""Which tokens of a trajectory the cold start trains."""

import math
from dataclasses import replace

import pytest

from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sft.examples import FittingRows, fitting, sft_row, spelled_for
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from tiny_models import tiny_tokenizer


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
    assert [term.name for term in row.terms] == ["sft"]


def test_a_row_that_is_too_long_is_left_out_whole():
    row = sft_row(TRAJECTORY, prompt=PROMPT)  # 9 tokens
    assert fitting([row], 9) == FittingRows(rows=[row], num_too_long=0, longest=9)
    assert fitting([row, row], 8) == FittingRows(rows=[], num_too_long=2, longest=9)


def text_level(words: str, code: str, output: str, answer: str) -> Trajectory:
    """A finished trajectory whose model was reached by text alone."""
    dialect = Dialect(TextTokenizer())
    end = (dialect.tokenizer.eos_token_id,)

    def span(text: str, *more: int) -> Span:
        return Span(token_ids=(*dialect.encode(text), *more), author=Author.MODEL)

    result = ExecutionResult(status=Status.OK, stdout=output)
    action = Action(code=code, span=span(f"```python\n{code}```\n"))
    steps = (
        Step(thought=Thought(text=words, span=span(words)), action=action, observation=dialect.observe(result)),
        Step(thought=Thought(text=answer, span=span(answer, *end))),
    )
    return Trajectory(
        id="t", problem_id="p", prompt=dialect.prompt("What is 7 * 11?"), steps=steps, finish=Finish.ENDED
    )


def test_what_a_model_said_by_text_alone_is_trained_on_in_the_trained_models_own_tokens():
    tokenizer = tiny_tokenizer()
    dialect = Dialect(tokenizer)
    said = text_level("We multiply.\n", "print(7 * 11)\n", "77\n", "It is \\boxed{77}.")
    prompt = dialect.prompt("What is 7 * 11?")
    row = sft_row(spelled_for(said, dialect), prompt=prompt)
    words = "We multiply.\n```python\nprint(7 * 11)\n```\n```output\n77\n```\nIt is \\boxed{77}."
    assert tokenizer.decode(row.token_ids) == tokenizer.decode(prompt.token_ids) + words + tokenizer.eos_token
    observed = [i for i, trained in zip(row.token_ids, row.trained, strict=True) if not trained]
    assert tokenizer.decode(observed[len(prompt) :]) == "```output\n77\n```\n"
    assert row.trained[-1]  # the end of the turn is learnt


def own(words: str, code: str, output: str, answer: str) -> Trajectory:
    """The same in the tiny tokenizer's tokens."""
    return spelled_for(text_level(words, code, output, answer), Dialect(tiny_tokenizer()))


def test_a_trajectory_of_the_models_own_tokens_is_left_token_for_token():
    trajectory = own("We multiply.\n", "print(7 * 11)\n", "77\n", "It is \\boxed{77}.")
    assert spelled_for(trajectory, Dialect(tiny_tokenizer())) is trajectory


@pytest.mark.parametrize("told", ["Two: \u4e8c\n", "Two: \ufffd"])
def test_tokens_that_straddle_a_fence_and_torn_characters_are_the_models_own_all_the_same(told):
    dialect = Dialect(tiny_tokenizer())
    ids = dialect.encode("Two: \u4e8c\n```python\nprint(2)\n```\n")
    cut = len(dialect.encode("Two: ")) + 1  # within the three bytes of the character
    step = own("", "print(2)\n", "2\n", "").steps[0]
    assert step.action is not None
    torn = replace(
        step,
        thought=Thought(text=told, span=model(*ids[:cut])),
        action=Action(code="print(2)\n", span=model(*ids[cut:])),
    )
    trajectory = replace(TRAJECTORY, steps=(torn,))
    assert spelled_for(trajectory, dialect) is trajectory


def test_tokens_of_another_tokenizer_are_not_trained_on_their_text_is():
    ours = own("We multiply.\n", "print(7 * 11)\n", "77\n", "It is \\boxed{77}.")

    def shifted(span: Span) -> Span:
        return replace(span, token_ids=tuple(4 + (i + 1) % 300 for i in span.token_ids))

    steps = []
    for step in ours.steps:
        whole = replace(step, thought=replace(step.thought, span=shifted(step.thought.span)))
        if step.action is not None and step.observation is not None:
            action = replace(step.action, span=shifted(step.action.span))
            seen = replace(step.observation, span=shifted(step.observation.span))
            whole = replace(whole, action=action, observation=seen)
        steps.append(whole)
    foreign = replace(ours, steps=tuple(steps))
    found = spelled_for(foreign, Dialect(tiny_tokenizer()))
    assert [step.spans for step in found.steps] == [step.spans for step in ours.steps]
