"""What a program can do that a client made the model write: the real jail behind the server, attacked over HTTP."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from hostile_server import until
from scripted_agent import program
from served_scripts import ANSWER, DEFAULTS, serving
from thor_tir.sandbox.local.probe import probe
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits

pytestmark = pytest.mark.skipif(probe().level != "full", reason="this machine does not confine programs fully")
LIMITS = Limits(timeout_s=1.0, memory_bytes=256 * 2**20, output_bytes=20_000)
LIGHT: Any = {"limits": LIMITS, "least": "full", "modules": ("json",), "heavy_modules": ()}


def steps_of(programs: Sequence[str], **config: Any) -> list[dict[str, Any]]:
    """The step of each program, each asked for by a request of its own, one after another."""

    async def main() -> list[dict[str, Any]]:
        async with LocalSandbox(LocalSandboxConfig(workers=1, **LIGHT, **config)) as sandbox:
            found = []
            for code in programs:
                async with serving([program(code), ANSWER], sandbox=sandbox, defaults=DEFAULTS) as running:
                    reply = await running.ask(thor={"correction": False})
                    found.append(reply.json()["choices"][0]["thor"]["steps"][0])
            return found

    return asyncio.run(main())


FAMILIES = ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"]


def test_no_program_opens_a_socket_of_any_family() -> None:
    steps = steps_of([f"import socket\nprint(socket.socket(socket.{name}))" for name in FAMILIES])
    assert not [step["output"] for step in steps if step["status"] == "ok"]
    assert {step["level"] for step in steps} == {"full"}


def test_what_one_client_leaves_behind_another_does_not_find() -> None:
    mark = "open('marker', 'w').write('tenant one')\nprint('left')"
    seek = (
        "import glob, os\n"
        "roots = ('.', '/tmp', '/dev/shm', '/var/tmp')\n"
        "found = [p for root in roots for p in glob.glob(root + '/**', recursive=True)]\n"
        "print([p for p in found if 'marker' in p], os.environ.get('MARK'))"
    )
    left, sought = steps_of([mark + "\nimport os, sys\nos.environ['MARK'] = 'x'\nsys.modules['marker'] = sys", seek])
    assert left["output"] == "left"
    assert sought["output"] == "[] None"


def test_no_secret_of_the_server_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THOR_SERVE_KEYS", "0123456789abcdef-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    look = [
        "import os\nprint(sorted(v for v in os.environ.values() if 'secret' in v))",
        "import sys\nprint([a for a in sys.orig_argv if 'secret' in a])",
        "import glob\nprint([p for p in glob.glob('/proc/[0-9]*/environ') if b'secret' in open(p, 'rb').read()])",
        f"print('secret' in open('/proc/{os.getppid()}/environ').read())",
        "import gc\nprint([s for s in gc.get_objects() if isinstance(s, str) and 'sk-' + 'secret' in s])",
    ]
    steps = steps_of(look)
    assert [step["output"] for step in steps if step["status"] == "ok" and step["output"] != "[]"] == []


def test_a_program_has_no_rights_and_no_way_to_one() -> None:
    told = (
        "import os\n"
        "s = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)\n"
        "print(s['NoNewPrivs'], s['CapEff'], s['CapPrm'], s['Seccomp'])"
    )
    steps = steps_of([told, "import os\nos.setuid(0)\nos.system('id')\nprint('ran')", "import os\nprint(os.fork())"])
    assert steps[0]["status"] != "ok" or steps[0]["output"].split() == ["1", "0" * 16, "0" * 16, "2"]
    assert all(step["status"] != "ok" or "ran" not in step["output"] for step in steps[1:2])
    assert steps[2]["status"] != "ok"


STATUSES = {
    "while True: pass": {"timeout"},
    "import time\ntime.sleep(60)": {"timeout"},
    "x = bytearray(2**33)": {"memory"},
    "x = []\nwhile True: x.append(bytearray(2**24))": {"memory"},
    "while True: print('x' * 1000)": {"output_limit"},
    "import os\nwhile True: os.fork()": {"denied", "runtime"},
    "open('f', 'wb').write(b'x' * 2**30)": {"runtime", "memory"},
}
"""Statuses that a program may end with."""


def test_each_limit_ends_a_program_with_a_status_of_its_own_and_the_answer_goes_on() -> None:
    steps = steps_of([each for code in STATUSES for each in (code, "print(6 * 7)")])
    for (code, statuses), step, after in zip(STATUSES.items(), steps[::2], steps[1::2], strict=True):
        assert step["status"] in statuses, code
        assert after["output"] == "42", code


def test_a_server_whose_machine_lacks_a_layer_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from thor_tir.errors import SandboxUnavailable

    async def main() -> None:
        config = LocalSandboxConfig(workers=1, least="full", python="/usr/bin/false")
        async with LocalSandbox(config):
            pass

    with pytest.raises(SandboxUnavailable, match="full: "):
        asyncio.run(main())


def test_sandbox_processes_that_are_killed_under_load_lose_no_request() -> None:
    rounds, clients = 5, 8
    names = [f"Q{n}?" for n in range(rounds * clients)]
    replies = [program("import time\ntime.sleep(0.05)\nprint(77)"), ANSWER]
    done: list[str] = []

    async def main() -> None:
        async with (
            LocalSandbox(LocalSandboxConfig(workers=2, **LIGHT)) as sandbox,
            serving(dict.fromkeys(names, replies), sandbox=sandbox, defaults=DEFAULTS) as running,
        ):

            async def ask(name: str) -> None:
                reply = await running.ask(name, thor={"correction": False})
                done.append(reply.json()["choices"][0]["thor"]["answer"])

            asking = [asyncio.create_task(ask(name)) for name in names]
            for number in range(rounds):
                await until(lambda: len(done) > number * clients // 2)  # noqa: B023 - awaited at once
                psutil.Process().children()[0].kill()
            await asyncio.gather(*asking)

    asyncio.run(main())
    assert done == ["77"] * len(names)
