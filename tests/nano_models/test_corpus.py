"""What the nano models read: decided by the seed alone, from given problems alone, trained where it can be known."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from random import Random

import pytest

from nano_models.corpus import (
    NOTHING_TO_COMPUTE,
    Document,
    MixtureConfig,
    actor_documents,
    critic_documents,
    thinker_documents,
)
from nano_models.worked import work
from thor_tir.dialect.fences import first_block
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS, TOOLS
from thor_tir.problem import Problem
from thor_tir.problems.sources import NANO_FAMILIES, Split, reasoning_gym_problems
from worked_cases import FAMILIES, problems_of

Documents = Callable[[Sequence[Problem], Random, MixtureConfig], Iterator[Document]]

PROBLEMS = [problem for family in FAMILIES for problem in problems_of(family)]
BY_ROLE = pytest.mark.parametrize(
    "documents", [actor_documents, critic_documents, thinker_documents], ids=["actor", "critic", "thinker"]
)
NUMBER = re.compile(r"\d+")
CALCULATION = re.compile(r"(\d+) ([-+*]) (\d+)( =|\. This is)")


def read(documents: Documents, *, seed: int = 0, count: int = 600, **mixture: float) -> list[Document]:
    return list(islice(documents(PROBLEMS, Random(seed), MixtureConfig(**mixture)), count))


@BY_ROLE
def test_the_seed_alone_decides_what_is_read(documents: Documents) -> None:
    assert read(documents, seed=1) == read(documents, seed=1)
    assert read(documents, seed=1) != read(documents, seed=2)


@BY_ROLE
def test_no_number_to_factorise_of_another_split_is_ever_read(documents: Documents) -> None:
    """A small family on purpose: of 3000 numbers, 300 held out and 1500 trained on, many would meet by chance."""
    family = {"prime_factorization": NANO_FAMILIES["prime_factorization"]}
    train, *others = (
        reasoning_gym_problems(family, split=split, count=count, seed=0)
        for split, count in ((Split.TRAIN, 1500), (Split.VALIDATION, 150), (Split.TEST, 150))
    )
    held_out = {problem.extra["metadata"]["number"] for problems in others for problem in problems}
    assert len(held_out) == 300
    stream = islice(documents(train, Random(0), MixtureConfig(drills=0.0)), 2000)
    asked = [int(NUMBER.findall(d.request)[0]) for d in stream if "\\boxed" not in d.request]  # an answer asks nothing
    assert len(asked) > 1500
    assert held_out.isdisjoint(asked)


def test_a_request_is_a_given_question_or_its_beginning() -> None:
    questions = [problem.question.strip() for problem in PROBLEMS]
    for document in read(actor_documents, drills=0.0):
        assert any(question.startswith(document.request) for question in questions), document.request


def test_a_drill_trains_only_what_follows_from_its_untrained_half() -> None:
    lines = [line for document in read(actor_documents, drills=1.0) for line in pairs(document)]
    seen = {what_follows(given)[0] for given, _ in lines}
    assert seen == {"calculation", "copy", "look-up"}
    assert [(given, trained) for given, trained in lines if what_follows(given)[1] != trained] == []


def pairs(document: Document) -> list[tuple[str, str]]:
    """The lines of a drill as (untrained half, trained half)."""
    assert document.style is None
    assert [trained for _, trained in document.pieces] == [False, True] * (len(document.pieces) // 2)
    texts = [text for text, _ in document.pieces]
    return [(given, follows.strip()) for given, follows in zip(texts[::2], texts[1::2], strict=True)]


def what_follows(given: str) -> tuple[str, str]:
    """The kind of a drill's line, and the only thing that can come next; worked out here from the text alone."""
    if found := CALCULATION.fullmatch(given):
        a, sign, b = int(found[1]), found[2], int(found[3])
        return "calculation", str({"+": a + b, "-": a - b, "*": a * b}[sign])
    if found := re.fullmatch(r"(.*): ([a-z]) =", given):
        return "look-up", dict(pair.split(" = ") for pair in found[1].split(", "))[found[2]]
    return "copy", given.removesuffix(":")


def test_what_the_sandbox_writes_is_never_trained_and_all_else_of_a_solution_is() -> None:
    pieces = [piece for document in read(actor_documents, drills=0.0) for piece in document.pieces]
    assert {text.startswith("```output\n") for text, trained in pieces if not trained} == {True}
    assert {text.startswith("```output\n") for text, trained in pieces if trained} == {False}


def programs_of(problem: Problem) -> dict[str, str]:
    """Every program that the problem's solutions may hold, with what it shows."""
    family = problem.source.removeprefix("reasoning_gym/")
    solutions = [work(family, problem.extra["metadata"], problem.answer, Random(seed)) for seed in range(8)]
    steps = [step for worked in solutions for step in worked.steps]
    return {program.code: program.shown for step in steps for program in (*step.programs, *step.careless)}


def test_programs_are_cut_out_of_documents_as_they_were_written_with_their_own_output_after_them() -> None:
    documents = [d for d in read(actor_documents, drills=0.0, tools=1.0, short_question=0.0) if d.style == TOOLS]
    known = {problem.question.strip(): problem for problem in PROBLEMS}
    num_programs = 0
    for document in documents[:120]:
        shown = programs_of(known[document.request])
        texts = [text for text, _ in document.pieces]
        for call, output in pairwise(texts):
            if block := first_block(call):
                text = shown[block.code.removesuffix("\n")]
                assert output == f"```output\n{text}\n```\n"
                num_programs += 1
    assert num_programs > 60  # about one a document: half of the steps


@pytest.mark.parametrize(("careless", "fails"), [(0.0, False), (1.0, True)])
def test_the_share_of_careless_programs_is_the_mixtures(careless: float, fails: bool) -> None:
    mixture = {"drills": 0.0, "tools": 1.0, "program": 1.0, "careless": careless}
    documents = read(actor_documents, count=100, **mixture)
    assert {any("The program failed" in text for text, _ in d.pieces) for d in documents} == {fails}


def test_every_solution_ends_with_its_boxed_answer() -> None:
    answers = {problem.answer for problem in PROBLEMS}
    for document in read(actor_documents, drills=0.0):
        last, trained = document.pieces[-1]
        found = re.search(r"\\boxed\{(.*)\}\.$", last)
        assert trained
        assert found is not None
        assert found[1] in answers


def test_the_shares_of_the_actors_reading_are_the_mixtures() -> None:
    styles = [document.style for document in read(actor_documents, count=2000)]
    # Defaults: a quarter drills, a fifth tools, the rest words. 2000 draws: four standard errors are below 0.045.
    assert styles.count(None) / 2000 == pytest.approx(0.25, abs=0.045)
    assert styles.count(TOOLS) / 2000 == pytest.approx(0.20, abs=0.045)
    assert styles.count(NO_TOOLS) / 2000 == pytest.approx(0.55, abs=0.045)


def test_the_critic_keeps_the_logic_drops_the_result_and_writes_one_program() -> None:
    rewritten = [d for d in read(critic_documents, drills=0.0) if d.pieces[0][0] != NOTHING_TO_COMPUTE]
    assert len(rewritten) > 300
    for document in rewritten:
        ((text, trained),) = document.pieces
        block = first_block(text)
        assert document.style == CRITIC
        assert trained
        assert block is not None
        logic = text[: block.start].strip("\n")
        assert document.request.startswith(f"{logic} ")  # after it only the claim, which is gone


def test_the_critic_leaves_final_answers_alone() -> None:
    finals = [d for d in read(critic_documents, drills=0.0, count=2000) if "\\boxed" in d.request]
    assert len(finals) > 50
    assert {d.pieces for d in finals} == {((NOTHING_TO_COMPUTE, True),)}


def test_a_thinker_ends_its_thoughts_once_and_answers_behind_them() -> None:
    """The template opens the thoughts, so the text begins within them."""
    documents = [d for d in read(thinker_documents, count=300) if d.style is not None]
    for document in documents:
        text = "".join(text for text, _ in document.pieces)
        thoughts, answer = text.split("</think>")
        assert "<think>" not in text
        assert "\\boxed{" in answer
        assert "\\boxed{" not in thoughts
        assert first_block(answer) is None


def test_a_doubt_ends_in_the_step_as_it_was_worked() -> None:
    """What stands last of a step that was doubted is the careful version: every doubt is resolved."""
    doubts = ("Wait, I work it once more. ", "Is that right? Again: ", "Let me check. ")
    texts = ["".join(t for t, _ in d.pieces) for d in read(thinker_documents, count=400, drills=0.0, doubt=1.0)]
    assert sum(any(doubt in text for doubt in doubts) for text in texts) > 300
    for text in texts:
        for doubt in doubts:
            assert not text.partition("</think>")[0].rstrip().endswith(doubt.rstrip())
