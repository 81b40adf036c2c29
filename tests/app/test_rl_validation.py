"""Validation during RL: on questions that are never trained on, by the one evaluation, and never done twice."""

import asyncio
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from scripted_agent import FakeSandbox
from thor_tir.app.config import NANO_TOKENS, ResourceConfig, RunConfig, quickstart
from thor_tir.app.runtime import LoadedModel, Runtime
from thor_tir.app.stages.rl import problems_of, validate_version, validation_run
from thor_tir.console import ConsoleReporter
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.problem import Problem, write_problems
from thor_tir.problems.columns import ProblemFields
from thor_tir.problems.sources import Split, bare_question, held_out, normalised, split_of
from thor_tir.rl.collect import _requests, problems_of_round
from thor_tir.verdict import Outcome, Verdict
from tiny_models import tiny_tokenizer


def problem(number: int, text: str = "What is {} + 1?") -> Problem:
    return Problem(id=f"p{number}", question=text.format(number), answer=str(number + 1), source="own")


MANY = [problem(number) for number in range(200)]


def config_of(problems: Path | str, *, count: int = 6000, **rl: object) -> RunConfig:
    nano = quickstart()
    return replace(nano, problems=str(problems), num_rl=count, rl=replace(nano.rl, **rl))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    write_problems(tmp_path / "own.jsonl", MANY)
    return tmp_path / "own.jsonl"


def questions(problems) -> set[str]:
    return {normalised(p.question) for p in problems}


@pytest.mark.parametrize("most", [1, 5, 12, 96, 500])
def test_no_question_of_a_file_is_both_trained_on_and_validated_on(own, most):
    found = problems_of(config_of(own, validate_every=1, num_validation=most))
    assert not questions(found.train.problems) & questions(found.validation.problems)
    assert len(found.train.problems) + len(found.validation.problems) == len(MANY)
    # of 200 questions about a tenth may be held out, and no more than were asked for
    assert 1 <= len(found.validation.problems) <= min(most, 40)
    assert all(split_of(p.question) is Split.VALIDATION for p in found.validation.problems)
    assert f"held out of {own} by a digest of the question" in found.remark
    assert found.validation.notes[0] in found.remark


def test_the_order_of_a_file_and_the_seed_move_no_problem_into_training(own, tmp_path):
    write_problems(tmp_path / "other.jsonl", MANY[::-1])
    nano = config_of(own, validate_every=1)
    found = [
        problems_of(nano),
        problems_of(replace(nano, problems=str(tmp_path / "other.jsonl"))),
        problems_of(replace(nano, seed=7, rl=replace(nano.rl, seed=7))),
    ]
    assert len({tuple(p.id for p in each.validation.problems) for each in found}) == 1


def test_a_question_that_stands_twice_in_other_spacing_is_in_one_part_alone():
    twice = [p for n in range(100) for p in (problem(n), replace(problem(n, "what IS  {} + 1?"), id=f"again{n}"))]
    train, kept = held_out(twice, 50)
    assert kept
    assert not questions(train) & questions(kept)
    assert len(questions(kept)) == len(kept)


SAME = (
    "Compute {}+1.",
    "Compute {} + 1.",
    "compute {}+1",
    "Compute ${}+1$?",
    "**Compute** {}+1",
    "Compute\u200b \\({}+1\\)",
)


def test_the_same_question_in_another_dress_is_in_one_part_alone():
    dressed = [
        replace(problem(n), question=text.format(n), id=f"{n}/{k}") for n in range(200) for k, text in enumerate(SAME)
    ]
    train, kept = held_out(dressed, 400)
    assert kept
    assert not {bare_question(p.question) for p in train} & {bare_question(p.question) for p in kept}
    assert len({bare_question(text.format(7)) for text in SAME}) == 1


@pytest.mark.parametrize("terms", ["3-1", "31", "3*1", "3**1", "-3+1", "3.1"])
def test_another_number_or_operation_is_another_question(terms):
    assert bare_question(f"Compute {terms}.") != bare_question("Compute 3+1.")


def test_the_count_of_training_problems_leaves_the_held_out_part_alone(own):
    few, all_of_them = (problems_of(config_of(own, count=count, validate_every=1)) for count in (10, 6000))
    assert len(few.train.problems) == 10
    assert few.validation == all_of_them.validation


@pytest.mark.parametrize("shared", [0, 1, 30])
def test_problems_of_a_file_for_validation_are_not_trained_on(own, tmp_path, shared):
    others = [problem(number, "How much is {} + 1?") for number in range(300, 305)]
    write_problems(tmp_path / "dev.jsonl", [*others, *MANY[:shared]])
    found = problems_of(config_of(own, validate_every=1, validation_problems=str(tmp_path / "dev.jsonl")))
    assert len(found.validation.problems) == 5 + shared
    assert len(found.train.problems) == 200 - shared
    assert not questions(found.train.problems) & questions(found.validation.problems)
    assert (f"{shared} that were also in" in found.remark) == (shared > 0)


def test_columns_that_are_named_are_looked_for_in_the_file_of_validation_by_other_names_too(tmp_path):
    (tmp_path / "train.csv").write_text("frage,antwort\n1 + 1?,2\n2 + 2?,4\n")
    (tmp_path / "dev.csv").write_text("question,answer\n3 + 3?,6\n")
    fields = ProblemFields(question_field="frage", answer_field="antwort")
    run = config_of(tmp_path / "train.csv", validate_every=1, validation_problems=str(tmp_path / "dev.csv"))
    found = problems_of(replace(run, fields=fields))
    assert [p.answer for p in found.train.problems] == ["2", "4"]
    assert found.train.taken == "questions from `frage`, answers from `antwort`"
    assert [p.answer for p in found.validation.problems] == ["6"]
    assert "questions from `question`, answers from `answer`" in found.remark


def test_a_file_with_nothing_to_hold_out_gives_no_curve_and_says_so(tmp_path):
    few = [p for p in MANY if split_of(p.question) is not Split.VALIDATION][:8]
    write_problems(tmp_path / "few.jsonl", few)
    found = problems_of(config_of(tmp_path / "few.jsonl", validate_every=1))
    assert (found.validation, len(found.train.problems)) == (None, 8)
    assert found.remark.startswith("no validation: none of the 8 problems")


def test_a_file_of_held_out_questions_alone_leaves_nothing_to_train_on(tmp_path):
    write_problems(tmp_path / "dev.jsonl", [p for p in MANY if split_of(p.question) is Split.VALIDATION])
    with pytest.raises(UsageError, match=r"every problem of .* is one of validation too"):
        problems_of(config_of(tmp_path / "dev.jsonl", validate_every=1))


def test_without_validation_every_problem_is_trained_on(own):
    found = problems_of(config_of(own, validate_every=0))
    assert (len(found.train.problems), found.validation) == (200, None)


def test_generated_problems_are_validated_on_a_split_of_their_own():
    found = problems_of(config_of("reasoning_gym:gcd,lcm", count=40, validate_every=1, num_validation=10))
    assert (len(found.train.problems), len(found.validation.problems)) == (40, 10)
    assert {split_of(p.question) for p in found.validation.problems} == {Split.VALIDATION}
    assert {split_of(p.question) for p in found.train.problems} == {Split.TRAIN}


def test_one_seed_moves_order_and_samples_of_a_file(own):
    zero, seven = (config_of(own, validate_every=0, seed=seed).rl for seed in (0, 7))
    ours, theirs = (
        _requests(problems_of_round(MANY, 0, config), config, number=0, first=0) for config in (zero, seven)
    )
    assert [g[0].problem.id for g in ours] != [g[0].problem.id for g in theirs]
    assert not {r.seed for g in ours for r in g} & {r.seed for g in theirs for r in g}
    assert quickstart(seed=7).eval.seed == quickstart(seed=7).rl.seed == 7


ASKED = MANY[:6]


def says(right: set[str]) -> ScriptedPolicy:
    replies = {p.question: [f"So \\boxed{{{p.answer if p.id in right else 0}}}."] for p in ASKED}
    return ScriptedPolicy(tiny_tokenizer(), replies)


class _Grader:
    async def grade(self, problem: Problem, text: str) -> Verdict:
        is_right = f"{{{problem.answer}}}" in text
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, extracted=text, reason="")


def validated(folder: Path, policy: ScriptedPolicy, version: int, **rl):
    config = config_of("own", validate_every=1, **rl)
    problems = SimpleNamespace(problems=tuple(ASKED))
    from thor_tir.problems.benchmarks import ProblemSet

    asked = ProblemSet(name="validation", title="validation", problems=problems.problems, sha256="0", notes=("own",))
    sandbox = FakeSandbox()
    sandbox.level = "none"
    runtime = Runtime(ResourceConfig(), sandbox, _Grader())
    loaded = LoadedModel(policy=policy, tokenizer=tiny_tokenizer(), model=None, about=dict)
    said = StringIO()
    reporter = ConsoleReporter(Console(file=said, width=200))
    run_of = lambda version: validation_run(config, "model", asked, folder, version)  # noqa: E731
    return asyncio.run(validate_version(run_of, loaded, runtime, reporter, version))


def test_a_validation_is_an_evaluation_with_its_folder_and_its_interval(tmp_path):
    found = validated(tmp_path, says({"p0", "p1", "p2"}), 5)
    assert (found.accuracy, found.num_problems, found.num_lost) == (0.5, 6, 0)
    folder = EvalFolder(path=tmp_path / "update-5")
    results = json.loads((folder.path / "results.json").read_text())
    assert results["sets"][0]["avg"]["value"] == 0.5
    assert found.ci95 == tuple(results["sets"][0]["avg"]["ci95"])
    assert folder.manifest["rollout"]["max_completion_length"] == NANO_TOKENS
    assert folder.manifest["rollout"]["temperature"] == 0.6
    assert folder.manifest["sets"][0]["notes"] == ["own"]


def test_a_validation_measures_the_rewards_that_the_run_names_beside_the_accuracy(tmp_path):
    found = validated(tmp_path, says({"p0", "p1", "p2"}), 5, reward=("exact", "boxed=0.25"))
    # half of the answers are right, and all are found
    assert (found.accuracy, found.reward) == (0.5, 0.75)
    assert found.sentence(1).endswith("of 6 problems, reward 0.75")
    assert found.as_json()["validation_reward"] == 0.75
    assert validated(tmp_path / "other", says({"p0"}), 5).reward is None


@pytest.mark.parametrize("done", [0, 1, 3, 5, 6])
def test_a_validation_that_was_killed_asks_only_what_is_missing(tmp_path, done):
    whole = validated(tmp_path / "whole", says({"p0", "p4"}), 1)
    validated(tmp_path / "killed", says({"p0", "p4"}), 1)
    attempts = tmp_path / "killed" / "update-1" / "attempts" / "validation.jsonl"
    lines = attempts.read_text().splitlines(keepends=True)
    attempts.write_text("".join(lines[:done]) + '{"torn')
    (tmp_path / "killed" / "update-1" / "results.json").unlink()
    policy = says({"p0", "p4"})
    assert validated(tmp_path / "killed", policy, 1) == whole
    assert len(policy.asked) == 6 - done


@pytest.mark.parametrize(("right", "low", "high"), [(set(), 0.0, None), ({p.id for p in ASKED}, None, 1.0)])
def test_an_accuracy_of_nothing_or_everything_has_an_interval_with_a_width(tmp_path, right, low, high):
    found = validated(tmp_path, says(right), 1)
    assert found.ci95[1] - found.ci95[0] > 0.2
    assert low is None or found.ci95[0] == pytest.approx(low, abs=1e-9)
    assert high is None or found.ci95[1] == pytest.approx(high, abs=1e-9)


def test_questions_that_are_named_for_validation_are_not_trained_on_by_a_run_that_never_validates(own, tmp_path):
    write_problems(tmp_path / "apart.jsonl", MANY[:150])
    config = config_of(own, validate_every=0, num_validation=5, validation_problems=str(tmp_path / "apart.jsonl"))
    found = problems_of(config)
    assert questions(found.train.problems) == questions(MANY[150:])
    assert "150 problems of" in found.remark
    with pytest.raises(UsageError, match="every problem of"):
        problems_of(config_of(own, validate_every=0, validation_problems=str(own)))
