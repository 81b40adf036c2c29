"""Servers that are kept up: waited for, started again with growing pauses, given up, and ended with whoever started
them. A small program stands in for vLLM's server."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from thor_tir.engines.vllm import supervisor
from thor_tir.engines.vllm.server import VLLMConfig, check_environment, is_cpu_build
from thor_tir.engines.vllm.supervisor import Layout, Supervisor, pause_s
from thor_tir.errors import EngineFault, UsageError

STAND_IN = """#!{python}
import http.server, json, os, sys
if sys.argv[1] == "-c":
    print("0.32.0")
    raise SystemExit
if os.environ.get("STAND_IN_FAILS"):
    raise SystemExit("Error: no room for the cache")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = {{"/health": {{}}, "/version": {{"version": "0.32.0"}}, "/is_paused": {{"is_paused": False}},
            "/v1/models": {{"data": [{{"id": "policy", "max_model_len": 64}}]}}}}.get(self.path)
        body = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.send_response(400)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    """An interpreter whose `-m vllm...` is a server of a few lines."""
    file = tmp_path / "python"
    file.write_text(STAND_IN.format(python=sys.executable))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def supervisor_of(stand_in: str, logs: Path, said: list[str], **environment: str) -> Supervisor:
    layout = Layout(host="127.0.0.1", port=free_port(), replicas=1, tensor_parallel=1)
    config = VLLMConfig(python=stand_in, environment=environment)
    return Supervisor("some/model", config, layout, logs, said.append)


def test_a_server_that_is_killed_is_started_again_and_said_to_be(stand_in: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "LOOK_S", 0.01)
    monkeypatch.setattr(supervisor, "pause_s", lambda deaths: 0.0)
    said: list[str] = []

    async def run() -> None:
        servers = supervisor_of(stand_in, tmp_path, said)
        (found,) = await servers.start()
        assert (found.version, found.admin, found.tokens) == ("0.32.0", True, True)
        watching = asyncio.create_task(servers.watch())
        first = servers.servers[0].pid
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(20):
            while not any("serves again" in line for line in said):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert servers.servers[0].pid != first
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await servers.stop()

    asyncio.run(run())
    assert "ended with status -9: it is started again in 0 s (death 1 in a row)" in said[0]


def test_a_server_that_keeps_dying_is_given_up_with_its_last_words(stand_in: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "LOOK_S", 0.01)
    monkeypatch.setattr(supervisor, "pause_s", lambda deaths: 0.0)
    monkeypatch.setattr(supervisor, "MOST_DEATHS", 1)

    async def run() -> None:
        servers = supervisor_of(stand_in, tmp_path, [], STAND_IN_FAILS="1")
        with pytest.raises(EngineFault, match="ended with status 1: Error: no room for the cache"):
            await servers.start()
        with pytest.raises(EngineFault, match="died 2 times in a row: Error: no room"):
            await servers.watch()
        await servers.stop()

    asyncio.run(run())


def test_pauses_double_up_to_a_minute() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 7, 30)] == [1, 2, 4, 60, 60]


def test_a_server_ends_with_the_process_that_started_it_even_by_sigkill(stand_in: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from thor_tir.engines.vllm.server import VLLMConfig, VLLMServer\n"
        "async def run():\n"
        f"    server = VLLMServer('m', VLLMConfig(python={stand_in!r}), host='127.0.0.1', port={free_port()})\n"
        "    await server.start()\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(run())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    end = os.pidfd_open(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    import select

    assert select.select([end], [], [], 20)[0], "the server outlived its parent"
    os.close(end)


def test_each_server_gets_gpus_of_its_own() -> None:
    layout = Layout(host="127.0.0.1", port=1, replicas=2, tensor_parallel=2, devices=("4", "5", "6", "7"))
    assert [layout.environment(n)["CUDA_VISIBLE_DEVICES"] for n in range(2)] == ["4,5", "6,7"]
    assert Layout(host="127.0.0.1", port=1, replicas=1, tensor_parallel=1).environment(0) == {}


def test_the_command_line_has_what_runs_need() -> None:
    command = VLLMConfig(sleeps=True, takes_nccl=True, tensor_parallel_size=2).command("m", ("--port", "1"))
    text = " ".join(command)
    for needed in (
        "--model m --served-model-name policy --port 1",
        "--tensor-parallel-size 2",
        "--logprobs-mode processed_logprobs",
        "--enable-scale-out",
        "--enable-sleep-mode",
        '--weight-transfer-config {"backend":"nccl"}',
        "--enable-prefix-caching",
    ):
        assert needed in text
    assert "--no-enable-chunked-prefill" not in command


@pytest.mark.parametrize(("version", "is_whole"), [("0.32.0", False), ("0.32.0+cpu", True), ("0.33.0+cu129", False)])
def test_on_a_cpu_prompts_are_read_whole_since_seeds_and_parts_of_prompts_kill_a_server(version, is_whole) -> None:
    command = VLLMConfig().command("m", (), is_cpu=is_cpu_build(version))
    assert ("--no-enable-chunked-prefill" in command) == is_whole


def test_an_interpreter_without_vllm_and_none_at_all_are_mistakes_of_the_user() -> None:
    with pytest.raises(UsageError, match="has no vLLM: name the interpreter"):
        check_environment(sys.executable)
    with pytest.raises(UsageError, match="cannot be started"):
        check_environment("/no/such/python")
