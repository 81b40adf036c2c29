"""Checkpoints in a store: whole or not there, the newest few, and enough for a machine that has nothing else."""

import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from thor_tir.errors import UsageError
from thor_tir.learner.checkpoint import CheckpointWriter, load_checkpoint, newest_checkpoint
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.mirror import Mirror, StoreUnavailable
from tiny_models import tiny_model


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    return f"memory://{uuid4().hex}/run" if request.param == "memory" else f"file://{tmp_path}/store"


def test_a_machine_that_has_nothing_goes_on_from_the_newest_whole_copy(url, tmp_path):
    learner = Learner(tiny_model(), LearnerConfig())
    with CheckpointWriter(tmp_path / "here", learner, keep=1, mirror=url) as writer:
        for save in (1, 2):
            learner.num_steps = save
            path = writer.save({"save": save})
    store = Mirror(url)
    assert store._whole() == [path.name]
    torn = tmp_path / "here" / "000009-step-9"  # as a kill leaves a copy: the manifest is not there yet
    shutil.copytree(path, torn)
    (torn / "manifest.json").write_text("{}")
    store.put(torn, keep=9)
    store._store.rm_file(f"{store._root}/{torn.name}/manifest.json")
    new = newest_checkpoint(tmp_path / "there", url)
    assert new == tmp_path / "there" / path.name
    assert load_checkpoint(new, Learner(tiny_model(), LearnerConfig())) == {"save": 2}
    assert newest_checkpoint(tmp_path / "there", "memory://nothing") == new  # what is here is not fetched


def test_an_empty_store_has_nothing(url, tmp_path):
    assert newest_checkpoint(tmp_path / "there", url) is None


def test_a_store_that_cannot_be_used_or_fails_says_so_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"^--checkpoint-mirror nothing://x cannot be used here: "):
        Mirror("nothing://x")
    (tmp_path / "file").touch()
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "manifest.json").touch()
    with pytest.raises(StoreUnavailable, match="did not take checkpoint: "):
        Mirror(f"file://{tmp_path}/file").put(tmp_path / "checkpoint", keep=1)


def test_a_run_names_its_store_and_may_name_another_when_it_goes_on():
    from thor_tir.rl.config import RLConfig
    from thor_tir.rl.train import _compared

    assert "checkpoint_mirror" not in _compared(RLConfig(checkpoint_mirror=str(Path("x"))))
