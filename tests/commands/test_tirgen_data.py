"""The commands around the filter, one after the other, as a person would type them."""

import json
from pathlib import Path

import pytest

from thor_tir import cli
from thor_tir.commands.tirgen import Tirgen
from thor_tir.tirgen.selection import FilterConfig
from tirgen_samples import WRONG, candidate, raw_row, write_lines

pytest.importorskip("matplotlib", reason="matplotlib is not installed; it comes with the extra report")


def told_by(capsys: pytest.CaptureFixture[str], command: str, status: int = 0) -> str:
    """What a command that ends with this status says."""
    with pytest.raises(SystemExit) as ended:
        cli.main(command.split())
    told = capsys.readouterr()
    assert ended.value.code == status, told.err
    return told.out + told.err


@pytest.fixture(autouse=True)
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two raw folders in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_lines(Path("one/raw.jsonl"), [raw_row(candidate(question=q)) for q in "ab"])
    write_lines(
        Path("two/raw.jsonl"), [raw_row(candidate(question="c")), raw_row(candidate(question="d", verdict=WRONG))]
    )


def test_from_shards_to_a_folder_that_can_be_published(capsys: pytest.CaptureFixture[str]):
    told = told_by(capsys, "tirgen merge two one --output all")
    assert "4 attempts (0 lost to faults of the machine), 0 samples without tools" in told
    told = told_by(capsys, "tirgen filter all")
    assert "4 after generated\n" in told
    assert "3 after answer (dropped: answer wrong 1)" in told
    assert told.endswith("data set: all/dataset.jsonl\n")
    told = told_by(capsys, "tirgen export all --forms parquet messages")
    assert told.splitlines() == ["all/export/data/train.parquet", "all/export/messages.jsonl"]
    assert "card: all/export/README.md" in told_by(capsys, "tirgen card all --title Sums")
    assert Path("all/export/README.md").read_text().count("# Sums") == 1
    assert Path("all/export/card.html").exists()


def test_a_filter_of_both_shards_is_the_filter_of_their_union(capsys: pytest.CaptureFixture[str]):
    told_by(capsys, "tirgen merge one two --output all")
    told_by(capsys, "tirgen filter all --seed 3")
    told_by(capsys, "tirgen filter one two --output both --seed 3")
    assert Path("both/dataset.jsonl").read_bytes() == Path("all/dataset.jsonl").read_bytes()


def test_stages_can_be_skipped_by_name(capsys: pytest.CaptureFixture[str]):
    told = told_by(capsys, "tirgen filter two --filter.skip answer no-tools")
    assert "after answer" not in told
    assert "2 after balance" in told
    assert json.loads(Path("two/funnel.json").read_text())["config"]["skip"] == ["answer", "no-tools"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("tirgen filter nowhere", "no raw trajectories at nowhere"),
        ("tirgen merge one --output one", "one is one of the folders to be united"),
        ("tirgen merge one nowhere --output all", "no raw trajectories at nowhere"),
        ("tirgen export one", "no data set at one/dataset.jsonl"),
        ("tirgen card one", "no funnel.json at one"),
        ("tirgen filter one --filter.benchmarks nowhere.jsonl", "no problem file at nowhere.jsonl"),
        ("tirgen filter one --filter.per-question 0", "per_question and ngram are at least 1"),
        ("tirgen filer one", "Unrecognized options: filer"),
    ],
)
def test_a_mistake_is_named(command: str, told: str, capsys: pytest.CaptureFixture[str]):
    assert told in told_by(capsys, command, status=2)


def test_a_filter_that_leaves_nothing_says_so(capsys: pytest.CaptureFixture[str]):
    told = told_by(capsys, "tirgen filter two --filter.min-tokens 100000")
    assert "no sample is left: rejected.jsonl has the stage and the reason of each" in told
    assert "no sample is left" not in told_by(capsys, "tirgen filter two")


def test_a_run_knows_its_benchmarks_and_tokenizers_as_inputs_too():
    options = Tirgen(actor_tokenizer="a", critic_tokenizer="c", filter=FilterConfig(benchmarks=("one", "two")))
    assert options.inputs[2:] == ("a", "c", "one", "two")
