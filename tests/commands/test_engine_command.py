"""`thor engine check` and what `thor engine up` refuses before it starts anything."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_vllm import FakeVLLM
from thor_tir import commands
from thor_tir.engines.vllm.addresses import addresses_of, is_public
from thor_tir.errors import EngineFault, UsageError
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
    for expected in ("0.32.0", "processed_logprobs", "with the extension", "default", "awake", "fit for RL"):
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
