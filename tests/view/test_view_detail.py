"""One trajectory with its repairs, credit, tokens and the other attempts at its problem."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.rollout.sample_many import attempt_to_json
from thor_tir.verdict import Outcome
from thor_tir.view.detail import MAX_CHARS, bounded, candidates, detail, tokens
from thor_tir.view.run import ViewedRun, open_runs
from viewed_runs import (
    FAILED,
    GOOD_THOUGHT,
    HOSTILE,
    RIGHT,
    attempt,
    evaluation_run,
    problem,
    span,
    training_run,
)


def opened(folder: Path) -> ViewedRun:
    (run,) = open_runs([folder])
    run.refresh(10)
    return run


@pytest.fixture
def trained(tmp_path: Path) -> ViewedRun:
    return opened(training_run(tmp_path / "run", rounds=2, text=HOSTILE))


def test_repairs_hang_under_the_call_with_reward_and_advantage(trained: ViewedRun) -> None:
    shown = detail(trained, "rl/rollouts", "round2/0/3")
    branches = shown["steps"][0]["branches"]
    assert [branch["reward"] for branch in branches] == [1, 1, 0, 0]
    # Rewards 1, 1, 0, 0: mean 1/2, unbiased deviation sqrt(4 * 0.25 / 3) = 0.57735, so (1 - 1/2) / 0.57735 = 0.86603.
    assert [round(branch["advantage"], 4) for branch in branches] == [0.866, 0.866, -0.866, -0.866]
    assert {branch["update"] for branch in branches} == {2}
    kept = shown["steps"][0]["kept"]
    assert GOOD_THOUGHT.startswith(kept)
    assert len(span(kept)) == len(span(GOOD_THOUGHT)) - 3  # suffix_tokens of the run's options
    assert branches[2]["output"]["class"] == "SyntaxError"


def test_an_episode_has_its_advantage_among_the_attempts_that_were_trained(trained: ViewedRun) -> None:
    # Trained are two right and a wrong one: mean 2/3, deviation sqrt((1/9 + 1/9 + 4/9) / 2) = 0.57735.
    right, failed = (detail(trained, "rl/rollouts", f"round1/0/{n}") for n in (0, 3))
    assert (right["reward"], right["update"]) == (1, 1)
    assert right["advantage"] == pytest.approx((1 - 2 / 3) / 0.57735, abs=1e-5)
    assert (failed["reward"], failed["advantage"], failed["update"]) == (0, None, None)


def test_a_repair_can_be_opened_alone(trained: ViewedRun) -> None:
    shown = detail(trained, "rl/rollouts", "round1/0/3/step0/repair3")
    assert (shown["kind"], shown["parent"], shown["reward"]) == ("repair", "round1/0/3", 0)


def test_without_the_options_of_training_nothing_is_claimed_about_it(tmp_path: Path) -> None:
    folder = training_run(tmp_path / "run", rounds=1)
    (folder / "config.json").unlink()
    shown = detail(opened(folder), "rl/rollouts", "round1/0/3")
    assert "reward" not in shown
    assert shown["steps"][0]["kept"] is None
    assert shown["prompt"]["text"] is None  # nor which model's tokenizer it was


def test_hostile_text_is_handed_on_as_text(trained: ViewedRun) -> None:
    shown = detail(trained, "rl/rollouts", "round2/0/0")
    assert HOSTILE in shown["steps"][1]["thought"]
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_tokens_say_what_the_policy_gave_them_and_which_are_trained(trained: ViewedRun) -> None:
    shown = tokens(trained, "rl/rollouts", "round1/0/0")
    parts = {each["part"]: each for each in shown["spans"]}
    assert list(parts) == ["prompt", "thought 1", "code 1", "output 1", "thought 2"]
    assert [parts[name]["trained"] for name in ("prompt", "thought 1", "code 1", "output 1")] == [
        False,
        True,
        True,
        False,
    ]
    assert "".join(parts["thought 1"]["texts"]) == "I compute it.\n"
    assert parts["thought 1"]["logprobs"][:3] == [0, -0.25, -0.5]
    assert parts["output 1"]["logprobs"] is None
    untrained = tokens(trained, "rl/rollouts", "round1/0/3")
    assert not any(each["trained"] for each in untrained["spans"])


def test_the_ratio_of_trainer_to_engine_is_shown_where_the_run_keeps_it(tmp_path: Path) -> None:
    folder = training_run(tmp_path / "run", rounds=1)
    first = json.loads((folder / "rl" / "rollouts.jsonl").read_text().splitlines()[0])
    steps = first["trajectory"]["steps"]
    spans = [
        first["trajectory"]["prompt"],
        *(step[part] for step in steps for part in ("thought", "action", "observation") if step[part]),
    ]
    trainer = [
        lp + 0.1 if lp is not None else float("nan") for s in spans for lp in (s["logprobs"] or [None] * len(s["ids"]))
    ]
    (folder / "rl" / "scores.jsonl").write_text(json.dumps({"key": "round1/0/0", "logprobs": trainer}) + "\n")
    shown = tokens(opened(folder), "rl/rollouts", "round1/0/0")
    ratios = [ratio for each in shown["spans"] for ratio in each["ratios"] or []]
    assert ratios
    assert set(ratios) == {1.10517}  # e to the power of 0.1


def test_candidates_stand_side_by_side_with_every_selectors_scores(tmp_path: Path) -> None:
    shown = candidates(opened(evaluation_run(tmp_path / "run")), "attempts/toy", "p-1/0")
    assert [each["answer"] for each in shown["candidates"]] == ["12", "12", "48", "12"]
    scores = {each["name"]: each for each in shown["selectors"]}
    assert scores["pass-rate"]["scores"][0] == [1.0, 1.0]  # every call ran, and there is an answer
    assert scores["vote"]["scores"] == [[0.75], [0.75], [0.25], [0.75]]
    assert scores["vote"]["chosen"] in {"p-1/0", "p-1/1", "p-1/3"}


def test_versions_that_self_correction_cut_away_stand_before_the_step(tmp_path: Path) -> None:
    shown = detail(opened(evaluation_run(tmp_path / "run")), "attempts/toy", "p-0/3")
    (cut,) = shown["steps"][0]["discarded"]
    assert (cut["thought"], cut["output"]["class"]) == (FAILED.thought.text, "NameError")


def test_the_words_that_tirgens_critic_replaced_stand_beside_the_step(tmp_path: Path) -> None:
    asked = problem("p")
    row = attempt_to_json(attempt("p/0", asked, RIGHT, Outcome.CORRECT, "12"))
    replaced = [
        {"step": 0, "num_steps": 1, "text": "The divisor of 84 and 36 is 6."},
        {"step": 7, "num_steps": 1, "text": "of no step"},
        {"step": "0", "text": 3},
        None,
    ]
    raw = {
        "key": "p/0",
        **row,
        "replaced": replaced,
        "critic": {"rewritten": 1},
        "kept": [0.9],
        "problem": asdict(asked),
    }
    (tmp_path / "raw.jsonl").write_text(json.dumps(raw) + "\n")
    shown = detail(opened(tmp_path), "raw", "p/0")
    assert shown["steps"][0]["replaced"] == {"text": "The divisor of 84 and 36 is 6.", "steps": 1}
    assert "replaced" not in shown["steps"][1]
    assert shown["tirgen"]["fates"] == {"rewritten": 1}


def test_a_text_of_megabytes_keeps_its_two_ends() -> None:
    text = "a" * 10**6 + "b" * 10**6
    shown = bounded(text)
    assert len(shown) < MAX_CHARS + 100
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")
    assert "1,940,000 characters left out" in shown
    assert bounded("short") == "short"


@pytest.mark.parametrize("key", ["round10/0/0", "", "../../etc/passwd"])
def test_a_row_that_is_not_there_is_a_sentence(trained: ViewedRun, key: str) -> None:
    for ask in (detail, tokens, candidates):
        with pytest.raises(UsageError, match="holds no"):
            ask(trained, "rl/rollouts", key)


def test_a_row_that_was_damaged_since_is_a_sentence(trained: ViewedRun) -> None:
    path = trained.folder / "rl" / "rollouts.jsonl"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(UsageError, match="changed while it was read"):
        detail(trained, "rl/rollouts", "round1/0/0")


def test_a_run_with_rewards_of_its_own_shows_them_and_the_advantage_among_them(tmp_path: Path) -> None:
    folder = training_run(tmp_path / "run", rounds=1)
    journal = folder / "rl" / "rollouts.jsonl"
    rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(row for row in rows if row["key"].startswith("round1/0/") and "query" not in row):
        row["judged"] = {"total": number / 2, "parts": {"mine": number / 2}}
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = opened(folder)
    first, third = (detail(run, "rl/rollouts", f"round1/0/{n}") for n in (0, 2))
    assert (first["reward"], third["reward"]) == (0.0, 1.0)
    # Trained are the first three with rewards 0, 1/2, 1: mean 1/2, deviation 1/2.
    assert (first["advantage"], third["advantage"]) == pytest.approx((-1, 1), abs=1e-5)
    assert third["parts"] == {"mine": 1.0}


def test_what_functions_of_ones_own_gave_is_shown_as_it_was_written_down(tmp_path: Path) -> None:
    folder = training_run(tmp_path / "run", rounds=1)
    repairs = [f"round1/0/3/step0/repair{n}" for n in range(4)]
    earned = {id: {"total": n / 4, "parts": {"mine.py:f": n / 2}} for n, id in enumerate(repairs)}
    with (folder / "rl" / "rollouts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"key": "round1/0/3/step0/rewards", "earned": earned}) + "\n")
    (update,) = map(json.loads, (folder / "rl" / "updates.jsonl").read_text().splitlines())
    update["advantages"] = [float(n) for n in range(7)]
    (folder / "rl" / "updates.jsonl").write_text(json.dumps(update) + "\n")
    run = opened(folder)
    branches = detail(run, "rl/rollouts", "round1/0/3")["steps"][0]["branches"]
    assert [(branch["reward"], branch["advantage"]) for branch in branches] == [(n / 4, 3.0 + n) for n in range(4)]
    assert detail(run, "rl/rollouts", "round1/0/1")["advantage"] == 1.0
    assert detail(run, "rl/rollouts", repairs[2])["parts"] == {"mine.py:f": 1.0}
