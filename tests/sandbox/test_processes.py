"""Event loops run in a program; other processes do not, and whatever would start one says so."""

from collections.abc import Iterator

import pytest

from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.batch import BlockingSandbox
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits

PATIENT = Limits(timeout_s=20.0)


@pytest.fixture(scope="module", params=["full", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[BlockingSandbox]:
    with BlockingSandbox(LocalSandbox(LocalSandboxConfig(workers=1, strongest=request.param, modules=()))) as sandbox:
        if sandbox.level != request.param:
            pytest.skip(f"this host does not offer {request.param}")
        yield sandbox


def run(sandbox: BlockingSandbox, code: str) -> ExecutionResult:
    return sandbox.run(code, PATIENT)


LOOPS = {
    "a coroutine": ("async def m():\n    print(3)\nasyncio.run(m())", "3"),
    "many at once": (
        "async def m(n):\n    await asyncio.sleep(0.001 * n)\n    return n * n\n"
        "async def all_of_them():\n    print(await asyncio.gather(*map(m, range(5))))\nasyncio.run(all_of_them())",
        "[0, 1, 4, 9, 16]",
    ),
    "work in threads wakes the loop": (
        "async def m():\n    print(await asyncio.to_thread(pow, 2, 10))\nasyncio.run(m())",
        "1024",
    ),
    "a thread calls back": (
        "import threading\nasync def m():\n    loop = asyncio.get_running_loop()\n    f = loop.create_future()\n"
        "    threading.Thread(target=lambda: loop.call_soon_threadsafe(f.set_result, 7)).start()\n    print(await f)\n"
        "asyncio.run(m())",
        "7",
    ),
    "ten loops, one after the other": (
        "async def m(n):\n    return n\nprint(sum(asyncio.run(m(n)) for n in range(100)))",
        "4950",
    ),
    "a loop of one's own": (
        "loop = asyncio.new_event_loop()\nprint(loop.run_until_complete(asyncio.sleep(0, 5)))\nloop.close()",
        "5",
    ),
    "a queue and a time limit": (
        "async def m():\n    q = asyncio.Queue()\n    await q.put(1)\n    print(await q.get())\n"
        "    try:\n        await asyncio.wait_for(q.get(), 0.01)\n"
        "    except asyncio.TimeoutError:\n        print('late')\n"
        "asyncio.run(m())",
        "1\nlate",
    ),
    "a signal wakes the loop": (
        "import os, signal\nasync def m():\n    loop = asyncio.get_running_loop()\n    f = loop.create_future()\n"
        "    loop.add_signal_handler(signal.SIGUSR1, f.set_result, 'heard')\n"
        "    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)\n    print(await f)\nasyncio.run(m())",
        "heard",
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_event_loops_run(sandbox: BlockingSandbox, name: str) -> None:
    code, printed = LOOPS[name]
    result = run(sandbox, f"import asyncio\n{code}")
    assert (result.status, result.stdout, result.stderr) == (Status.OK, f"{printed}\n", "")


POOL = "from multiprocessing import {0}\ndef f(x): return x\nif __name__ == '__main__':\n    {1}"
STARTS = [
    "import os\nos.fork()",
    "import os\nos.forkpty()",
    "import os\nos.system('true')",
    "import os\nos.popen('true').read()",
    "import os\nos.execv('/bin/true', ['true'])",
    "import os\nos.execlp('true', 'true')",
    "import os\nos.spawnlp(os.P_WAIT, 'true', 'true')",
    "import os\nos.posix_spawn('/bin/true', ['true'], {})",
    "from posix import fork\nfork()",
    "import subprocess\nsubprocess.run(['true'])",
    "import subprocess\nprint(subprocess.check_output('echo 1', shell=True))",
    "from subprocess import Popen, PIPE\nPopen(['python', '-c', '1'], stdin=PIPE, stdout=PIPE).communicate()",
    "import subprocess\nprint(subprocess.getoutput('ls'))",
    POOL.format("Pool", "Pool(2).map(f, [1, 2, 3])"),
    POOL.format("Pool", "with Pool() as p: print(p.map(f, range(3)))"),
    POOL.format("Process", "p = Process(target=f, args=(1,)); p.start(); p.join()"),
    POOL.format("Manager", "Manager().list()"),
    POOL.format("get_context", "get_context('spawn').Process(target=f, args=(1,)).start()"),
    POOL.format("get_context", "get_context('forkserver').Pool(2)"),
    POOL.format("get_context", "get_context('forkserver').Process(target=f, args=(1,)).start()"),
    POOL.format("shared_memory", "shared_memory.SharedMemory(create=True, size=8)"),
    "from concurrent.futures import ProcessPoolExecutor as E\nwith E(2) as p:\n    print(list(p.map(abs, [-1])))",
    "import asyncio\nasync def m():\n    await asyncio.create_subprocess_exec('true')\nasyncio.run(m())",
    "import asyncio as a\nasync def m():\n    await a.create_subprocess_shell('cat', stdin=-1, stdout=-1)\na.run(m())",
]


@pytest.mark.parametrize("code", STARTS)
def test_a_program_that_would_start_a_process_is_told_that_it_cannot(sandbox: BlockingSandbox, code: str) -> None:
    result = run(sandbox, code)
    assert (result.status, result.error) == (Status.DENIED, "PermissionError"), result
    assert "processes are not allowed here" in result.stderr.splitlines()[-1]


ALONE = {
    "a pool of threads": (
        "from multiprocessing.pool import ThreadPool as P\nprint(P(2).map(abs, [-1, -2]))",
        "[1, 2]",
    ),
    "the dummy pool": ("from multiprocessing.dummy import Pool\nprint(Pool(2).map(abs, [-3]))", "[3]"),
    "a queue": ("from multiprocessing import Queue\nq = Queue()\nq.put('a')\nprint(q.get(timeout=5))", "a"),
    "a lock": (
        "from multiprocessing import Lock\nx = Lock()\nwith x: print(x.acquire(False))\nprint(x.acquire(timeout=1))",
        "False\nTrue",
    ),
    "a lock released too often": (
        "from multiprocessing import Lock\ntry:\n    Lock().release()\nexcept ValueError as e:\n    print(e)",
        "semaphore or lock released too many times",
    ),
    "a lock for one thread": (
        "from multiprocessing import RLock\nx = RLock()\nwith x:\n    with x:\n        print(x)\n"
        "try:\n    x.release()\nexcept AssertionError:\n    print('not mine')",
        "<RLock(MainProcess, 2)>\nnot mine",
    ),
    "a semaphore and an event": (
        "import multiprocessing as mp, threading\ns = mp.Semaphore(2)\n"
        "print(s.acquire(), s.acquire(), s.acquire(False))\n"
        "e = mp.Event()\nthreading.Thread(target=e.set).start()\nprint(e.wait(5), e.is_set())",
        "True True False\nTrue True",
    ),
    "a shared value": (
        "from multiprocessing import Value\nimport threading\nv = Value('i', 0)\ndef f():\n"
        "    for _ in range(500):\n        with v.get_lock(): v.value += 1\n"
        "ts = [threading.Thread(target=f) for _ in range(4)]\n[t.start() for t in ts]\n[t.join() for t in ts]\n"
        "print(v.value)",
        "2000",
    ),
    "a shared array": (
        "import multiprocessing as mp\nfrom multiprocessing.pool import ThreadPool\na = mp.Array('d', 5)\n"
        "def f(i): a[i] = i / 2\nThreadPool(2).map(f, range(5))\nprint(list(a))",
        "[0.0, 0.5, 1.0, 1.5, 2.0]",
    ),
    "raw shared values, large ones, and text": (
        "from multiprocessing import RawArray, RawValue, Array\na = RawArray('q', 2 ** 20)\na[-1] = 7\n"
        "b = Array('c', b'abc')\nprint(len(a), a[0], a[-1], RawValue('d', 2.5).value, b.value)",
        "1048576 0 7 2.5 b'abc'",
    ),
    "shared structures": (
        "import ctypes\nfrom multiprocessing import sharedctypes as s\nclass P(ctypes.Structure):\n"
        "    _fields_ = [('x', ctypes.c_int), ('y', ctypes.c_int)]\np = s.Value(P, 1, 2)\nq = s.copy(p.get_obj())\n"
        "p.x = 5\nprint(p.x + p.y, q.x)",
        "7 1",
    ),
    "a barrier": (
        "import multiprocessing as mp, threading\nb = mp.Barrier(2)\nt = threading.Thread(target=b.wait)\nt.start()\n"
        "b.wait(5)\nt.join()\nprint(b.broken)",
        "False",
    ),
    "what is known of the machine": (
        "import multiprocessing as mp\nprint(mp.cpu_count() > 0, mp.current_process().name)",
        "True MainProcess",
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_multiprocessing_does_within_one_process_is_there(sandbox: BlockingSandbox, name: str) -> None:
    code, printed = ALONE[name]
    result = run(sandbox, code)
    assert (result.status, result.stdout) == (Status.OK, f"{printed}\n"), result.stderr


def test_the_words_are_a_courtesy_and_the_filter_of_calls_is_the_wall(sandbox: BlockingSandbox) -> None:
    raw = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.fork(), ctypes.get_errno())"
    assert run(sandbox, raw).stdout == "-1 1\n"
    again = "import importlib, os, sys\nfor name in ('posix', 'os'): sys.modules.pop(name)\nimport os\nos.fork()"
    assert not run(sandbox, again).ran
    socket = "import socket\nfor make in (socket.socket, socket.socketpair):\n    try: make(); print('open')\n"
    socket += "    except PermissionError: print('held')"
    assert run(sandbox, socket).stdout == "held\nheld\n"
