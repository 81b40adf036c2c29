"""Folders to a hub through its real client, against a stand-in of the hub's HTTP API; no network is asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub_server import TOKEN, Hub, hub
from thor_tir.app.model_card import model_card
from thor_tir.app.push import check_push, find_upload, push
from thor_tir.commands.options import identity
from thor_tir.commands.training import Rl, Sft
from thor_tir.errors import HubUnavailable, UsageError

client = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        client.close_session()
        yield running
        client.close_session()


def run_folder(folder: Path, **options: object) -> Path:
    """A run with a model of a few bytes."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    (folder / "model" / "model.safetensors").write_bytes(b"weights" * 10)
    (folder / "model" / ".hidden").write_text("mine")
    (folder / "config.json").write_text("{}")
    record = {
        "command": "thor sft --data /home/me/secret/chats.jsonl --model Qwen/Qwen3-0.6B",
        "options": {"model": "Qwen/Qwen3-0.6B", "data": "/home/me/secret/chats.jsonl", "sft": {"seed": 0}, **options},
        "versions": {"torch": "2.13.0"},
        "commit": "abc",
        "inputs": {"/home/me/secret/chats.jsonl": "12ab"},
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text('{"key": "1", "loss": 2.0}\n{"key": "2", "loss": 0.51234}\n')
    return folder


def pushed(folder: Path, name: str = "me/tuned", *, is_public: bool = False) -> str:
    said: list[str] = []
    push(find_upload(folder, name, "apache-2.0"), name, is_public=is_public, say=said.append)
    return said[0]


def test_a_model_is_pushed_privately_with_a_card_from_its_record_and_can_be_read_back(server: Hub, tmp_path: Path):
    said = pushed(run_folder(tmp_path / "run"))
    assert "3 files" in said
    assert "to the private model me/tuned; README.md was made from the record of the run" in said
    assert server.private == {"models/me/tuned": True}
    found = Path(client.snapshot_download("me/tuned", cache_dir=tmp_path / "cache"))
    assert {path.name for path in found.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert (found / "model.safetensors").read_bytes() == b"weights" * 10
    assert not (tmp_path / "run" / "model" / "README.md").exists()  # the model stays the input that other runs know
    assert client.ModelCard.load(found / "README.md").data.base_model == "Qwen/Qwen3-0.6B"


def test_a_card_says_what_the_record_says_and_nothing_of_places_on_this_machine(tmp_path: Path):
    folder = run_folder(tmp_path / "run")
    card = model_card("me/tuned", folder, folder / "model", "mit")
    assert 'license: "mit"' in card
    assert "| loss | 0.5123 |" in card
    assert "| chats.jsonl | `12ab` |" in card
    assert "| sft.seed | 0 |" in card
    assert "/home" not in card
    assert "secret" not in card
    assert "base_model" not in model_card("a/b", tmp_path / "no-run", folder / "model")


def test_pushing_again_and_to_ones_own_card_and_publicly(server: Hub, tmp_path: Path):
    folder = run_folder(tmp_path / "run")
    (folder / "model" / "README.md").write_text("mine")
    assert "was made" not in pushed(folder)
    pushed(folder / "model")
    assert server.files["models/me/tuned"]["README.md"] == b"mine"
    assert "public model me/open" in pushed(folder, "me/open", is_public=True)
    with pytest.raises(UsageError, match="is there already and public: give --public"):
        pushed(folder, "me/open")


def test_an_exported_data_set_is_pushed_as_one(server: Hub, tmp_path: Path):
    export = tmp_path / "tirgen" / "export"
    (export / "data").mkdir(parents=True)
    (export / "data" / "train.parquet").write_bytes(b"PAR1")
    (export / "README.md").write_text("---\nlicense: mit\n---\n# Data\n")
    assert "private dataset me/data" in pushed(tmp_path / "tirgen", "me/data")
    assert set(server.files["datasets/me/data"]) == {"README.md", "data/train.parquet"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "there is no folder"),
        (lambda folder: folder.mkdir(), "holds nothing to push"),
        (lambda folder: (run_folder(folder / "sft"), run_folder(folder / "rl")), "name one of them: .*rl, .*sft"),
        (lambda folder: (folder.mkdir(), (folder / "dataset.jsonl").write_text("{}")), "thor tirgen export"),
    ],
)
def test_a_folder_with_nothing_to_push_or_too_much_is_refused(tmp_path: Path, make, words):
    make(tmp_path / "run")
    with pytest.raises(UsageError, match=words):
        find_upload(tmp_path / "run", "me/tuned")


def test_faults_are_sentences_and_whose_they_are_is_kept_apart(server: Hub, tmp_path: Path, monkeypatch):
    folder = run_folder(tmp_path / "run")
    server.failures += [400]
    with pytest.raises(UsageError, match="does not take me/tuned"):
        pushed(folder)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UsageError, match="the hub refuses me/tuned"):
        pushed(folder)
    with pytest.raises(UsageError, match="is no name on a hub"):
        check_push("a b")
    monkeypatch.setattr(client, "get_token", lambda: None)
    with pytest.raises(UsageError, match="hf auth login"):
        check_push("me/tuned")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        check_push("me/tuned")


def test_a_hub_that_is_away_is_a_fault_of_the_machine(server: Hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnavailable, match="cannot be reached"):
        pushed(run_folder(tmp_path / "run"))


def test_the_command_takes_the_hub_and_the_token_from_the_environment_alone(tmp_path: Path):
    folder = run_folder(tmp_path / "run")
    with hub() as running:
        environment = {
            **os.environ,
            "HF_ENDPOINT": running.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
        }
        command = [sys.executable, "-m", "thor_tir", "push", str(folder), "me/tuned"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert f"{running.url}/me/tuned" in done.stdout
        assert running.private == {"models/me/tuned": True}


def test_where_a_run_is_published_is_no_part_of_what_it_is():
    assert identity(Sft(push_to_hub="me/tuned")) == identity(Sft())
    assert identity(Rl(push_to_hub="me/tuned")) == identity(Rl())
