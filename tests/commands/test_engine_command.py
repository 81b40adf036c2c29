"""`thor engine check` and what `thor engine up` refuses before it starts anything."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_vllm import FakeVLLM
from thor_tir import commands
from thor_tir.cli import main
from thor_tir.engines.vllm import server
from thor_tir.engines.vllm.address_file import own_file
from thor_tir.engines.vllm.addresses import addresses_of, is_public
from thor_tir.errors import EngineFault, UsageError
from thor_tir.storage.journal import write_atomically
from tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[FakeVLLM]:
    """A fake server in a loop of its own: the command brings one, too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = FakeVLLM(tiny_model(), tiny_tokenizer(), **getattr(request, "param", {}))
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    yield server
    asyncio.run_coroutine_threadsafe(server.kill(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_server_with_all_routes_is_fit_and_its_abilities_stand_in_one_table(served: FakeVLLM, capsys) -> None:
    commands.run("engine", ["check", served.address])
    text = capsys.readouterr().out
    for expected in ("0.32.0", "processed_logprobs", "float32", "with the extension", "default", "awake", "fit for RL"):
        assert expected in text
    assert "not fit" not in text


@pytest.mark.parametrize("served", [{"is_administrable": False, "is_open": False}], indirect=True)
def test_a_server_without_administrative_routes_is_not_fit_and_the_status_says_so(served: FakeVLLM, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.run("engine", ["check", served.address])
    assert ended.value.code == 1
    text = capsys.readouterr().out
    assert "not fit for RL" in text
    assert "--enable-scale-out" in text


def test_an_address_where_nothing_answers_is_a_fault_in_one_sentence(served: FakeVLLM) -> None:
    with pytest.raises(EngineFault, match=r"nothing answers at http://127\.0\.0\.1:1"):
        commands.run("engine", ["check", "http://127.0.0.1:1"])


@pytest.mark.parametrize("host", ["0.0.0.0", "8.8.8.8", "::"])
def test_a_public_address_is_refused_with_the_reason(host: str) -> None:
    with pytest.raises(UsageError, match=r"no loopback or private address.*run code there"):
        commands.run("engine", ["up", "--model", "nano/actor", "--host", host])


def test_loopback_and_private_networks_are_not_public() -> None:
    places = ("127.0.0.1:1", "10.1.2.3:1", "192.168.0.7:1", "localhost:1", "[::1]:1", "[fe80::1]:1")
    assert not any(is_public(f"http://{place}") for place in places)
    assert is_public("http://1.1.1.1:80")


def test_addresses_come_from_words_and_from_the_file_that_the_command_writes(tmp_path: Path) -> None:
    file = tmp_path / "addresses.txt"
    file.write_text("# engines\nhttp://127.0.0.1:8100\nhttp://127.0.0.1:8101\n")
    assert addresses_of([str(file), "http://10.0.0.5:9/"]) == [
        "http://127.0.0.1:8100",
        "http://127.0.0.1:8101",
        "http://10.0.0.5:9",
    ]
    for wrong, why in (("no-such-file", "neither an address"), ("http://127.0.0.1:8100", "stands twice")):
        with pytest.raises(UsageError, match=why):
            addresses_of([str(file), wrong])
    file.write_text("\n")
    with pytest.raises(UsageError, match="holds no address"):
        addresses_of([str(file)])


def test_a_port_in_use_is_refused_before_anything_starts_and_a_file_of_another_stays(
    served: FakeVLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "check_environment", lambda *named: "0.32.0")
    file = tmp_path / "addresses.txt"
    file.write_text("http://10.0.0.5:8100\n")
    port = served.address.rpartition(":")[2]
    with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is in use: give another --port"):
        commands.run("engine", ["up", "--model", "nano/actor", "--port", port, "--output", str(file)])
    assert file.read_text() == "http://10.0.0.5:8100\n"


def test_a_file_of_addresses_belongs_to_one_command_which_deletes_only_what_it_wrote(tmp_path: Path) -> None:
    file = tmp_path / "addresses.txt"
    file.write_text("of another\n")
    with own_file(file):
        home = own_file.__module__
        other = f"from pathlib import Path\nfrom {home} import own_file\nwith own_file(Path({str(file)!r})): 0"
        ended = subprocess.run([sys.executable, "-c", other], check=False, capture_output=True, text=True)
        assert "another `thor engine up` keeps" in ended.stderr
    assert file.read_text() == "of another\n"
    with own_file(file):
        write_atomically(file, "ours\n")
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "visible", "sentence"),
    [
        (["--replicas", "4"], "0,1", r"4 servers of 1 GPUs need 4, and this process may use .* 2$"),
        (["--replicas", "2", "--devices", "3"], None, r"2 servers of 1 GPUs need 2, and --devices names 1$"),
        (["--port", "99999"], "", r"1 servers have no ports from --port 99999 on"),
        (["--port", "65535", "--replicas", "2"], "", r"2 servers have no ports from --port 65535 on"),
        (["--python", "/no/such/python"], "", r"cannot be started .*: see --python$"),
    ],
)
def test_places_that_are_not_there_are_refused(
    words: list[str], visible: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(UsageError, match=sentence):
        commands.run("engine", ["up", "--model", "nano/actor", *words])


def test_a_fault_of_a_command_that_keeps_nothing_promises_no_continuation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["engine", "check", "http://127.0.0.1:1"])
    assert "the same command continues" not in capsys.readouterr().err


def test_two_parts_of_an_evaluation_share_a_server_and_its_tokens_are_counted_once(
    served: FakeVLLM, tmp_path: Path
) -> None:
    model, output = tmp_path / "model", tmp_path / "run"
    tiny_model(seed=1).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    (problems := tmp_path / "own.csv").write_text("question,answer\n1+1?,2\n2+1?,3\n")
    words = f"--model {model} --problems {problems} --no-tools --samples 1 --rollout.max-completion-length 8"
    engine = ["--engine.name", "vllm", "--engine.address", served.address, "--output", str(output)]
    for part in ("1/2", "2/2"):
        commands.run("eval", [*words.split(), *engine, "--shard", part])
    records = [json.loads((output / f"endpoint{each}.json").read_text()) for each in (".1-of-2", ".2-of-2", "")]
    first, second, both = (record["engines"][served.address] for record in records)
    assert first["requests"] > 0
    assert second["requests"] > 0
    assert both["requests"] == first["requests"] + second["requests"] == len(served.seen_prompts)
    assert both["sampled_tokens"] == first["sampled_tokens"] + second["sampled_tokens"] > 0
    assert served.calls.count("/pause") == 1  # the second part found its weights there
