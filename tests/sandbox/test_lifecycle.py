"""The pool around the programs: order, loss of templates, cancellation, shutdown, and the uid of a plain user."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import thor_tir
from thor_tir.errors import SandboxLost, SandboxUnavailable
from thor_tir.execution import Status
from thor_tir.sandbox.local.probe import probe
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits

ONE = LocalSandboxConfig(workers=1, modules=(), limits=Limits(timeout_s=10.0))
PATIENCE_S = 60.0
PLAIN_UID = 12345
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="this host has no /proc")


Use = Callable[[LocalSandbox], Awaitable[None]]


def with_sandbox(use: Use, config: LocalSandboxConfig = ONE) -> None:
    async def main() -> None:
        async with LocalSandbox(config) as sandbox:
            await use(sandbox)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def template_pids() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_200_mixed_programs_are_answered_in_order_and_exactly_once() -> None:
    endings = [
        ("print({0})", Status.OK, "{0}\n"),
        ("print({0}); 1 / 0", Status.RUNTIME, "{0}\n"),
        ("print({0}", Status.SYNTAX, ""),
        ("import os; print({0}, flush=True); os.kill(os.getpid(), 9)", Status.RUNTIME, "{0}\n"),
    ]

    async def use(sandbox: LocalSandbox) -> None:
        codes = [endings[i % 4][0].format(i) for i in range(200)]
        results = await asyncio.gather(*map(sandbox.run, codes))
        expected = [(endings[i % 4][1], endings[i % 4][2].format(i)) for i in range(200)]
        assert [(result.status, result.stdout) for result in results] == expected

    with_sandbox(use, LocalSandboxConfig(workers=2, modules=(), limits=Limits(timeout_s=20.0)))


def test_programs_are_answered_while_the_event_loop_is_busy_most_of_the_time() -> None:
    async def use(sandbox: LocalSandbox) -> None:
        answers = asyncio.gather(*(sandbox.run(f"print({i})") for i in range(10)))
        while not answers.done():
            time.sleep(0.05)  # noqa: ASYNC251  # an engine that computes in the same loop
            await asyncio.sleep(0)
        assert [result.stdout for result in await answers] == [f"{i}\n" for i in range(10)]

    with_sandbox(use)


def test_one_block_of_the_event_loop_longer_than_all_patience_is_not_taken_for_a_silent_template() -> None:
    config = LocalSandboxConfig(workers=1, modules=(), limits=Limits(timeout_s=0.3), grace_s=0.3)

    async def use(sandbox: LocalSandbox) -> None:
        before = template_pids()
        answer = asyncio.ensure_future(sandbox.run("print(1)"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(1.0)  # noqa: ASYNC251
        assert (await answer).stdout == "1\n"
        assert template_pids() == before

    with_sandbox(use, config)


@needs_proc
def test_a_killed_template_is_replaced_and_its_program_run_again() -> None:
    async def use(sandbox: LocalSandbox) -> None:
        (template,) = template_pids()
        answer = asyncio.ensure_future(sandbox.run("import time; time.sleep(0.2); print(1)"))
        await asyncio.sleep(0.1)
        os.kill(template, signal.SIGKILL)
        assert (await answer).stdout == "1\n"
        assert template not in template_pids()

    with_sandbox(use)


@needs_proc
def test_a_template_that_is_killed_beside_its_watcher_is_replaced_and_its_program_run_again() -> None:
    async def use(sandbox: LocalSandbox) -> None:
        (watcher,) = template_pids()
        answer = asyncio.ensure_future(sandbox.run("import time; time.sleep(0.2); print(1)"))
        await asyncio.sleep(0.1)
        os.kill(_descendants(watcher)[0], signal.SIGKILL)
        result = await answer
        assert (result.stdout, result.runs) == ("1\n", 2)

    for level in ("full", "landlock"):
        with_sandbox(use, LocalSandboxConfig(workers=1, modules=(), strongest=level))


@needs_proc
def test_a_stopped_template_is_replaced_and_its_program_run_again() -> None:
    async def use(sandbox: LocalSandbox) -> None:
        (template,) = template_pids()
        os.kill(_descendants(template)[0], signal.SIGSTOP)
        assert (await sandbox.run("print(1)")).stdout == "1\n"
        assert template not in template_pids()

    with_sandbox(use, LocalSandboxConfig(workers=1, modules=(), limits=Limits(timeout_s=1.0), grace_s=0.1))


@needs_proc
def test_a_program_whose_template_dies_twice_is_a_fault_of_the_machine_and_the_sandbox_recovers() -> None:
    async def use(sandbox: LocalSandbox) -> None:
        answer = asyncio.ensure_future(sandbox.run("import time; time.sleep(5)"))
        while not answer.done():
            for template in template_pids():
                os.kill(template, signal.SIGKILL)
            await asyncio.sleep(0.05)
        with pytest.raises(SandboxUnavailable, match=r"status -9; then .*status -9"):
            await answer
        assert (await sandbox.run("print(1)")).stdout == "1\n"

    with_sandbox(use)


@needs_proc
def test_a_host_that_can_run_no_program_any_more_is_lost_and_no_single_program(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    config = LocalSandboxConfig(workers=1, modules=(), python=str(python), tolerance=3, strongest="none", least="none")

    async def faults_of(sandbox: LocalSandbox, count: int) -> list[type[BaseException]]:
        answers = await asyncio.gather(*(sandbox.run("print(1)") for _ in range(count)), return_exceptions=True)
        return [type(answer) for answer in answers if isinstance(answer, BaseException)]

    async def use(sandbox: LocalSandbox) -> None:
        python.unlink()
        for template in template_pids():
            os.kill(template, signal.SIGKILL)
        assert await faults_of(sandbox, 2) == [SandboxUnavailable] * 2
        python.symlink_to(sys.executable)
        assert await faults_of(sandbox, 1) == []
        python.unlink()
        for template in template_pids():
            os.kill(template, signal.SIGKILL)
        assert await faults_of(sandbox, 4) == [SandboxUnavailable, SandboxUnavailable, SandboxLost, SandboxLost]

    with_sandbox(use, config)


def test_an_interpreter_that_cannot_start_is_a_fault_of_the_machine_and_its_last_words_are_told() -> None:
    async def use(sandbox: LocalSandbox) -> None:
        pytest.fail("the sandbox opened")

    with pytest.raises(SandboxUnavailable, match="/no/such/python"):
        with_sandbox(use, LocalSandboxConfig(workers=2, python="/no/such/python"))
    with pytest.raises(SandboxUnavailable, match="ended: status 1"):
        with_sandbox(use, LocalSandboxConfig(workers=2, python="/bin/false"))


def test_a_module_that_is_not_installed_is_skipped_and_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def use(sandbox: LocalSandbox) -> None:
        assert (await sandbox.run("print(1)")).stdout == "1\n"

    with_sandbox(use, LocalSandboxConfig(workers=1, modules=("no_such_module", "math")))
    assert "not preloaded: no_such_module" in caplog.text


@needs_proc
def test_a_cancelled_call_stops_its_program_and_frees_its_worker(tmp_path: Path) -> None:
    async def use(sandbox: LocalSandbox) -> None:
        templates = template_pids()
        endless = asyncio.ensure_future(sandbox.run("while True: pass", Limits(timeout_s=3600)))
        queued = asyncio.ensure_future(sandbox.run("print('never')"))
        await asyncio.sleep(0.1)
        for call in (queued, endless):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert (await sandbox.run("print(1)")).stdout == "1\n"  # with an hour to go, only a stopped program frees it
        assert template_pids() == templates

    with_sandbox(use)


def test_calls_that_run_or_wait_or_come_late_are_told_that_the_sandbox_is_closed() -> None:
    async def main() -> None:
        async with LocalSandbox(ONE) as sandbox:
            calls = [asyncio.ensure_future(sandbox.run("while True: pass", Limits(timeout_s=3600))) for _ in range(3)]
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*calls, sandbox.run("print(1)"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [SandboxUnavailable] * 4

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@needs_proc
def test_after_closing_no_process_or_descriptor_is_left() -> None:
    async def main() -> None:
        children, descriptors = template_pids(), os.listdir("/proc/self/fd")
        async with LocalSandbox(LocalSandboxConfig(workers=2, modules=())) as sandbox:
            await asyncio.gather(*(sandbox.run("open('file', 'w').write('text')") for _ in range(4)))
        assert (template_pids(), os.listdir("/proc/self/fd")) == (children, descriptors)

    asyncio.run(main())


@needs_proc
def test_when_the_parent_is_killed_templates_and_programs_die_too() -> None:
    script = """
        import asyncio
        from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
        from thor_tir.sandbox.protocol import Limits

        async def main():
            async with LocalSandbox(LocalSandboxConfig(workers=1, modules=())) as sandbox:
                await sandbox.run("while True: pass", Limits(timeout_s=3600))

        asyncio.run(main())
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE)
    try:
        pids = _eventually(lambda: found if len(found := _descendants(parent.pid)) >= 3 else [])
    finally:
        parent.kill()
        parent.communicate()
    _eventually(lambda: not any(_is_running(pid) for pid in pids))


def _descendants(pid: int) -> list[int]:
    """Launcher, template and program of a sandbox whose process is `pid`."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [each for child in children for each in _descendants(child)]


def _eventually(attempt: Callable[[], Any]) -> Any:
    """The first true value of `attempt`, which may fail until its file exists."""
    for _ in range(int(PATIENCE_S / 0.05)):
        try:
            if value := attempt():
                return value
        except FileNotFoundError:
            pass
        time.sleep(0.05)
    pytest.fail("did not happen in time")


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# ---- root and plain users -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def public_python() -> str:
    """An interpreter that a user without any rights can run, which takes root to find out."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as a plain user every other test covers this case")
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            finished = subprocess.run(check, user=PLAIN_UID, group=PLAIN_UID, extra_groups=[], check=False)
        except OSError:
            continue
        if finished.returncode == 0:
            return candidate
    pytest.skip("no Python >= 3.11 that a plain user can read")


def _uids(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[:4]


def test_programs_of_root_get_a_uid_of_their_own() -> None:
    if os.geteuid() != 0:
        pytest.skip("this process is not root")

    async def use(sandbox: LocalSandbox) -> None:
        (launcher,) = template_pids()
        uids = _uids(launcher)
        assert uids == [uids[0]] * 4
        assert int(uids[0]) >= 200_000
        assert (await sandbox.run("open('mine', 'w').close(); import os; print(os.getgroups())")).ran

    with_sandbox(use)


def test_a_plain_user_has_the_same_sandbox(public_python: str) -> None:
    script = """
        import asyncio, json
        from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
        from thor_tir.sandbox.protocol import Limits

        async def main():
            async with LocalSandbox(LocalSandboxConfig(workers=1, modules=())) as sandbox:
                codes = ["print(1)", "x = 'a' * 10**10", "import socket; socket.socket()"]
                codes += ["import os; os.fork()", "import os; os.mkdir('d'); os.chmod('d', 0)"]
                results = [await sandbox.run(code) for code in codes]
                results.append(await sandbox.run("while True: pass", Limits(timeout_s=0.2)))
            print(json.dumps([sandbox.level, [r.status for r in results]]))

        asyncio.run(main())
    """
    finished = subprocess.run(
        [public_python, "-B", "-c", textwrap.dedent(script)],
        **{"user": PLAIN_UID, "group": PLAIN_UID, "extra_groups": []},
        env={"PYTHONPATH": str(Path(thor_tir.__file__).parents[1]), "TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    level, statuses = json.loads(finished.stdout)
    if level != "full":
        pytest.skip(f"this host gives plain users the level {level} only")
    assert statuses == ["ok", "memory", "denied", "denied", "ok_no_output", "timeout"]


def test_a_user_who_runs_many_processes_has_a_sandbox(public_python: str) -> None:
    script = """
        import asyncio, subprocess
        from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig

        async def main(level):
            async with LocalSandbox(LocalSandboxConfig(workers=1, modules=(), strongest=level)) as sandbox:
                print((await sandbox.run("print(6 * 7)")).stdout, end="")

        others = [subprocess.Popen(["sleep", "60"]) for _ in range(80)]
        try:
            for level in ("full", "landlock"):
                asyncio.run(main(level))
        finally:
            for other in others:
                other.kill()
    """
    finished = subprocess.run(
        [public_python, "-B", "-c", textwrap.dedent(script)],
        **{"user": PLAIN_UID, "group": PLAIN_UID, "extra_groups": []},
        env={"PYTHONPATH": str(Path(thor_tir.__file__).parents[1]), "TMPDIR": "/tmp", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert finished.stdout == "42\n42\n", finished.stderr[-500:]


def test_the_probe_finds_every_layer_at_full() -> None:
    finding = probe()
    assert finding.level in ("full", "landlock")
    held = {layer.name for layer in finding.layers if layer.is_available}
    assert {"process", "memory", "network", "system-call filter", "no rights"} <= held
    if finding.level == "full":
        assert finding.missing == ()
        assert len(held) == len(finding.layers)
    else:
        assert all("full" in reason for reason in finding.missing)
