"""Texts of three authors: equal tokens, and another's words around the same programs."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from called_attempts import attempt_of
from thor_tir.app.config import EvalConfig, RunConfig
from thor_tir.app.runtime import dialect_of
from thor_tir.app.stages import authors
from thor_tir.app.stages.authors import by_another_hand, equal_tokens, first_passing, write_authors, write_reworded
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_tokenizer
from thor_tir.errors import UsageError
from thor_tir.trajectory import Author, Span, Thought


def test_sets_end_where_their_tokens_reach_those_of_the_shortest() -> None:
    short, long = attempt_of("+"), attempt_of("++")  # two model-written tokens a call
    assert (short.trajectory.num_model_tokens, long.trajectory.num_model_tokens) == (2, 4)
    kept = equal_tokens({"own": [short, short, short], "tirgen": [long, long, long], "reworded": [short, long, long]})
    assert {name: len(each) for name, each in kept.items()} == {"own": 3, "tirgen": 1, "reworded": 2}


def test_another_hand_changes_words_and_neither_numbers_nor_programs() -> None:
    dialect = dialect_of(load_tokenizer("nano/actor"), TOOLS)
    attempt = attempt_of("+")
    end = dialect.tokenizer.eos_token_id
    text = "So I take the numbers 84 and 68.\n"
    span = Span(token_ids=(*dialect.encode(text), end), author=Author.MODEL)
    step = replace(attempt.trajectory.steps[0], thought=Thought(text=text, span=span))
    attempt = replace(attempt, trajectory=replace(attempt.trajectory, steps=(step,)))
    (told,) = by_another_hand(attempt, dialect).trajectory.steps
    assert told.thought.text == "Hence Given are 84 and 68.\n"
    assert told.thought.span.token_ids == (*dialect.encode(told.thought.text), end)
    assert told.action == step.action


def test_the_first_of_several_attempts_that_passes_is_the_actors_own(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, short, long = attempt_of("-"), attempt_of("+"), attempt_of("++")
    monkeypatch.setattr(authors, "_passes", lambda attempt: attempt is not failed)
    assert list(first_passing([(failed, short, long), (failed,), ()]).values()) == [short]


def test_an_actor_that_solves_no_question_itself_is_said_before_anything_is_written(tmp_path, monkeypatch) -> None:
    async def none(*_: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(authors, "_own", none)
    monkeypatch.setattr(authors, "read_dataset", lambda _: [attempt_of("+")])
    config = RunConfig(actor="nano/actor", eval=EvalConfig(samples=4))
    with pytest.raises(UsageError, match="solved 0 of TIRGen's 1 questions by TIRGen's rules with --attempts 4"):
        asyncio.run(write_authors(config, tmp_path / "data.jsonl", tmp_path, *cast(Any, (None, None))))
    assert list(tmp_path.iterdir()) == []


def test_all_of_tirgens_samples_are_reworded_without_any_of_the_actors(tmp_path, monkeypatch) -> None:
    first, second = attempt_of("+"), attempt_of("++")
    monkeypatch.setattr(authors, "read_dataset", lambda _: [first, second])
    write_reworded("nano/actor", tmp_path / "data.jsonl", tmp_path)
    assert len((tmp_path / "reworded-all.jsonl").read_text().splitlines()) == 2


def test_sets_of_equal_tokens_that_would_be_empty_are_refused(tmp_path, monkeypatch) -> None:
    attempt = attempt_of("+")

    async def one(*_: object) -> dict[str, Any]:
        return {attempt.problem.id: attempt}

    monkeypatch.setattr(authors, "_own", one)
    monkeypatch.setattr(authors, "read_dataset", lambda _: [attempt])
    config = RunConfig(actor="nano/actor", eval=EvalConfig(samples=1))
    with pytest.raises(UsageError, match=r"solved 1 of TIRGen's 1 questions .* too few for data sets of equal tokens"):
        asyncio.run(write_authors(config, tmp_path / "data.jsonl", tmp_path, *cast(Any, (None, None))))
    assert list(tmp_path.iterdir()) == []
