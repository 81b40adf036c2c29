"""A stage of a quickstart has the options with which its command makes it longer."""

import dataclasses
import json
from pathlib import Path

import pytest

from thor_tir.app.config import quickstart
from thor_tir.app.stages.quickstart import _seconds_before, run_options
from thor_tir.commands.options import identity
from thor_tir.commands.stage import rl_options, sft_options
from thor_tir.commands.training import Quickstart, Rl, Sft
from thor_tir.errors import UsageError
from thor_tir.storage.journal import write_atomically
from thor_tir.storage.run_lock import Growth, changes, claim


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The folder of a quickstart with two stages in it."""
    for stage in ("sft", "rl"):
        (tmp_path / stage / "checkpoints").mkdir(parents=True)
    write_atomically(tmp_path / "config.json", json.dumps(run_options(quickstart(seed=3), 4), default=str))
    return tmp_path


def test_the_commands_with_a_quickstarts_seed_are_its_stages(whole: Path) -> None:
    nano = quickstart(seed=3)
    rl = Rl(model=str(whole / "sft" / "model"), output=whole / "rl", rl=nano.rl)
    begun = rl_options(rl.output, model=rl.model, problems=rl.problems, preset=rl.preset)
    assert changes(begun, identity(rl)) == ["processes was 4, is 1"]  # which may differ
    data = str(whole / "tirgen" / "dataset.jsonl")
    sft = Sft(data=data, output=whole / "sft", sft=dataclasses.replace(nano.sft, save_dtype="float32"))
    begun = sft_options(sft.output, data=sft.data, preset=sft.preset)
    assert changes(begun, identity(sft)) == ["processes was 4, is 1"]


def test_the_options_of_another_stage_are_told(whole: Path) -> None:
    begun = rl_options(whole / "rl", model="other/model", problems="reasoning_gym", preset="nano")
    model, *others = changes(begun, identity(Rl(model="other/model")))
    assert model.startswith(f'model was "{str(whole)[:40]}')  # long values are cut
    assert model.endswith('is "other/model"')
    assert others == ["processes was 4, is 1", "rl.seed was 3, is 0"]


def test_a_folder_beside_no_quickstart_is_none(tmp_path: Path) -> None:
    (tmp_path / "rl" / "checkpoints").mkdir(parents=True)
    assert rl_options(tmp_path / "rl", model="", problems="", preset="nano") is None
    (tmp_path / "config.json").write_text('{"seed": 1}')
    assert rl_options(tmp_path / "rl", model="", problems="", preset="nano") is None


def test_a_quickstart_whose_stage_was_extended_says_so_and_stops(whole: Path) -> None:
    assert _seconds_before(whole / "rl", print) == 0
    growth = Growth(option="rl.num_rounds", is_wanted=True, begun_as={"rl": {"num_rounds": 20}})
    with claim(whole / "rl", {"rl": {"num_rounds": 40}}, growth=growth):
        pass
    with pytest.raises(UsageError, match=r"was extended by itself \(rl.num_rounds was 20, is 40\)"):
        _seconds_before(whole / "rl", print)


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_the_quickstart_starts_a_process_for_each_core_and_at_most_four(monkeypatch, cores, processes):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert Quickstart().num_processes == processes
    assert Quickstart(deterministic=True).num_processes == 1
    assert Quickstart(processes=3).num_processes == 3
