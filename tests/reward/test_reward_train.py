"""A reward model from stored trajectories: what is read, how it is split, and that it learns right from wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from called_attempts import attempt_of
from scripted_benchmark import Quiet
from thor_tir.app.stages.opinions import trained_on
from thor_tir.app.stages.reward import train_reward
from thor_tir.engines.reward_model import load_reward_model
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import ProblemSet
from thor_tir.reward.examples import RewardExample, attempt_files, read_examples, split
from thor_tir.reward.train import RewardConfig, auc, figures_of, plan
from thor_tir.rollout.sample_many import Attempt, attempt_to_json
from thor_tir.trajectory import Author, Span
from thor_tir.verdict import Outcome
from tiny_models import tiny_model, tiny_tokenizer


def row(attempt: Attempt, key: str) -> str:
    return json.dumps({"key": key, **attempt_to_json(attempt)}) + "\n"


def test_the_files_of_a_run_are_found_and_its_test_problems_are_left_alone(tmp_path: Path) -> None:
    for name in (
        "tirgen/raw.jsonl",
        "rl/rollouts.jsonl",
        "rl/validation/update-5/attempts/v.jsonl",
        "eval/after-RL/attempts/test.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in attempt_files(tmp_path)]
    assert names == ["rl/rollouts.jsonl", "rl/validation/update-5/attempts/v.jsonl"]
    assert [path.name for path in attempt_files(tmp_path / "tirgen")] == ["raw.jsonl"]
    evaluation = tmp_path / "eval" / "after-RL"
    (evaluation / "manifest.json").write_text("{}")
    assert [path.name for path in attempt_files(evaluation)] == ["test.jsonl"]
    with pytest.raises(UsageError, match="holds no attempts"):
        attempt_files(tmp_path / "eval")


def test_each_verdict_is_a_label_and_what_has_none_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_text(
        row(attempt_of("+-", outcome=Outcome.CORRECT, id="a"), "a")
        + row(attempt_of("+", outcome=Outcome.WRONG, id="b"), "b")
        + row(attempt_of("+", outcome=Outcome.UNSCORED, id="c"), "c")
        + '{"key": "d", "dropped": "EngineFault"}\n{"key": "e", "call": 1}\nno json\n{"key": "torn'
    )
    data = read_examples([path], "outcome")
    assert dict(data.counts) == {"attempts": 2, "unscored": 1, "lost": 1, "damaged": 1}
    assert [e.is_good for e in data.examples] == [True, False]
    assert data.examples[0].token_ids == (7, 1, 1, 1, 1, 1, 1)  # prompt, then thought, program and output of two steps
    steps = read_examples([path], "process").examples
    # The first attempt is right in the end: its first call succeeded and its second failed.
    assert [(len(e.token_ids), e.is_good) for e in steps] == [(4, True), (7, False), (4, False)]


def example(problem: str, *, is_good: bool, ids: tuple[int, ...] = (1, 2)) -> RewardExample:
    return RewardExample(problem_id=problem, token_ids=ids, is_good=is_good)


def test_a_problem_stands_on_one_side_of_the_split_whatever_else_is_there() -> None:
    examples = [example(f"p{n % 40}", is_good=n % 2 == 0 if n < 40 else n % 2 == 1) for n in range(80)]
    trained, held_out = split(examples, 0.25, 0)
    sides = [{e.problem_id for e in side} for side in (trained, held_out)]
    assert sides[0] & sides[1] == set()
    assert len(trained) + len(held_out) == 80
    some = [e for e in examples if e.problem_id in sides[1] or e.problem_id in sorted(sides[0])[:3]]
    assert {e.problem_id for e in split(some, 0.25, 0)[1]} == sides[1]
    assert {e.problem_id for e in split(examples, 0.25, 1)[1]} != sides[1]


def test_examples_of_one_label_are_refused() -> None:
    with pytest.raises(UsageError, match="needs good and bad ones"):
        split([example(f"p{n}", is_good=True) for n in range(20)], 0.5, 0)


def test_the_area_under_the_curve_counts_pairs_over_all_and_within_problems() -> None:
    assert auc([3.0, 1.0], [2.0, 1.0]) == pytest.approx((2 + 0.5) / 4)
    examples = [example("p", is_good=True), example("p", is_good=False), example("q", is_good=False)]
    found = figures_of([1.0, -1.0, 2.0], examples)
    assert (found.auc, found.auc_within, found.problems_within) == (0.5, 1.0, 1)
    assert (found.accuracy, found.good) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_every_epoch_holds_every_example_once_and_orders_are_the_seeds() -> None:
    examples = [example("p", is_good=True, ids=(1,) * (n % 50 + 1)) for n in range(100)]
    config = RewardConfig(batch_tokens=200, num_train_epochs=2)
    steps = plan(examples, config)
    assert sorted(place for batch in steps for place in batch) == sorted([*range(100)] * 2)
    assert steps == plan(examples, config)
    assert steps != plan(examples, replace(config, seed=1))


def marked(problem: int, sample: int) -> Attempt:
    """An attempt that is right where its prompt ends with an even token."""
    attempt = attempt_of("+", outcome=Outcome.CORRECT if sample % 2 == 0 else Outcome.WRONG, id=f"{problem}/{sample}")
    prompt = Span(token_ids=(20 + problem % 7, 40 + sample % 2), author=Author.PROMPT)
    named = replace(attempt.trajectory, prompt=prompt, problem_id=f"p{problem}")
    return replace(attempt, trajectory=named, problem=replace(attempt.problem, id=f"p{problem}"))


def test_a_tiny_model_learns_to_tell_right_from_wrong_and_is_a_selector(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    tiny_model("qwen3").save_pretrained(policy)
    tiny_tokenizer().save_pretrained(policy)
    run = tmp_path / "run"
    run.mkdir()
    rows = [row(marked(problem, sample), f"{problem}/{sample}") for problem in range(40) for sample in range(4)]
    (run / "rollouts.jsonl").write_text("".join(rows))
    config = RewardConfig(num_train_epochs=6, learning_rate=3e-3, batch_tokens=64, held_out=0.3)
    reporter = Quiet()
    train_reward([run], str(policy), config, tmp_path / "reward", reporter)
    about = json.loads((tmp_path / "reward" / "reward.json").read_text())
    assert about["figures"]["held out"]["auc"] > 0.9
    assert about["losses"][-1] < about["losses"][0]
    assert reporter.said[-1].startswith("held out: ")
    # The folder is a reward model, which reads a response in its own tokens.
    model = load_reward_model(str(tmp_path / "reward"), tiny_tokenizer())
    assert model._has_ids
    known = about["problems"][0]
    asked = ProblemSet(
        name="s", title="S", problems=(Problem(id=known, question="?", answer="", source=""),), sha256=""
    )
    place = f"reward:{tmp_path / 'reward'}"
    assert trained_on(place, asked) == f"S: 1 of 1 problems were trained on by {place}"
    assert trained_on(place, replace(asked, problems=())) == ""
    # A finished run is not trained again.
    again = Quiet()
    train_reward([run], str(policy), config, tmp_path / "reward", again)
    assert again.said == [f"{tmp_path / 'reward'} is finished: its figures stand in reward.json"]


def test_trajectories_of_another_model_are_refused(tmp_path: Path) -> None:
    attempt = marked(1, 1)
    foreign = replace(attempt.trajectory, prompt=Span(token_ids=(10**6,), author=Author.PROMPT))
    (tmp_path / "rollouts.jsonl").write_text(row(replace(attempt, trajectory=foreign), "a"))
    with pytest.raises(UsageError, match="give the model that wrote them"):
        train_reward([tmp_path], "nano/actor", RewardConfig(), tmp_path / "reward", Quiet())


def test_a_folder_without_a_head_that_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no reward model"):
        load_reward_model(str(tmp_path), None)
    tiny_model("qwen3").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="no head that scores"):
        load_reward_model(str(tmp_path), None)
