import json

import pytest

from thor_tir.errors import UsageError
from thor_tir.problem import Problem, digest, write_problems
from thor_tir.problems.columns import ProblemFields
from thor_tir.problems.data_set import read_problems
from thor_tir.problems.sources import (
    ProblemChoice,
    Split,
    load_problems,
    normalised,
    reasoning_gym_problems,
    split_of,
)

FAST = ("gcd", "lcm", "chain_sum", "products", "fraction_simplification", "base_conversion", "complex_arithmetic")
ALL = (*FAST, "leg_counting", "simple_geometry", "prime_factorization", "count_bits", "time_intervals")


def test_the_splits_share_no_question_even_between_seeds():
    questions = {
        split: {
            normalised(problem.question)
            for seed in (0, 1)
            for problem in reasoning_gym_problems(FAST, split=split, count=350, seed=seed)
        }
        for split in Split
    }
    assert not questions[Split.TRAIN] & questions[Split.TEST]
    assert not questions[Split.TRAIN] & questions[Split.VALIDATION]
    assert not questions[Split.VALIDATION] & questions[Split.TEST]


def test_the_splits_hold_eight_one_and_one_tenth_of_all_questions():
    owners = [split_of(f"What is {n} + 1?") for n in range(10_000)]
    # Binomial standard deviations are 40 and 30; five of them are allowed.
    assert abs(owners.count(Split.TRAIN) - 8000) < 200
    assert abs(owners.count(Split.VALIDATION) - 1000) < 150
    assert abs(owners.count(Split.TEST) - 1000) < 150


def test_case_and_spacing_do_not_move_a_question_to_another_split():
    for n in range(200):
        assert split_of(f"What is  {n} + 1?\n") is split_of(f"what is {n} + 1?")


def test_every_family_gives_its_equal_share_of_distinct_questions_in_turn():
    problems = reasoning_gym_problems(FAST, split=Split.TRAIN, count=72, seed=3)
    families = [problem.source.removeprefix("reasoning_gym/") for problem in problems]
    # 72 = 10 * 7 + 2, so the first two families give one more.
    assert [families.count(family) for family in FAST] == [11, 11, 10, 10, 10, 10, 10]
    assert tuple(families[:7]) == FAST
    assert len({normalised(problem.question) for problem in problems}) == 72


def test_the_same_seed_gives_the_same_problems_and_more_of_them_begins_with_fewer():
    few, many = (reasoning_gym_problems(ALL, split=Split.TEST, count=count, seed=5) for count in (24, 60))
    assert many[:24] == few
    other = reasoning_gym_problems(ALL, split=Split.TEST, count=60, seed=6)
    # Neighbouring seeds of the library itself share all but one item.
    assert len({problem.id for problem in other} & {problem.id for problem in many}) < 10


def test_an_id_is_the_family_and_a_digest_of_the_question():
    (problem,) = reasoning_gym_problems(["gcd"], split=Split.TRAIN, count=1, seed=0)
    assert problem.id == f"gcd-{digest(problem.question.casefold())}"


def test_a_clock_reading_never_enters_a_problem():
    from datetime import date

    problems = reasoning_gym_problems({"time_intervals": {"task_types": ["time"]}}, split=Split.TRAIN, count=20, seed=0)
    assert str(date.today()) not in json.dumps([dict(problem.extra) for problem in problems])


def test_problems_survive_the_disk_unchanged(tmp_path):
    problems = reasoning_gym_problems(ALL, split=Split.VALIDATION, count=36, seed=0)
    write_problems(tmp_path / "set.jsonl", problems)
    assert read_problems(tmp_path / "set.jsonl") == problems


def test_a_family_with_too_few_questions_says_how_many_there_are():
    # Two numbers from 1 to 2 make exactly the four questions (1,1), (1,2), (2,1), (2,2).
    config = {"gcd": {"min_value": 1, "max_value": 2}}
    numbers = [f"{a}, {b}" for a in (1, 2) for b in (1, 2)]
    text = "Find the Greatest Common Divisor (GCD) of these numbers: {}. Give only the GCD as your final answer."
    in_train = sum(split_of(text.format(pair)) is Split.TRAIN for pair in numbers)
    with pytest.raises(UsageError, match=f"only about {in_train} distinct questions in its train split"):
        reasoning_gym_problems(config, split=Split.TRAIN, count=5, seed=0)
    assert len(reasoning_gym_problems(config, split=Split.TRAIN, count=in_train, seed=0)) == in_train


@pytest.mark.parametrize(
    ("families", "message"),
    [
        (["gdc"], r"unknown reasoning_gym family 'gdc'; did you mean 'gcd'\? known: .*lcm"),
        ({"gcd": {"max_valeu": 9}}, "'gcd' does not accept the options.*max_valeu"),
        ({"gcd": {"min_value": 0}}, "'gcd' does not accept the options.*min_value must be positive"),
        ([], "no families named"),
    ],
)
def test_a_wrong_family_or_option_is_named_in_the_error(families, message):
    with pytest.raises(UsageError, match=message):
        reasoning_gym_problems(families, split=Split.TRAIN, count=1, seed=0)


def test_a_spec_of_families_uses_the_options_given_for_them():
    config = {"products": {"min_terms": 3, "max_terms": 3}}
    problems = load_problems("reasoning_gym:products,gcd", count=10, seed=1, configs=config).problems
    assert list(problems) == reasoning_gym_problems({**config, "gcd": {}}, split=Split.TRAIN, count=10, seed=1)
    assert all(problem.question.count("*") == 2 for problem in problems[::2])
    assert load_problems("reasoning_gym", count=3, configs=config) == load_problems(
        "reasoning_gym:products", count=3, configs=config
    )


def test_a_spec_may_be_a_file_of_which_the_first_are_taken_or_some_are_drawn_by_the_seed(tmp_path):
    problems = tuple(Problem(id=str(n), question=f"{n}+{n}?", answer=str(2 * n), source="mine") for n in range(40))
    write_problems(tmp_path / "mine.jsonl", problems)
    spec = str(tmp_path / "mine.jsonl")
    assert load_problems(spec).problems == load_problems(spec, count=40).problems == problems
    first = load_problems(spec, count=5, choice=ProblemChoice(first=3))
    assert (first.problems, first.left_out) == (problems[:3], ("the first 3 of 40 problems are used",))
    few, more, other = (load_problems(spec, count=count, seed=seed) for count, seed in ((8, 0), (12, 0), (8, 1)))
    assert few.left_out == ("8 of 40 problems are drawn by the seed; --count takes more, --first the first",)
    assert all(problem in more.problems for problem in few.problems)
    assert few.problems not in (problems[:8], other.problems)
    assert few.problems == tuple(p for p in problems if p in few.problems)


@pytest.mark.parametrize(
    ("spec", "count", "message"),
    [
        ("nowhere.jsonl", 1, "no problems at 'nowhere.jsonl': expected a file or folder of JSONL"),
        ("reasoning_gym:gcd", None, "say how many"),
        ("reasoning_gym:", 3, "names no families"),
        ("reasoning_gym:gcd", 0, "at least one"),
    ],
)
def test_a_spec_that_names_nothing_is_refused_with_an_example(spec, count, message):
    with pytest.raises(UsageError, match=message):
        load_problems(spec, count=count)


def test_columns_for_generated_problems_are_refused():
    with pytest.raises(UsageError, match="columns are named for a data set of one's own, and reasoning_gym:gcd is"):
        load_problems("reasoning_gym:gcd", count=1, fields=ProblemFields(question_field="q"))
