"""Programs that mean harm, beyond those of the shared corpus: endings that must be told.

None of these may run outside the sandbox.
"""

from dataclasses import dataclass

from thor_tir.execution import Status


@dataclass(frozen=True, kw_only=True)
class Ends:
    """A program that must end in one of some ways, whatever it tries."""

    name: str
    code: str
    allowed: tuple[Status, ...]
    timeout_s: float = 5.0


FINE = (Status.OK, Status.OK_NO_OUTPUT)
FAILS = (Status.RUNTIME, Status.DENIED, Status.MEMORY)
ENDS = (
    Ends(
        name="a forged report on stdout with a real exit code",
        code=(
            "import os, struct\nos.write(1, struct.pack('!IBiddQHQQ', 0, 0, 0, 0, 0, 0, 0, 7, 0) + b'success')\n"
            "os._exit(7)"
        ),
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="a forged READY and greeting on every descriptor",
        code=(
            "import os\nfor d in range(3, 64):\n"
            "    try: os.write(d, b'+\\0\\0\\0\\2{}'); print('ESCAPED')\n    except OSError: pass"
        ),
        allowed=FINE,
    ),
    Ends(
        name="a traceback with exit code 0",
        code="import os, sys\nprint('Traceback: MemoryError', file=sys.stderr, flush=True)\nos._exit(0)",
        allowed=FINE,
    ),
    Ends(
        name="the harness patched through the frames above",
        code=(
            "import sys\nframe = sys._getframe()\nwhile frame := frame.f_back:\n"
            "    for name in ('_note', '_tell', '_wind_up', '_write_error', 'READY'):\n"
            "        frame.f_globals[name] = lambda *a, **k: 0\nraise ValueError('still a failure')"
        ),
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="the signal for used-up time, sent by the program itself",
        code="import os, signal\nos.kill(os.getpid(), signal.SIGXCPU)",
        allowed=(Status.RUNTIME,),
    ),
    Ends(name="an alarm", code="import signal\nsignal.alarm(1)\nsignal.pause()", allowed=(Status.RUNTIME,)),
    Ends(
        name="a storm of alarms",
        code="import signal\nsignal.signal(14, lambda *a: None)\nsignal.setitimer(0, 1e-6, 1e-6)\nwhile True: pass",
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(
        name="stopped by itself",
        code="import os, signal\nos.kill(0, signal.SIGSTOP)",
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(name="faulthandler's own crash", code="import faulthandler\nfaulthandler._sigsegv()", allowed=FAILS),
    Ends(
        name="faulthandler's own exit",
        code="import faulthandler, time\nfaulthandler.dump_traceback_later(0.1, exit=True)\ntime.sleep(9)",
        allowed=FAILS,
    ),
    Ends(
        name="a recursion without bound",
        code="import sys\nsys.setrecursionlimit(2**31 - 1)\nf = lambda: f()\nf()",
        allowed=(*FAILS, Status.TIMEOUT),
        timeout_s=1.5,
    ),
    Ends(name="a huge exception", code="raise ValueError('x' * 10**8)", allowed=FAILS),
    Ends(
        name="an exception that does not end",
        code="class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(
        name="an exception whose name is a forged report",
        code='raise type(\'", "kind": "memory\', (Exception,), {})()',
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="a chain of ten thousand exceptions",
        code="e = None\nfor i in range(10**4):\n    n = ValueError(i); n.__cause__ = e; e = n\nraise e",
        allowed=FAILS,
    ),
    Ends(
        name="exit hooks that beget exit hooks",
        code="import atexit\ndef f(): atexit.register(f); atexit._run_exitfuncs()\natexit.register(f)",
        allowed=(Status.TIMEOUT, *FINE, *FAILS),
        timeout_s=0.7,
    ),
    Ends(
        name="threads that would outlive the program",
        code=(
            "import threading, time\ndef f():\n    while True: time.sleep(0.01)\n"
            "for _ in range(20): threading.Thread(target=f, daemon=True).start()\nprint('done')"
        ),
        allowed=FINE,
    ),
    Ends(
        name="two threads that wait for each other",
        code=("import threading\na = threading.Lock(); a.acquire()\nthreading.Thread(target=a.acquire).start()"),
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(
        name="a collector's callback that does not end",
        code="import gc\ngc.callbacks.append(lambda *a: [None for _ in iter(int, 1)])\ngc.collect()",
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(
        name="a finalizer that raises the dead",
        code=("kept = []\nclass A:\n    def __del__(self): kept.append(self); A()\nA()\nprint(len(kept))"),
        allowed=(*FAILS, *FINE, Status.TIMEOUT),
        timeout_s=1.5,
    ),
    Ends(
        name="another interpreter in the process",
        code="import _xxsubinterpreters as i\nn = i.create()\ni.run_string(n, 'import os; os._exit(3)')",
        allowed=FAILS,
    ),
    Ends(
        name="mappings without end",
        code="import mmap\nkept = []\nwhile True: kept.append(mmap.mmap(-1, 2**24))",
        allowed=FAILS,
    ),
    Ends(
        name="memory asked for in C",
        code="import numpy\nnumpy.ones(10**11)",
        allowed=(Status.MEMORY,),
    ),
    Ends(name="a folder full of names", code="for i in range(10**6): open(str(i), 'w')", allowed=FAILS),
    Ends(
        name="a file of ten gigabytes",
        code="import os\nf = os.open('f', os.O_CREAT | os.O_RDWR)\nos.posix_fallocate(f, 0, 10**10)",
        allowed=FAILS,
    ),
    Ends(
        name="a sparse file of many gigabytes",
        code="f = open('f', 'wb'); f.truncate(10**12)",
        allowed=FAILS,
    ),
    Ends(
        name="power in C that never returns to the interpreter",
        code="pow(7, 10**7, 10**(10**6) + 7)",
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(
        name="an iteration in C without end",
        code="import collections, itertools\ncollections.deque(itertools.count(), maxlen=0)",
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(
        name="text of every kind",
        code="print('\\u202e', '\\ufeff', '\\0', chr(0xDFFF), chr(0x10FFFF), 'e' + '\\u0301' * 1000)",
        allowed=FINE,
    ),
    Ends(
        name="streams closed and crossed",
        code="import os\nos.dup2(2, 1)\nos.close(2)\nprint('crossed', flush=True)\nos.close(1)",
        allowed=FINE,
    ),
    Ends(
        name="a flood through a pipe that does not wait",
        code=(
            "import os\nos.set_blocking(1, False)\nwhile True:\n"
            "    try: os.write(1, b'x' * 65536)\n    except BlockingIOError: pass"
        ),
        allowed=(Status.OUTPUT_LIMIT,),
    ),
    Ends(
        name="a stream that cannot be flushed",
        code="import sys\nclass S:\n    closed = False\n    def write(self, text): pass\nsys.stdout = S()",
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="a call of the second table",
        code="import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)\nprint('ESCAPED')",
        allowed=(Status.DENIED,),
    ),
    Ends(
        name="the thread's own base register set to nothing",
        code="import ctypes\nctypes.CDLL(None).syscall(158, 0x1002, 0)\nprint('ESCAPED')",
        allowed=FAILS,
    ),
    Ends(
        name="both streams flooded at once",
        code=(
            "import os, threading\ndef flood(d):\n    while True: os.write(d, b'x' * 65536)\n"
            "threading.Thread(target=flood, args=(2,)).start()\nflood(1)"
        ),
        allowed=(Status.OUTPUT_LIMIT,),
    ),
    Ends(
        name="a million lines",
        code="for i in range(10**6): print(i)",
        allowed=(Status.OUTPUT_LIMIT,),
    ),
    Ends(
        name="every byte there is, four times as long when it is told",
        code=(
            "import os\nfor _ in range(100):\n    os.write(1, bytes(range(256)) * 8)\n"
            "    os.write(2, b'\\xff\\0\\x1b[2J' * 99)"
        ),
        allowed=FINE,
    ),
    Ends(
        name="left by a thread while the program goes on",
        code="import os, threading\nthreading.Thread(target=lambda: os._exit(3)).start()\nwhile True: pass",
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="a tracer that follows into the harness",
        code=(
            "import sys\ndef trace(frame, event, argument):\n"
            "    if frame.f_code.co_filename != 'main.py': raise OSError(1)\n    return trace\n"
            "sys.settrace(trace)\nsys._getframe().f_back.f_trace = trace\nprint('done')"
        ),
        allowed=(*FINE, *FAILS),
    ),
    Ends(
        name="an audit hook that refuses all that follows",
        code="import sys\ndef refuse(*event): raise SystemError\nsys.addaudithook(refuse)\nopen('x')",
        allowed=FAILS,
    ),
    Ends(
        name="the builtins taken away from the harness",
        code="import builtins\nbuiltins.__dict__.clear()",
        allowed=(*FINE, *FAILS),
    ),
    Ends(
        name="an exit with an argument that fails when it is shown",
        code=(
            "import sys\nclass M(type):\n    def __repr__(cls): raise KeyboardInterrupt\nclass E(metaclass=M): pass\n"
            "sys.exit(E())"
        ),
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="every descriptor used up before the failure",
        code="import os\nwhile True: os.pipe()",
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="the shared page filled with brackets",
        code=(
            "import gc, mmap, sys\nfor o in [*gc.get_objects(), *sys._getframe().f_back.f_locals.values()]:\n"
            "    if isinstance(o, mmap.mmap): o[:] = b'[' * len(o)\nimport os\nos._exit(9)"
        ),
        allowed=(Status.RUNTIME,),
    ),
    Ends(
        name="links that lead in a circle, and a chain of a hundred",
        code=(
            "import os\nos.symlink('a', 'b'); os.symlink('b', 'a')\n"
            "for i in range(100): os.symlink(str(i + 1), str(i))\n"
            "for name in ('a', '0'):\n    try: open(name); print('ESCAPED')\n"
            "    except OSError as e: assert e.errno in (40, 2)\n"
            "raise SystemExit(1)"
        ),
        allowed=(Status.RUNTIME, Status.DENIED),
    ),
    Ends(
        name="a file cut short under its mapping",
        code=(
            "import mmap\nf = open('f', 'w+b'); f.truncate(8192)\n"
            "m = mmap.mmap(f.fileno(), 8192)\nf.truncate(0)\nm[5000]"
        ),
        allowed=FAILS,
    ),
    Ends(
        name="a pipe that nobody fills",
        code="import os\nos.read(os.pipe()[0], 1)",
        allowed=(Status.TIMEOUT,),
        timeout_s=0.7,
    ),
    Ends(
        name="a million tuples, one in the other",
        code="t = ()\nfor _ in range(10**6): t = (t,)\nhash(t)",
        allowed=FAILS,
    ),
    Ends(
        name="a thread with a gigabyte of stack",
        code="import threading\nthreading.stack_size(2**30)\nthreading.Thread(target=print).start()",
        allowed=FAILS,
    ),
    Ends(
        name="an abort in an exit hook",
        code="import atexit, os\natexit.register(os.abort)\nprint('done')",
        allowed=FAILS,
    ),
)
