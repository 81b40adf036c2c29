"""From raw files to the data set: folders united, every row accounted for, nothing that depends on their order."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir.app.stages.tirgen_data import filter_raw
from thor_tir.dialect.dialect import Thinking
from thor_tir.errors import UsageError
from thor_tir.tirgen.dataset import read_dataset
from thor_tir.tirgen.selection import FilterConfig
from thor_tir.trajectory import Finish
from tirgen_samples import WRONG, candidate, no_tools_row, problem_of, raw_row, read_lines, write_lines

EVERYTHING = FilterConfig(max_share=1)


def two_shards(root: Path) -> list[Path]:
    """Two folders: of question a both hold a sample, b is wrong, c is solved without tools, d was lost to a fault."""
    first = [candidate(question="a", number=0), candidate(question="b", verdict=WRONG)]
    second = [candidate(question="a", number=1), candidate(question="c"), candidate(question="e")]
    write_lines(root / "one" / "raw.jsonl", [*map(raw_row, first), {"key": "d/0", "dropped": "SandboxUnavailable"}])
    write_lines(root / "two" / "raw.jsonl", map(raw_row, second))
    write_lines(
        root / "two" / "no_tools.jsonl", [no_tools_row("c", 0, is_right=True), no_tools_row("e", 0, is_right=False)]
    )
    return [root / "one", root / "two"]


def test_folders_are_filtered_as_one_set_and_every_row_is_accounted_for(tmp_path: Path):
    path = filter_raw(two_shards(tmp_path), EVERYTHING, tmp_path / "out")
    kept = [row["id"] for row in read_lines(path)]
    rejected = {row["id"]: (row["stage"], row["reason"]) for row in read_lines(tmp_path / "out" / "rejected.jsonl")}
    assert sorted([*kept, *rejected]) == ["a/0", "a/1", "b/0", "c/0", "d/0", "e/0"]
    assert len({id for id in kept if id.startswith("a/")}) == 1  # one a question, though the shards hold one each
    assert rejected["b/0"] == ("answer", "answer wrong")
    assert rejected["c/0"] == ("no-tools", "solved without tools")
    assert rejected["d/0"] == ("generated", "SandboxUnavailable")
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert [stage["kept"] for stage in funnel["stages"]] == [5, 4, 4, 4, 4, 4, 4, 3, 3, 2, 2]
    assert funnel["critic"] == {"rewritten": 5}
    assert funnel["raw_calls"] == {"1": 5}
    assert funnel["no_tools"] == {"samples": 2, "right": 1, "unscored": 0, "lost": {}}
    assert funnel["config"]["max_share"] == 1


def test_the_order_of_folders_and_rows_changes_no_byte(tmp_path: Path):
    shards = two_shards(tmp_path)
    filter_raw(shards, EVERYTHING, tmp_path / "out")
    for shard in shards:
        write_lines(shard / "raw.jsonl", reversed(read_lines(shard / "raw.jsonl")))
    filter_raw(shards[::-1], EVERYTHING, tmp_path / "again")
    for name in ("dataset.jsonl", "rejected.jsonl", "funnel.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_what_is_read_from_the_data_set_is_what_was_generated_token_for_token(tmp_path: Path):
    sample = candidate("print(20 + 57)", "print(1 + 1)", question="e")
    write_lines(tmp_path / "raw.jsonl", [raw_row(sample, provenance="abc")])
    (attempt,) = read_dataset(filter_raw([tmp_path / "raw.jsonl"], EVERYTHING, tmp_path))
    assert attempt.trajectory == sample.trajectory
    assert attempt.problem == problem_of(sample)
    (row,) = read_lines(tmp_path / "dataset.jsonl")
    assert (row["num_calls"], row["num_tokens"], row["seed"], row["provenance"]) == (2, 7, 7, "abc")
    assert [segment["type"] for segment in row["segments"]] == ["thought", "code", "output"] * 2 + ["thought"]
    # printf '77\n' | sha256sum
    assert row["segments"][2]["execution"]["stdout_sha256"].startswith("94d5a38598be7759")


def test_whether_think_tags_belong_there_is_what_the_rows_provenance_says(tmp_path: Path):
    thinking = candidate(answer="</think> So \\boxed{77}.", question="t", thinking=Thinking.OPENED)
    rows = [raw_row(thinking, provenance="reasons"), raw_row(candidate(question="e"), provenance="speaks")]
    write_lines(tmp_path / "raw.jsonl", rows)
    (tmp_path / "provenance.json").write_text(json.dumps({"reasons": {"thinking": "opened"}, "speaks": {}}))
    assert len(read_lines(filter_raw([tmp_path], EVERYTHING, tmp_path / "out"))) == 2
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["reasons"] == {"thinking": "opened"}
    (tmp_path / "provenance.json").unlink()
    assert [row["id"] for row in read_lines(filter_raw([tmp_path], EVERYTHING, tmp_path / "out"))] == ["e/0"]


def test_the_torn_line_of_a_kill_is_left_alone(tmp_path: Path):
    path = write_lines(tmp_path / "raw.jsonl", [raw_row(candidate(question="e"))])
    with path.open("a") as file:
        file.write('{"key": "f/0", "traj')
    assert len(read_lines(filter_raw([tmp_path], EVERYTHING, tmp_path))) == 1


def test_the_same_attempt_twice_is_one_attempt_even_at_the_end_of_a_journals_chunk(tmp_path: Path):
    row = raw_row(candidate(question="e"))
    write_lines(tmp_path / "one.jsonl", [row])
    write_lines(tmp_path / "two.jsonl", [{**row, "commits": True}])
    found = filter_raw([tmp_path / "one.jsonl", tmp_path / "two.jsonl"], EVERYTHING, tmp_path)
    assert len(read_lines(found)) == 1


def test_an_attempt_lost_in_one_shard_and_made_in_another_was_made(tmp_path: Path):
    write_lines(tmp_path / "one.jsonl", [{"key": "e/0", "dropped": "SandboxUnavailable"}])
    write_lines(tmp_path / "two.jsonl", [raw_row(candidate(question="e"))])
    filter_raw([tmp_path / "one.jsonl", tmp_path / "two.jsonl"], EVERYTHING, tmp_path)
    assert json.loads((tmp_path / "funnel.json").read_text())["stages"][0] == {
        "name": "generated",
        "kept": 1,
        "rejected": {},
    }


def bad_rows(root: Path) -> dict[str, list[object]]:
    good = raw_row(candidate(question="e"))
    moved = raw_row(replace(candidate(question="e"), question="another question"))
    return {
        "conflict": [good, {**moved, "key": "e/0"}],
        "not json": [good, "no object"],
        "no problem": [{k: v for k, v in good.items() if k != "problem"}],
        "other key": [{**good, "key": "f/0"}],
    }


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("conflict", r"attempt 'e/0' stands in two ways: .*raw.jsonl, line 1 and .*raw.jsonl, line 2"),
        ("not json", r"raw.jsonl, line 2 is damaged \(expected an object with a key\)"),
        ("no problem", r"raw.jsonl, line 1 is no raw trajectory of TIRGen: 'problem'"),
        ("other key", r"the trajectory is 'e/0' and the key 'f/0'"),
    ],
)
def test_rows_that_cannot_be_trusted_are_named_and_no_data_set_is_written(tmp_path: Path, case: str, told: str):
    write_lines(tmp_path / "raw.jsonl", bad_rows(tmp_path)[case])
    with pytest.raises(UsageError, match=told):
        filter_raw([tmp_path], EVERYTHING, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.jsonl"]


def test_a_folder_without_raw_trajectories_or_a_benchmark_without_questions_is_a_mistake(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no raw trajectories at .*raw\.jsonl; `thor tirgen generate` writes them"):
        filter_raw([tmp_path], EVERYTHING, tmp_path)
    write_lines(tmp_path / "raw.jsonl", [raw_row(candidate(question="e"))])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no benchmark problems at"):
        filter_raw([tmp_path], replace(EVERYTHING, benchmarks=(str(tmp_path / "empty"),)), tmp_path)


def test_samples_without_tools_that_were_lost_or_not_judged_are_counted(tmp_path: Path):
    write_lines(tmp_path / "raw.jsonl", [raw_row(candidate(question="e"))])
    unscored = {**no_tools_row("e", 1, is_right=False), "outcome": "unscored"}
    lost = [{"key": f"e/no-tools{n}", "dropped": "RequestFault"} for n in (2, 3)]
    write_lines(tmp_path / "no_tools.jsonl", [no_tools_row("e", 0, is_right=False), unscored, *lost])
    filter_raw([tmp_path], EVERYTHING, tmp_path / "out")
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert funnel["no_tools"] == {"samples": 1, "right": 0, "unscored": 1, "lost": {"RequestFault": 2}}


def test_a_prompt_that_fills_the_context_is_a_reason_of_its_own(tmp_path: Path):
    empty = candidate(question="e", verdict=WRONG)
    empty = replace(empty, trajectory=replace(empty.trajectory, steps=(), finish=Finish.TOKEN_LIMIT))
    write_lines(tmp_path / "raw.jsonl", [raw_row(empty)])
    filter_raw([tmp_path], EVERYTHING, tmp_path / "out")
    (rejected,) = read_lines(tmp_path / "out" / "rejected.jsonl")
    assert (rejected["stage"], rejected["reason"]) == ("answer", "prompt fills the context")
