"""The training loop: what is trained when, and that a killed run ends where an uninterrupted one does."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from thor_tir.errors import SandboxUnavailable, UsageError
from thor_tir.execution import ExecutionResult
from thor_tir.learner.checkpoint import CheckpointWriter
from thor_tir.learner.learner import Learner
from thor_tir.progress import Unseen
from thor_tir.rl.collect import problems_of_round
from thor_tir.rl.config import EpisodeConfig, LossConfig, RLConfig, StepConfig
from thor_tir.rl.figures import Validation
from thor_tir.rollout.loop import RolloutConfig
from told_sandbox import ToldSandbox
from toy_task import BREAKS, LIMITS, OTHER, PROBLEMS, PROGRAMS, RIGHT, primed_model, run

CONFIG = RLConfig(
    num_rounds=2,
    problems_per_round=3,
    updates_per_round=2,
    rollout=LIMITS,
    episode=EpisodeConfig(num_generations=6),
    step=StepConfig(num_generations=4, suffix_tokens=4),
    learning_rate=5e-4,
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package may catch it."""


class Fuse:
    """Kills at the given call."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class FusedSandbox(ToldSandbox):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__(PROGRAMS)
        self.fuse = fuse

    async def run(self, code, limits=None) -> ExecutionResult:
        self.fuse.burn()
        return await super().run(code, limits)


class FusedProgress(Unseen):
    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse

    def advance(self, units: int = 1) -> None:
        self.fuse.burn()

    def log(self, line: str, brief: str = "") -> None:
        assert line.startswith("round ")


def model():
    return primed_model(RIGHT, OTHER, BREAKS)


def finish(folder: Path, config: RLConfig = CONFIG) -> dict[str, torch.Tensor]:
    trained = model()
    run(trained, config, folder)
    return trained.state_dict()


def kill(folder: Path, config: RLConfig = CONFIG, **fields) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - asked about below
        run(model(), config, folder, **fields)
    error = caught.value
    assert isinstance(error, Killed) or error.subgroup(Killed) is not None, repr(error)


def kill_at_program(folder: Path, number: int) -> None:
    kill(folder, sandbox=FusedSandbox(Fuse(number)))


def kill_after_round(folder: Path, number: int) -> None:
    kill(folder, progress=FusedProgress(Fuse(number)))


def kill_before_checkpoint(folder: Path, number: int) -> None:
    fuse, save = Fuse(number), CheckpointWriter.save

    def fused(*args, **kwargs):
        fuse.burn()
        return save(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointWriter, "save", fused)
        kill(folder)


def kill_before_update(folder: Path, number: int, config: RLConfig = CONFIG) -> None:
    fuse, step = Fuse(number), Learner.step

    def fused(learner: Learner, rows):
        fuse.burn()
        return step(learner, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", fused)
        kill(folder, config)


def record(folder: Path) -> list[dict]:
    """The metrics without wall-clock times."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]


def keys(folder: Path) -> list[str]:
    return [json.loads(line)["key"] for line in (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, finish(folder)


@pytest.mark.parametrize(
    "kills",
    [
        ((kill_at_program, 4),),  # among the first episodes
        ((kill_at_program, 22),),  # 3 * 6 episodes make 18 programs, so this is among the first repairs
        ((kill_before_update, 2),),  # the round's record needs what the update before had measured
        ((kill_before_checkpoint, 1),),  # an update that nobody will know of
        ((kill_before_checkpoint, 2),),  # the round's record is written, its last update is not saved
        ((kill_after_round, 1),),
        ((kill_at_program, 2), (kill_before_checkpoint, 2), (kill_at_program, 3), (kill_before_checkpoint, 2)),
    ],
    ids=lambda kills: " ".join(f"{kill.__name__}_{number}" for kill, number in kills),
)
def test_a_killed_run_ends_with_the_bits_and_the_record_of_an_uninterrupted_one(tmp_path, whole, kills):
    folder, weights = whole
    for act, number in kills:
        act(tmp_path, number)
    resumed = finish(tmp_path)
    assert Counter(keys(tmp_path)).most_common(1)[0][1] == 1
    assert keys(tmp_path) == keys(folder)
    assert record(tmp_path) == record(folder)
    assert all(torch.equal(weight, resumed[name]) for name, weight in weights.items())


def test_a_run_that_was_killed_and_is_extended_is_the_run_that_was_begun_with_the_larger_number(tmp_path, whole):
    folder, weights = whole
    short, said = replace(CONFIG, num_rounds=1), []
    kill_before_update(tmp_path, 2, short)  # in the middle of its only round
    kill_before_update(tmp_path, 2, CONFIG)  # in the middle of what came on top
    trained = model()
    run(trained, CONFIG, tmp_path, say=said.append)
    assert keys(tmp_path) == keys(folder)
    assert record(tmp_path) == record(folder)
    assert all(torch.equal(weight, trained.state_dict()[name]) for name, weight in weights.items())
    # the checkpoint after the first update of the longer run knows its length: it was said when that began
    assert not any(line.startswith("extended") for line in said)


def test_the_jump_of_the_learning_rate_of_an_extended_run_is_said_and_recorded(tmp_path):
    said = []
    short = replace(CONFIG, num_rounds=1, levels="episode", updates_per_round=1, lr_scheduler_type="cosine_with_min_lr")
    finish(tmp_path, short)
    (tmp_path / "run.json").write_text('{"extended": [{"was": 1, "now": 2}]}')
    run(model(), replace(short, num_rounds=2), tmp_path, say=said.append)
    # one step of a cosine that ends at the first: the full rate; of two steps, the second stands in the middle
    assert said[:1] == [
        "extended from 1 to 2 rounds after step 1: the schedule is laid out anew over 2 steps, as of a run begun with "
        "the larger number: the learning rate goes from 0.0005 at step 1 to 0.000275 at step 2"
    ]
    (entry,) = json.loads((tmp_path / "run.json").read_text())["extended"]
    assert entry["after_step"] == 1
    assert entry["learning_rate"] == {"last": 0.0005, "next": pytest.approx(0.000275)}


def test_a_kill_between_updates_changes_nothing_of_a_run_that_corrects_for_its_engine_and_keeps_a_reference(tmp_path):
    """The weights that the log-probabilities of a round come from are gone by its second update."""
    config = replace(CONFIG, num_rounds=1, loss=LossConfig(algorithm="gspo", beta=0.1, importance_sampling_cap=2.0))
    weights = finish(tmp_path / "whole", config)
    kill_before_update(tmp_path / "killed", 2, config)
    resumed = finish(tmp_path / "killed", config)
    assert record(tmp_path / "killed") == record(tmp_path / "whole")
    assert all(torch.equal(weight, resumed[name]) for name, weight in weights.items())


def test_the_toy_run_trains_rows_of_both_levels(whole):
    """Otherwise the test above would compare runs in which nothing happens."""
    folder, weights = whole
    assert all(row["rows_episode"] and row["rows_step"] for row in record(folder))
    assert any(not torch.equal(weight, weights[name]) for name, weight in model().state_dict().items())


@pytest.mark.parametrize(
    ("levels", "episodes", "repairs"), [("joint", True, True), ("episode", True, False), ("step", False, True)]
)
def test_the_option_says_which_levels_give_rows_and_episodes_are_sampled_in_all(tmp_path, levels, episodes, repairs):
    finish(tmp_path, replace(CONFIG, num_rounds=1, levels=levels))
    (row,) = record(tmp_path)
    assert (row["rows_episode"] > 0, row["rows_step"] > 0) == (episodes, repairs)
    assert any(cause.startswith("episode") for cause in row["dropped"]) == episodes
    sampled = keys(tmp_path)
    assert sum("/repair" not in key for key in sampled) == 18
    assert any("/repair" in key for key in sampled) == repairs


def test_every_row_is_in_exactly_one_update_even_if_updates_are_done_again(tmp_path, monkeypatch):
    model()  # primed once a process, by the same learner, whose steps are not those that are looked at here
    seen: dict[int, list[str]] = {}
    step = Learner.step

    def spied(learner: Learner, rows):
        ids = [row.id for row in rows]
        assert seen.setdefault(learner.num_steps, ids) == ids  # an update that a kill undid is repeated as it was
        return step(learner, rows)

    monkeypatch.setattr(Learner, "step", spied)
    kill_before_checkpoint(tmp_path, 2)
    finish(tmp_path)
    trained = Counter(id for ids in seen.values() for id in ids)
    assert set(trained.values()) == {1}
    rows = record(tmp_path)
    assert len(trained) == sum(row["rows_episode"] + row["rows_step"] for row in rows)
    assert sorted(seen) == [0, 1, 2, 3]  # two rounds of two updates


def test_a_finished_run_that_is_started_again_trains_nothing(tmp_path):
    config = replace(CONFIG, num_rounds=1, levels="episode")
    first, rows = finish(tmp_path, config), record(tmp_path)
    again = finish(tmp_path, config)
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert record(tmp_path) == rows


def test_attempts_that_the_sandbox_lost_are_in_no_reward_and_in_no_row(tmp_path):
    class Flaky(ToldSandbox):
        async def run(self, code, limits=None) -> ExecutionResult:
            if len(self.ran) % 3 == 2:
                self.ran.append("lost")
                raise SandboxUnavailable("gone")
            return await super().run(code, limits)

    run(model(), replace(CONFIG, num_rounds=1, levels="episode"), tmp_path, sandbox=Flaky(PROGRAMS))
    lines = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    lost = [row["key"] for row in lines if "dropped" in row]
    kept = [row for row in lines if "dropped" not in row]
    assert len(lost) >= 4  # a third of about 18 programs
    (row,) = record(tmp_path)
    assert row["answer_reward"] == sum(line["outcome"] == "correct" for line in kept) / len(kept)
    assert row["dropped"].pop("machine fault") == len(lost)
    assert row["rows_episode"] + sum(row["dropped"].values()) == len(kept)


def test_a_cap_on_queries_limits_what_is_repaired(tmp_path):
    # one query for every three problems, so one in a round of three
    step = StepConfig(num_generations=4, suffix_tokens=4, max_queries_share=1 / 3)
    finish(tmp_path, replace(CONFIG, num_rounds=1, step=step))
    assert [row["queries"] for row in record(tmp_path)] == [1]
    repairs = [key for key in keys(tmp_path) if "/repair" in key]
    assert len(repairs) == 4
    assert len({key.rpartition("/")[0] for key in repairs}) == 1


def test_validation_is_asked_for_at_its_rounds_with_the_version_of_the_weights(tmp_path):
    versions = []

    async def validate(version: int) -> Validation:
        versions.append(version)
        return Validation(accuracy=0.25, ci95=(0.0, 0.5), num_problems=4, num_lost=1)

    config = replace(CONFIG, num_rounds=3, updates_per_round=1, levels="episode", validate_every=2)
    run(model(), config, tmp_path, validate=validate)
    assert versions == [2]
    assert [row.get("validation") for row in record(tmp_path)] == [None, 0.25, None]
    assert record(tmp_path)[1]["validation_ci95"] == [0.0, 0.5]
    assert record(tmp_path)[1]["validation_lost"] == 1


def test_no_problems_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no problems to train on"):
        run(model(), CONFIG, tmp_path, problems=[])


@pytest.mark.parametrize("field", [{"temperature": 0.6}, {"temperature": 0.0}, {"top_k": 50}, {"top_p": 0.95}])
def test_sampling_from_another_distribution_than_the_trained_one_is_refused(field):
    with pytest.raises(ValueError, match="RL samples at temperature 1"):
        RLConfig(rollout=RolloutConfig(**field))


@pytest.mark.parametrize("field", ["num_rounds", "problems_per_round", "updates_per_round"])
def test_empty_runs_are_refused(field):
    with pytest.raises(ValueError, match="at least 1"):
        RLConfig(**{field: 0})


@pytest.mark.parametrize("per_round", [1, 3, 4, 7, 9])
def test_the_stream_of_problems_covers_every_problem_once_an_epoch(per_round):
    config = RLConfig(problems_per_round=per_round)
    stream = [p.id for number in range(20) for p in problems_of_round(PROBLEMS, number, config)]
    assert len(stream) == 20 * per_round
    for start in range(0, len(stream) - 3, 4):  # four problems an epoch, whatever a round takes
        assert sorted(stream[start : start + 4]) == ["a", "b", "c", "d"]


def test_the_stream_of_problems_is_a_function_of_the_seed_alone():
    def stream(seed: int) -> list[str]:
        config = RLConfig(problems_per_round=2, seed=seed)
        return [p.id for number in range(10) for p in problems_of_round(PROBLEMS, number, config)]

    assert stream(0) == stream(0)
    assert len({tuple(stream(seed)) for seed in range(4)}) == 4
    epochs = {tuple(stream(0)[start : start + 4]) for start in range(0, 20, 4)}
    assert len(epochs) > 1  # not the same order again and again
