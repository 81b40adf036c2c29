import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thor_tir.errors import GraderUnavailable
from thor_tir.grading.grader import Grader
from thor_tir.grading.types import GradingRoute as Way
from thor_tir.grading.types import pair
from thor_tir.grading.workers.process import GraderLimits
from thor_tir.problem import Problem
from thor_tir.problems.sources import Split, reasoning_gym_problems
from thor_tir.verdict import Outcome, Strictness

CASES = Path(__file__).resolve().parents[3] / "shared" / "data" / "grader"
FAMILIES = (
    "gcd",
    "lcm",
    "chain_sum",
    "products",
    "fraction_simplification",
    "base_conversion",
    "complex_arithmetic",
    "simple_equations",
    "leg_counting",
    "simple_geometry",
    "prime_factorization",
    "count_bits",
    "polynomial_multiplication",
    "time_intervals",
)
TOO_COSTLY = "10^{10^{10^{10}}}"


def problem(answer: str, *, source: str = "test") -> Problem:
    return Problem(id=answer, question="?", answer=answer, source=source)


def boxed(answer: str) -> str:
    return rf"I think it is \boxed{{{answer}}}."


@pytest.fixture(scope="module")
def runner():
    """One event loop for the whole file, so that its tests can share a grading process: starting one takes seconds."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def grader(runner):
    grader = Grader()
    yield grader
    runner.run(grader.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def hasty_grader(runner):
    grader = Grader(GraderLimits(timeout_s=2.0, memory_bytes=2**29))
    yield grader
    runner.run(grader.__aexit__(None, None, None))


async def outcomes(grader: Grader, *pairs: tuple[str, str]) -> list[Outcome]:
    """Of (reference, answer) pairs, in order."""
    return [(await grader.grade(problem(gold), boxed(answer))).outcome for gold, answer in pairs]


async def by_scorer(grader: Grader, asked: Problem) -> Outcome:
    """What the scorer says of its own reference, which the quick rules would recognise if it came alone."""
    future = grader.pool.submit(
        {
            "kind": "gym",
            "family": asked.source.partition("/")[2],
            "answer": asked.answer,
            "entry": {"question": asked.question, "answer": asked.answer, "metadata": {}, **asked.extra},
        }
    )
    return (await asyncio.wrap_future(future)).outcome


def rows(name: str) -> list[dict]:
    path = CASES / name
    if not path.is_file():
        pytest.skip(f"{name} is kept beside the checkout and is not there")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_algebra_is_judged_by_another_process(runner, grader):
    equal = [
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
        ("(x+1)^2", "x^2+2x+1"),
        ("12", r"12\text{ cm}"),
        (r"\{1, 2\}", r"\{2, 1\}"),
    ]
    unequal = [(r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{2}}"), ("(1, 2)", "(2, 1)"), ("x+1", "")]
    assert runner.run(outcomes(grader, *equal)) == [Outcome.CORRECT] * len(equal)
    assert runner.run(outcomes(grader, *unequal)) == [Outcome.WRONG] * len(unequal)


def test_no_box_is_wrong_and_an_unreadable_reference_is_unscored(runner, grader):
    unboxed = runner.run(grader.grade(problem("12"), "the answer is 12"))
    assert (unboxed.outcome, unboxed.extracted) == (Outcome.WRONG, None)
    unreadable = runner.run(grader.grade(problem("}{"), boxed("x+1")))
    assert (unreadable.outcome, unreadable.extracted) == (Outcome.UNSCORED, "x+1")


def build(row: dict) -> str:
    """The hostile answer, which its row describes where it is too long to write."""
    return {
        "long_integer": "7" * 100_000,
        "deep_nesting": "(" * 5000 + "2" + ")" * 5000,
        "boxed_flood": r"\boxed{" * 2000,
    }.get(row["name"], row["pred"])


def test_hostile_answers_get_a_verdict_that_is_never_correct(runner, hasty_grader):
    hostile = rows("hostile_dev.jsonl")
    judged = runner.run(outcomes(hasty_grader, *((row["gold"], build(row)) for row in hostile)))
    assert [row["name"] for row, outcome in zip(hostile, judged, strict=True) if outcome is Outcome.CORRECT] == []


def test_every_reference_of_reasoning_gym_is_accepted_by_its_own_scorer_and_no_other_answer_is(runner, grader):
    problems = reasoning_gym_problems(FAMILIES, split=Split.TRAIN, count=20 * len(FAMILIES), seed=11)
    neighbours = problems[len(FAMILIES) :] + problems[: len(FAMILIES)]  # the next problem of the same family

    async def check() -> None:
        for ours, theirs in zip(problems, neighbours, strict=True):
            assert (await grader.grade(ours, boxed(f" {ours.answer} "))).outcome is Outcome.CORRECT, ours
            # Above, the reference was recognised letter for letter; here its scorer is asked.
            assert await by_scorer(grader, ours) is Outcome.CORRECT, ours
            other = (await grader.grade(ours, boxed(theirs.answer))).outcome
            assert other is (Outcome.CORRECT if theirs.answer == ours.answer else Outcome.WRONG), (ours, theirs)

    runner.run(check())


def test_a_gym_scorer_judges_form_and_value_and_is_not_given_programs(runner, grader):
    fraction, polynomial = reasoning_gym_problems(
        {"fraction_simplification": {"styles": ("plain",)}, "polynomial_multiplication": {}},
        split=Split.TRAIN,
        count=2,
        seed=0,
    )
    above, below = fraction.answer.split("/")
    expected = [
        (fraction, f"{2 * int(above)}/{2 * int(below)}", Outcome.WRONG),  # the right value, not simplified
        (polynomial, f"0 + {polynomial.answer}", Outcome.CORRECT),
        (polynomial, "not a polynomial", Outcome.WRONG),
        (polynomial, f"eval('{polynomial.answer}')", Outcome.WRONG),
    ]
    for asked, answer, outcome in expected:
        assert runner.run(grader.grade(asked, boxed(answer))).outcome is outcome, answer


def test_the_answer_is_to_blame_for_a_comparison_without_end_and_the_next_answer_is_judged(runner, hasty_grader):
    blamed, next_one = runner.run(outcomes(hasty_grader, ("x+1", TOO_COSTLY), ("(x+1)^2", "x^2+2x+1")))
    assert (blamed, next_one) == (Outcome.WRONG, Outcome.CORRECT)


def test_many_attempts_at_one_problem_share_one_comparison(runner, grader):
    before = grader.stats

    async def judge_group() -> list[Outcome]:
        return await asyncio.gather(*(outcome(grader, "(y+1)^2", "y^2+2y+1") for _ in range(8)))

    assert runner.run(judge_group()) == [Outcome.CORRECT] * 8
    spent = {way: grader.stats[way].count - before[way].count for way in Way}
    assert (spent[Way.ALGEBRA], spent[Way.CACHED]) == (1, 7)


async def outcome(grader: Grader, reference: str, answer: str) -> Outcome:
    return (await grader.grade_answer(reference, answer)).outcome


def test_a_batch_keeps_its_order_and_says_how_each_verdict_came_about(runner, grader):
    graded = runner.run(grader.grade_batch([pair("3", "3"), pair("z+1", "1+z"), pair("3", "4"), pair("z+1", "z+2")]))
    assert [g.verdict.outcome for g in graded] == [Outcome.CORRECT, Outcome.CORRECT, Outcome.WRONG, Outcome.WRONG]
    assert [g.path for g in graded] == [Way.QUICK, Way.ALGEBRA, Way.QUICK, Way.ALGEBRA]


def test_a_cancelled_request_does_not_leave_its_reply_to_the_next(runner, grader):
    async def cancel_then_grade() -> Outcome:
        request = asyncio.create_task(outcome(grader, "x+5", "5+x"))  # its reply would be CORRECT
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        return await outcome(grader, "x+5", "x+6")

    assert runner.run(cancel_then_grade()) is Outcome.WRONG


def test_one_grader_serves_one_event_loop_after_another(grader):
    assert [asyncio.run(outcome(grader, "w+1", answer)) for answer in ("1+w", "w+2")] == [
        Outcome.CORRECT,
        Outcome.WRONG,
    ]


def test_one_grader_serves_several_event_loops_at_once(grader):
    async def both(name):
        return await asyncio.gather(
            *(grader.grade_answer(f"{name}+1", answer) for answer in (f"1+{name}", f"{name}+2"))
        )

    with ThreadPoolExecutor(4) as threads:
        verdicts = list(threads.map(lambda name: asyncio.run(both(name)), "hkmnpqrs"))
    assert [[v.outcome for v in pair] for pair in verdicts] == [[Outcome.CORRECT, Outcome.WRONG]] * 8


def test_a_strict_grader_takes_no_judge():
    class Flattered:
        def outcome(self, question: str, reference: str, answer: str) -> tuple[Outcome, str]:
            return Outcome.CORRECT, "a nice answer"

    with pytest.raises(ValueError, match="strict grading takes none"):
        Grader(judge=Flattered())
    lenient = Grader(judge=Flattered(), strictness=Strictness.LENIENT)
    assert lenient.strictness is Strictness.LENIENT


def test_a_grading_process_that_cannot_start_is_a_fault_of_the_machine(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nonexistent/python")

    async def grade() -> None:
        async with Grader() as grader:
            await grader.grade(problem("x+1"), boxed("1+x"))

    with pytest.raises(GraderUnavailable, match="cannot be started"):
        asyncio.run(grade())


def test_a_grading_process_that_dies_at_once_says_why(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")

    async def grade() -> None:
        async with Grader() as grader:
            await grader.grade(problem("x+1"), boxed("1+x"))

    with pytest.raises(GraderUnavailable, match="does not start: died without a reply"):
        asyncio.run(grade())
