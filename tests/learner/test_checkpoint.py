"""A run that is stopped and continued is the run that was not stopped."""

import errno
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from small_disk import disk
from thor_tir.distributed import ALONE
from thor_tir.errors import DiskFull, UsageError
from thor_tir.learner import saved_state
from thor_tir.learner.checkpoint import CheckpointWriter, load_checkpoint, newest_checkpoint, save_checkpoint
from thor_tir.learner.config import Schedule
from thor_tir.learner.learner import Learner, LearnerConfig
from tiny_models import tiny_model, tiny_tokenizer
from tiny_rows import mixed_rows


def tied_model() -> PreTrainedModel:
    """With dropout in the attention, so that continuing needs the random states, and one tensor under two names."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen3ForCausalLM(
        Qwen3Config(vocab_size=64, tie_word_embeddings=True, attention_dropout=0.2, **shape, **heads)
    )


def learner_of(model: PreTrainedModel) -> Learner:
    return Learner(model, LearnerConfig(learning_rate=1e-2, schedule=Schedule(warmup_steps=3, decay_steps=8)))


def run(learner: Learner, num_steps: int) -> None:
    """Steps on rows that torch's random state draws."""
    for _ in range(num_steps):
        rows = mixed_rows()
        learner.step([rows[place] for place in torch.randperm(len(rows))[:5]])


def same_weights(one: Learner, other: Learner) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("make_model", [tied_model, tiny_model])
def test_two_steps_a_restart_and_two_more_are_four_steps_bit_for_bit(make_model, tmp_path):
    whole, first = learner_of(make_model()), learner_of(make_model())
    torch.manual_seed(1)
    run(whole, 4)
    torch.manual_seed(1)
    run(first, 2)
    path = save_checkpoint(tmp_path, first, extra={"round": 2})

    resumed = learner_of(make_model())
    run(resumed, 1)  # weights, optimiser and random states are now others
    assert load_checkpoint(path, resumed) == {"round": 2}
    run(resumed, 2)
    assert resumed.num_steps == whole.num_steps == 4
    assert same_weights(resumed, whole)


def test_the_model_folder_is_a_model_of_its_own_with_its_tokenizer(tmp_path):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner, tokenizer=tiny_tokenizer())
    loaded = Qwen3ForCausalLM.from_pretrained(path / "model")
    assert same_weights(learner, learner_of(loaded))
    text = "print(1)"
    assert AutoTokenizer.from_pretrained(path / "model").encode(text) == tiny_tokenizer().encode(text)


def test_the_newest_is_found_by_order_of_saving_and_older_ones_are_removed(tmp_path):
    learner = learner_of(tiny_model())
    assert newest_checkpoint(tmp_path) is None
    paths = [save_checkpoint(tmp_path, learner, extra={"save": i}, keep=2) for i in range(3)]
    assert len(set(paths)) == 3  # the same step three times: nothing is overwritten
    assert newest_checkpoint(tmp_path) == paths[-1]
    assert sorted(tmp_path.iterdir()) == paths[1:]


def test_a_kill_between_writing_and_renaming_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    learner = learner_of(tiny_model())
    old = save_checkpoint(tmp_path, learner, extra={"save": "old"})
    run(learner, 1)

    rename = os.rename

    def killed(source: Path, target: Path) -> None:
        if Path(source).parent == tmp_path:  # that of the whole checkpoint: its parts are renamed too
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, learner, extra={"save": "new"})
    assert len(list(tmp_path.iterdir())) == 2  # the old one and what the kill left
    assert newest_checkpoint(tmp_path) == old
    assert load_checkpoint(old, learner) == {"save": "old"}
    new = save_checkpoint(tmp_path, learner)
    assert sorted(tmp_path.iterdir()) == [old, new]  # the next save clears the leftovers


PARTS = ("model/model.safetensors", "state/parts/__0_0.distcp", "state/parts/.metadata", "state/random-0.pt")


@pytest.mark.parametrize("file", [*PARTS, "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "garbled"])
def test_a_damaged_checkpoint_is_told_in_one_sentence(file, damage, tmp_path):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner)
    target = path / file
    blob = target.read_bytes()
    match damage:
        case "truncated":
            target.write_bytes(blob[: len(blob) // 2])
        case "missing":
            target.unlink()
        case "garbled":
            target.write_bytes(b"\xff" * len(blob))
    with pytest.raises(UsageError, match=r"^the checkpoint .* is damaged .* `rm -r .*` .* the beginning") as caught:
        load_checkpoint(path, learner)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", PARTS)
def test_one_flipped_bit_in_a_file_of_the_right_size_is_found(file, tmp_path):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner)
    blob = bytearray((path / file).read_bytes())
    blob[len(blob) // 2] ^= 1
    (path / file).write_bytes(blob)
    before = [p.clone() for p in learner.model.parameters()]
    with pytest.raises(UsageError, match=f"is damaged in {file}"):
        load_checkpoint(path, learner)
    assert all(torch.equal(p, old) for p, old in zip(learner.model.parameters(), before, strict=True))


def test_of_two_checkpoints_the_damaged_one_is_never_skipped_unasked_but_as_its_sentence_says(tmp_path):
    learner = learner_of(tiny_model())
    save_checkpoint(tmp_path, learner, extra={"save": "older"})
    newest = save_checkpoint(tmp_path, learner, extra={"save": "newer"})
    (newest / "state/random-0.pt").unlink()
    with pytest.raises(UsageError, match="000001-step-0") as caught:
        load_checkpoint(newest_checkpoint(tmp_path), learner)
    command = re.search("`(.*)`", str(caught.value)).group(1)
    subprocess.run(command.split(), check=True)
    assert load_checkpoint(newest_checkpoint(tmp_path), learner) == {"save": "older"}


def test_a_checkpoint_of_a_run_with_other_options_is_refused_by_their_names(tmp_path):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner, options={"seed": 1, "clip": {"low": 0.2}, "families": ("a", "b")})
    assert load_checkpoint(path, learner, options={"seed": 1, "clip": {"low": 0.2}, "families": ("a", "b")}) == {}
    with pytest.raises(
        UsageError, match=r"other options \(clip.low was 0.2, is 0.3; seed was 1, is 2\): give the same"
    ):
        load_checkpoint(path, learner, options={"seed": 2, "clip": {"low": 0.3}, "families": ("a", "b")})


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(UsageError, match="has format 99, this version of THOR reads 2"):
        load_checkpoint(path, learner)


def test_a_checkpoint_names_the_versions_it_was_made_with(tmp_path):
    path = save_checkpoint(tmp_path, learner_of(tiny_model()))
    versions = json.loads((path / "manifest.json").read_text())["versions"]
    assert versions["torch"] == torch.__version__
    assert set(versions) == {"thor-tir", "torch", "transformers", "python"}


def test_going_on_with_other_versions_is_allowed_and_said(tmp_path, caplog):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner)
    load_checkpoint(path, learner)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (path / "manifest.json").write_text(json.dumps(manifest))
    load_checkpoint(path, learner)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f'other versions (torch was "1.0", is "{torch.__version__}")' in told


@pytest.mark.parametrize("room", [1.01, 1.1, 1.3, 1.5, 1.7, 1.9])
def test_a_full_disk_is_told_in_one_sentence_and_leaves_the_checkpoint_before(room, tmp_path):
    """The second checkpoint finds room for a part of itself: another writer fails each time, in its own words."""
    learner = learner_of(tiny_model())
    whole = save_checkpoint(tmp_path / "ample", learner)
    size = sum(4096 + file.stat().st_size // 4096 * 4096 for file in whole.rglob("*"))
    small = tmp_path / "small"
    with disk(small, int(room * size)):
        old = save_checkpoint(small, learner, extra={"save": "old"})
        with pytest.raises(DiskFull, match=r"^no room is left on the disk that holds .*: free some space$"):
            save_checkpoint(small, learner)
        assert list(small.iterdir()) == [old]  # the room is given back
        assert load_checkpoint(old, learner) == {"save": "old"}


def test_a_full_disk_is_recognised_behind_the_words_of_the_writer_of_tensors(tmp_path, monkeypatch):
    """As the zip writer of torch fails: it complains of a position, and its context holds the reason."""

    def full(*_args, **_kwargs):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")  # noqa: B904

    monkeypatch.setattr("torch.distributed.checkpoint.filesystem._write_files_from_queue", full)
    with pytest.raises(DiskFull):
        save_checkpoint(tmp_path, learner_of(tiny_model()))


EACH_IN_A_PROCESS = """
import json, os, sys
from pathlib import Path
from test_checkpoint import learner_of, run, tied_model
from thor_tir.learner.checkpoint import save_checkpoint
for place in sys.argv[1:]:
    if os.fork():
        assert os.wait()[1] == 0
        continue
    learner = learner_of(tied_model())
    run(learner, 2)
    manifest = json.loads((save_checkpoint(Path(place), learner) / "manifest.json").read_text())
    print(json.dumps(manifest["digests"]), flush=True)
    os._exit(0)
"""


def test_equal_runs_leave_equal_checkpoints_to_the_last_file(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    env = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-c", EACH_IN_A_PROCESS, str(tmp_path / "a"), str(tmp_path / "b")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    digests = [json.loads(line) for line in ended.stdout.splitlines()]
    assert digests[0] == digests[1]
    assert "state/random-0.pt" in digests[0]


@pytest.mark.parametrize("module", ["safetensors", "io"])
def test_want_of_room_is_recognised_in_the_words_of_libraries(module, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        if module == "io":
            raise RuntimeError("writer failed") from OSError(errno.ENOSPC, "No space left on device")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("thor_tir.learner.checkpoint.export_model", full)
    with pytest.raises(DiskFull):
        save_checkpoint(tmp_path, learner_of(tiny_model()))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, learner_of(tiny_model()))
    with pytest.raises(UsageError, match="cannot be loaded into this model"):
        load_checkpoint(path, learner_of(tied_model()))


def test_what_the_caller_saves_beside_it_is_readable_json(tmp_path):
    path = save_checkpoint(tmp_path, learner_of(tiny_model()), extra={"seen": ["a", "b"]})
    assert json.loads((path / "manifest.json").read_text())["extra"] == {"seen": ["a", "b"]}
    shutil.rmtree(path)
    assert newest_checkpoint(tmp_path) is None


def test_no_thread_is_left_that_frees_tensors_where_python_may_end(tmp_path, monkeypatch):
    before = set(threading.enumerate())

    class SlowToFree:
        def __del__(self):
            time.sleep(0.1)

    monkeypatch.setattr(saved_state.SavedState, "of", lambda *_, **__: SlowToFree())
    monkeypatch.setattr(CheckpointWriter, "_write", lambda *_: tmp_path)
    with CheckpointWriter(tmp_path, learner_of(tiny_model()), is_beside=True) as writer:
        writer.save()
    assert set(threading.enumerate()) == before


def test_random_states_are_written_before_processes_meet_to_write_weights(tmp_path, monkeypatch):
    found: list[str] = []
    monkeypatch.setattr(saved_state, "save", lambda *_, **__: found.extend(f.name for f in tmp_path.iterdir()))
    saved = saved_state.SavedState.of(learner_of(tiny_model()), extra={}, is_copy=False, ranks=ALONE)
    saved_state.write_state(tmp_path, saved)
    assert found == ["random-0.pt"]
