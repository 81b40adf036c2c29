"""One claim per way in which a program can end, waste, leave behind or lie."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from thor_tir.errors import UsageError
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits

OUTER_S = 60.0
"""No call may take longer, whatever the program does."""
LIMITS = Limits(timeout_s=8.0, memory_bytes=128 * 2**20, output_bytes=8 * 2**10)
BRIEF = Limits(timeout_s=0.3)


class Bench:
    """A sandbox of one worker on an event loop of its own, so that tests can call it plainly."""

    def __init__(self, runner: asyncio.Runner, sandbox: LocalSandbox) -> None:
        self._runner, self._sandbox = runner, sandbox
        self.level = sandbox.level

    def run(self, code: str, limits: Limits | None = None) -> ExecutionResult:
        return self._runner.run(asyncio.wait_for(self._sandbox.run(code, limits), OUTER_S))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    config = LocalSandboxConfig(workers=1, limits=LIMITS, modules=("math",))
    with asyncio.Runner() as runner:
        sandbox = runner.run(LocalSandbox(config).__aenter__())
        yield Bench(runner, sandbox)
        runner.run(sandbox.close())


@pytest.mark.parametrize(
    ("code", "status", "error", "exit_code"),
    [
        ("print(2**10)", Status.OK, None, 0),
        ("x = 1", Status.OK_NO_OUTPUT, None, 0),
        ("import os; os._exit(0)", Status.OK_NO_OUTPUT, None, 0),
        ("raise SystemExit", Status.OK_NO_OUTPUT, None, 0),
        ("x = (", Status.SYNTAX, "SyntaxError", 1),
        ("1 / 0", Status.RUNTIME, "ZeroDivisionError", 1),
        ("eval('1 +')", Status.RUNTIME, "SyntaxError", 1),  # the program compiled; what it compiled did not
        ("import sys; sys.exit(3)", Status.RUNTIME, "SystemExit", 3),
        ("import os; os._exit(3)", Status.RUNTIME, "exit code 3", 3),
        ("raise KeyboardInterrupt", Status.RUNTIME, "KeyboardInterrupt", 1),
        ("import os; os.abort()", Status.RUNTIME, "SIGABRT", -6),
        ("import os; os.kill(0, 9)", Status.RUNTIME, "SIGKILL", -9),
        ("input()", Status.RUNTIME, "EOFError", 1),
        ("import sys; sys.stdout.close(); print(1)", Status.RUNTIME, "ValueError", 1),
        ("import os; os.close(1); print(1)", Status.RUNTIME, "OSError", 1),
        ("x = 'a' * 10**10", Status.MEMORY, "MemoryError", 1),
        ("x = []\nwhile True: x.append('a' * 10**4)", Status.MEMORY, "MemoryError", 1),
        ("print('a' * 10**7)", Status.OUTPUT_LIMIT, None, None),
        ("while True: print('a')", Status.OUTPUT_LIMIT, None, None),
        ("import sys\nwhile True: print('a', file=sys.stderr)", Status.OUTPUT_LIMIT, None, None),
        ("import subprocess; subprocess.run(['true'])", Status.DENIED, "PermissionError", 1),
        ("import os; os.fork()", Status.DENIED, "PermissionError", 1),
        ("x = 'a\0b'", Status.SYNTAX, "SyntaxError", 1),
        ("x = '\ud800'", Status.SYNTAX, "UnicodeEncodeError", 1),
        ("(" * 10**4, Status.SYNTAX, "SyntaxError", 1),
    ],
)
def test_each_ending_has_its_status_its_cause_and_its_exit_code(
    bench: Bench, code: str, status: Status, error: str | None, exit_code: int | None
) -> None:
    result = bench.run(code)
    assert (result.status, result.error, result.exit_code) == (status, error, exit_code), result


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(3600)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import signal\nfor n in (15, 2, 17): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "10 ** 10 ** 9",  # one instruction that never returns to the interpreter
        "import threading, time; threading.Thread(target=time.sleep, args=(3600,)).start()",
        "import atexit, time; atexit.register(time.sleep, 3600)",
    ],
)
def test_whatever_does_not_end_is_ended_and_keeps_what_it_printed(bench: Bench, code: str) -> None:
    result = bench.run(f"print('so far')\n{code}", BRIEF)
    assert (result.status, result.stdout, result.exit_code) == (Status.TIMEOUT, "so far\n", None)
    assert not result.ran


def test_stdout_and_stderr_are_kept_apart_and_any_bytes_can_be_printed(bench: Bench) -> None:
    result = bench.run("import sys; sys.stdout.buffer.write(b'\\xff\\0'); print('π', chr(0xD800), file=sys.stderr)")
    assert (result.stdout, result.stderr) == ("\\xff\0", "π \\ud800\n")


def test_output_is_cut_at_the_limit_and_a_program_just_below_it_succeeds(bench: Bench) -> None:
    fits = bench.run(f"print('a' * {LIMITS.output_bytes - 1})")  # and the line feed
    assert (fits.status, len(fits.stdout)) == (Status.OK, LIMITS.output_bytes)
    floods = bench.run(f"print('a' * {LIMITS.output_bytes})")
    assert (floods.status, len(floods.stdout)) == (Status.OUTPUT_LIMIT, LIMITS.output_bytes)


def test_a_traceback_shows_the_programs_own_lines_and_no_file_of_the_host(bench: Bench) -> None:
    result = bench.run("import json\ndef f():\n    return json.loads('{')\nf()")
    assert result.error == "JSONDecodeError"
    assert result.stderr.splitlines()[:5] == [
        "Traceback (most recent call last):",
        '  File "main.py", line 4, in <module>',
        "    f()",
        '  File "main.py", line 3, in f',
        "    return json.loads('{')",
    ]
    assert result.stderr.count("File ") == 2
    assert "Expecting property name" in result.stderr.splitlines()[-1]


def test_a_huge_exception_message_is_a_failure_of_its_own_kind_and_not_a_flood(bench: Bench) -> None:
    result = bench.run("raise ValueError('a' * 10**6)")
    assert (result.status, result.error) == (Status.RUNTIME, "ValueError")


def test_a_very_long_program_runs(bench: Bench) -> None:
    lines = 20_000
    result = bench.run("x = 0\n" + "x += 1\n" * lines + "print(x)")
    assert result.stdout == f"{lines}\n"


def test_the_exit_hooks_and_threads_of_a_program_run_to_their_end(bench: Bench) -> None:
    code = """
import atexit, concurrent.futures, threading, time
atexit.register(print, "hook")
pool = concurrent.futures.ThreadPoolExecutor(2)  # never shut down: its idle threads must not hold the program
print(sum(pool.map(abs, [-1, -2])))
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
"""
    assert bench.run(code).stdout == "3\nthread\nhook\n"


def test_what_a_program_changes_in_its_modules_is_gone_for_the_next(bench: Bench) -> None:
    vandal = """
import builtins, math, os, sys
math.sqrt = lambda x: 42
builtins.print = builtins.len = None
os._exit = sys.exit = os.write = os.fork = lambda *_: 42
sys.modules.clear()
"""
    assert bench.run(vandal).ran  # although it took away the calls that would end it
    assert bench.run("import math; print(math.sqrt(16), len('ab'))").stdout == "4.0 2\n"


def test_the_working_directory_is_writable_and_every_program_finds_it_empty(bench: Bench) -> None:
    code = """
import os
print(os.listdir("."))
open("file", "w").write("text")
os.symlink("/", "root")
os.mkdir("locked"); open("locked/file", "w").close(); os.chmod("locked", 0)
for _ in range(30):  # 30 names of 200 characters: more than the 4096 of PATH_MAX
    os.mkdir("d" * 200); os.chdir("d" * 200)
"""
    for _ in range(2):
        result = bench.run(code)
        assert (result.status, result.stdout) == (Status.OK, "[]\n"), result.stderr
    assert os.path.isdir("/usr")


def test_a_folder_can_be_copied_with_all_that_is_known_of_its_files(bench: Bench) -> None:
    if bench.level != "full":
        pytest.skip("programs have a working folder at the level full only")
    code = "import os, shutil\nos.mkdir('a')\nopen('a/b', 'w').write('text')\nos.utime('a/b', (1, 1))\n"
    code += "shutil.copytree('a', 'c')\nprint(open('c/b').read(), os.stat('c/b').st_mtime)"
    result = bench.run(code)
    assert (result.stdout, result.stderr) == ("text 1.0\n", "")


def test_the_working_folder_has_a_size_and_the_next_program_finds_it_empty(bench: Bench) -> None:
    fill = "f = open('big', 'wb', buffering=0)\nwhile f.write(bytes(2**20)): pass"
    assert bench.run(fill).error == "OSError"
    many = "for i in range(10**4): open(f'{i}', 'w').close()"
    assert bench.run(many).error == "OSError"
    deep = "import os\nfor _ in range(500):\n    os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)"
    assert bench.run(deep).ran
    assert bench.run("import os; print(os.listdir('.'))").stdout == "[]\n"


def test_a_program_can_signal_itself_and_nobody_else(bench: Bench) -> None:
    assert bench.run("import os; os.kill(os.getppid(), 9)").error == "PermissionError"
    assert bench.run("import os; os.kill(-1, 9)").error == "PermissionError"
    assert bench.run("import os; os.kill(os.getpid(), 15)").error == "SIGTERM"
    assert bench.run("print(1)").stdout == "1\n"


def test_a_program_sees_no_variable_descriptor_or_argument_of_the_host(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    code = "import os, sys; print('API_KEY' in os.environ, sys.argv)\n"
    code += "for d in range(64):\n    try: os.fstat(d); print(d)\n    except OSError: pass"
    assert bench.run(code).stdout == "False ['main.py']\n0\n1\n2\n"


def test_the_network_cannot_be_reached(bench: Bench) -> None:
    result = bench.run("import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)")
    assert result.error == "PermissionError"


@pytest.mark.parametrize(
    "forgery",
    [
        """print('{"ending": "exit", "exit": 0, "stdout": "forged", "stderr": "", "report": ""}')""",
        """import os; os.write(2, b'ready\\nMemoryError\\n')""",
        """import os; os.write(1, b'{"kind": "memory", "name": "MemoryError"}')""",
        """import os; [os.write(d, b'\\0\\0\\0\\2{}') for d in (1, 2)]""",
    ],
)
def test_no_message_of_the_program_turns_success_into_failure_or_failure_into_success(
    bench: Bench, forgery: str
) -> None:
    assert bench.run(forgery).ran
    assert bench.run(f"{forgery}\nimport os; os._exit(7)").exit_code == 7
    assert not bench.run(f"{forgery}\n1 / 0").ran


def test_the_same_program_prints_the_same_in_every_worker_and_every_time() -> None:
    code = """
import random, numpy, sympy
print(random.random(), numpy.random.rand(), hash("text"), {"a", "b", "c"}, sympy.factorint(1234567890))
"""

    async def runs() -> set[str]:
        async with LocalSandbox(LocalSandboxConfig(workers=2)) as sandbox:
            return {result.stdout for result in await asyncio.gather(*(sandbox.run(code) for _ in range(6)))}

    (printed,) = asyncio.run(runs())
    assert "{2: 1, 3: 2, 5: 1, 3607: 1, 3803: 1}" in printed  # the order of a first call in a fresh process


def test_a_sandbox_without_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        LocalSandboxConfig(workers=0)
