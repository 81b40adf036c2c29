"""What is written and said of each round."""

import pytest

from thor_tir.rl.config import MonitorConfig
from thor_tir.rl.metrics import RoundMonitor, round_brief, round_line
from thor_tir.storage.journal import Journal


class Curves:
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict]] = []

    def log(self, step, values):
        self.seen.append((step, dict(values)))

    def close(self):
        self.seen.append((-1, {}))


def level_of(reward: float | None) -> dict:
    """Rewards of 0 and 1 with that mean."""
    return {"reward": reward, "reward_std": None if reward is None else (reward * (1 - reward)) ** 0.5}


def record(step: int, share: float = 0.5, answers: float | None = 0.5, repairs: float | None = 0.5) -> dict:
    levels = {name: level_of(reward) for name, reward in (("episode", answers), ("step", repairs))}
    counts = {"sampled": 20, "rows_episode": 8, "rows_step": 3}
    dropped = {"dropped_share": share, "dropped": {"episode: all wrong": 7, "machine fault": 2}}
    return {
        "step": step,
        "levels": levels,
        "rewards": {},
        "answer_reward": answers,
        "step_reward": repairs,
        **counts,
        **dropped,
    }


def watch_of(tmp_path, said: list[str], **config) -> tuple[RoundMonitor, Curves]:
    curves = Curves()
    metrics = Journal(tmp_path / "metrics.jsonl")
    return RoundMonitor(config=MonitorConfig(**config), metrics=metrics, trackers=[curves], say=said.append), curves


def test_a_round_is_written_and_drawn_once_even_if_it_is_done_again(tmp_path):
    watch, curves = watch_of(tmp_path, [])
    watch.take(0, record(1))
    again, more = watch_of(tmp_path, [])
    again.take(0, record(1))
    again.take(1, record(2))
    again.close()
    assert [row["step"] for row in Journal(tmp_path / "metrics.jsonl")] == [1, 2]
    assert [step for step, _ in curves.seen] == [1]
    assert [step for step, _ in more.seen] == [2, -1]


def test_a_run_that_loses_more_than_its_share_says_so_once_with_the_causes_the_most_frequent_first(tmp_path):
    said: list[str] = []
    watch, _ = watch_of(tmp_path, said, warn_dropped_share=0.9)
    for number, share in enumerate((0.9, 0.95, 0.99)):
        watch.take(number, record(number + 1, share))
    (line,) = said
    assert "round 2: 95 %" in line
    assert "(episode: all wrong 7, machine fault 2)" in line


@pytest.mark.parametrize(("reward", "said_of"), [(0.0, "0"), (1.0, "1")])
@pytest.mark.parametrize("level", ["answers", "repairs"])
def test_a_round_whose_rewards_are_all_alike_says_so_once(tmp_path, reward, said_of, level):
    said: list[str] = []
    watch, _ = watch_of(tmp_path, said)
    for number in range(3):
        watch.take(number, record(number + 1, **{level: reward}))
    (line,) = said
    name = {"answers": "episode", "repairs": "step"}[level]
    assert line.startswith(f"round 1: every reward of its {name} is {said_of}: ")


@pytest.mark.parametrize("reward", [None, 0.01, 0.5, 0.99])
def test_a_round_whose_rewards_differ_or_that_has_none_says_nothing(tmp_path, reward):
    said: list[str] = []
    watch, _ = watch_of(tmp_path, said)
    watch.take(0, record(1, answers=reward, repairs=reward))
    assert said == []


def test_a_round_is_a_line_of_a_log_with_all_that_a_person_watches():
    figures = record(3)
    figures["levels"]["episode"] |= {"pass_rate": 0.75, "entropy": 0.314, "tokens": 86.4, "longest": 212, "calls": 1.25}
    figures |= {"loss": {"episode": -0.2, "step": 0.1004}, "calls_ran": 0.8333, "rewards": {}}
    figures |= {"seconds": {"rollout": 60.0, "repair": 20.0, "grade": 90.0, "train": 3.6}}
    figures |= {"refills": 0, "staleness": None}
    assert round_line(figures, of=20) == (
        "round 3 of 20: reward 0.50, pass rate 0.75, repairs 0.50, loss -0.100, entropy 0.31, 86 tokens (longest 212), "
        "1.2 calls, 83 % run, 11 of 20 samples trained (left out: episode: all wrong 7, machine fault 2), 84 s"
    )
    assert round_brief(figures) == "round 3: reward 0.50, repairs 0.50"
    figures |= {"rewards": {"boxed": 0.5, "exact": 0.25}, "answer_reward": 0.25, "dropped": {}, "step_reward": None}
    assert round_line(figures, of=20).startswith(
        "round 3 of 20: reward 0.50 (spread 0.50), answers 0.25, pass rate 0.75"
    )
    figures["levels"]["episode"] |= dict.fromkeys(("reward", "reward_std", "pass_rate", "entropy", "tokens", "calls"))
    assert round_line(figures, of=20) == "round 3 of 20: answers 0.25, loss -0.100, 11 of 20 samples trained, 84 s"


def test_a_round_and_a_run_say_what_was_left_out_and_why(tmp_path):
    said: list[str] = []
    watch, _ = watch_of(tmp_path, said)
    watch.take(0, record(1))
    again, _ = watch_of(tmp_path, said)  # a run that is continued counts the rounds before it too
    again.take(1, record(2))
    again.close()
    assert said == ["22 of 40 samples were trained on; left out: episode: all wrong 14, machine fault 4"]


@pytest.mark.parametrize(("every", "shown"), [(0, []), (1, [0, 1, 2, 3, 4]), (3, [0, 3, 4]), (9, [0, 4])])
def test_trajectories_of_every_kth_round_and_of_the_last_are_kept_for_reading(every, shown):
    assert [n for n in range(5) if MonitorConfig(show_every=every).is_shown(n, 5)] == shown


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="cannot be negative"):
        MonitorConfig(show_every=-1)
