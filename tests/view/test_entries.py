"""Facts of a line, read without its tokens."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from thor_tir.rollout.sample_many import attempt_to_json
from thor_tir.storage.trajectory_json import without_tokens
from thor_tir.tirgen.dataset import SampleFacts, to_row
from thor_tir.verdict import Outcome
from thor_tir.view.entries import Entry, RowKind, entry_of, json_object, kind_of, texts_of
from viewed_runs import FAILED, HOSTILE, RIGHT, attempt, evaluation_run, problem, training_run


def entries(path: Path) -> dict[str, Entry]:
    found = {}
    for line in path.read_bytes().splitlines(keepends=True):
        row = json_object(without_tokens(line))
        assert row is not None
        entry = entry_of(row, kind_of(row), place=0, length=len(line))
        assert entry is not None
        found[entry.key] = entry
    return found


@pytest.mark.parametrize(
    "text",
    ['{"ids": [1, 2, 3]}', '"logprobs": [0.5]', '\\"ids\\": [7]', "ids", HOSTILE, '", "ids": [1], "x": "', "\\"],
)
def test_text_that_looks_like_tokens_stays_as_it_is(text: str) -> None:
    row = {
        "a": text,
        "ids": [1, 2, 3],
        "more": {"logprobs": [-0.5, 1e-7], "prompt_ids": [], "text": text, "ids": [4]},
        f"key {text}": 1,
    }
    for line in (json.dumps(row), json.dumps(row, separators=(",", ":"))):
        whole = {"ids": 3, "more": {"logprobs": 2, "prompt_ids": 0, "text": text, "ids": 1}}
        assert json_object(without_tokens(line.encode())) == {"a": text, **whole, f"key {text}": 1}


def test_facts_of_attempts_and_repairs(tmp_path: Path) -> None:
    found = entries(training_run(tmp_path / "run", rounds=1) / "rl" / "rollouts.jsonl")
    failed = found["round1/0/3"]
    assert (failed.kind, failed.outcome, failed.calls, failed.failures) == (
        RowKind.TRAJECTORY,
        "wrong",
        1,
        ("NameError",),
    )
    assert (failed.round, failed.family, failed.answer, failed.finish) == (1, "gcd", None, "failed_call")
    assert failed.tokens == sum(map(len, FAILED.spans[:2]))
    repair = found["round1/0/3/step0/repair1"]
    assert (repair.kind, repair.parent, repair.call, repair.outcome) == (RowKind.REPAIR, "round1/0/3", 0, "ran")
    assert found["round1/0/3/step0/repair2"].failures == ("SyntaxError",)


def test_tokens_of_versions_that_were_cut_away_count_as_they_do_in_results(tmp_path: Path) -> None:
    found = entries(evaluation_run(tmp_path / "run", problems=1) / "attempts" / "toy.jsonl")
    mended = found["p-0/3"]
    standing = sum(len(span) for step in RIGHT for span in step.spans[:2])
    assert (mended.discarded, mended.tokens) == (1, standing + sum(map(len, FAILED.spans[:2])))
    assert mended.seconds == 3.5


def test_a_row_of_a_data_set_is_a_copy_with_the_same_facts() -> None:
    made = attempt("p/0", problem("p"), RIGHT, Outcome.CORRECT, "12")
    line = json.dumps(to_row(made, SampleFacts())).encode()
    row = json_object(without_tokens(line))
    assert row is not None
    entry = entry_of(row, kind_of(row), place=0, length=1)
    assert entry is not None
    assert (entry.kind, entry.key, entry.calls, entry.answer) == (RowKind.COPY, "p/0", 1, "12")
    assert entry.tokens == made.trajectory.num_model_tokens
    assert list(texts_of(row))[-1] == RIGHT[1].thought.text


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"key": "a", "dropped": "SandboxUnavailable"}, RowKind.LOST),
        ({"key": "0", "step": 1, "dropped": {}}, RowKind.METRICS),
        ({"key": "1", "rows": []}, RowKind.UPDATE),
        ({"key": "a", "logprobs": 3}, RowKind.SCORES),
        (asdict(problem("a")), RowKind.PROBLEM),
        ({"id": "a", "stage": "answer", "reason": "wrong"}, RowKind.OTHER),
    ],
)
def test_rows_are_told_apart_by_their_fields(row: dict[str, object], kind: RowKind) -> None:
    assert kind_of(row) is kind


@pytest.mark.parametrize("damage", ["steps", "finish", "outcome-status"])
def test_a_damaged_row_is_no_entry(damage: str) -> None:
    row = attempt_to_json(attempt("p/0", problem("p"), RIGHT, Outcome.CORRECT, "12"))
    if damage == "outcome-status":
        row["trajectory"]["steps"][0]["observation"]["result"]["status"] = "no such status"
    else:
        del row["trajectory"][damage]
    slim = json_object(without_tokens(json.dumps({"key": "p/0", **row}).encode()))
    assert slim is not None
    assert entry_of(slim, kind_of(slim), place=0, length=1) is None


@pytest.mark.parametrize("line", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_a_line_that_is_no_object_is_nothing(line: bytes) -> None:
    assert json_object(line) is None
