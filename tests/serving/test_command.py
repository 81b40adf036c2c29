"""The command: mistakes end before a model is loaded, and its end says what it is."""

from pathlib import Path

import pytest

from nano_server import nano_server
from thor_tir.cli import main
from thor_tir.sandbox.local.probe import probe


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "needs a key"),
        (["--key-file", "nowhere"], "cannot be read"),
        (["--port", "70000"], "a port is from 0 to 65535"),
        (["--queue.running", "0"], "at least one attempt"),
        (["--bounds.max-tokens", "10"], "stand above the bounds"),
        (["--audit-log", "."], "cannot be written"),
        (["--model", "no/such/model/here"], "no model at"),
        (["--preset", "large"], "--preset"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THOR_SERVE_KEYS", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["serve", *options])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in said
    assert "Traceback" not in said


def test_a_key_is_no_option_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--key", "0123456789abcdef"])
    assert "nrecognized" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.slow
@pytest.mark.skipif(probe().level != "full", reason="this machine does not confine programs fully")
def test_a_server_that_is_ended_has_status_0_and_says_so() -> None:
    with nano_server() as running:
        pass
    assert running.process.returncode == 0
