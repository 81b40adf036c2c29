"""Programs that mean harm, beyond those of the shared corpus: doors that must be closed, and endings that must be told.

Every number of a system call is that of x86-64. None of these may run outside the sandbox.
"""

from dataclasses import dataclass

from thor_tir.execution import Status

DOORS = {
    "every descriptor is closed but three": (
        "import os\nopen_ones = []\nfor d in range(4096):\n    try: os.fstat(d); open_ones.append(d)\n"
        "    except OSError: pass\nprint('held' if open_ones == [0, 1, 2] else open_ones)"
    ),
    "the worker survives os._exit replaced": "import os\nos._exit = lambda code: None\nprint('held')",
    "the next request cannot be read": (
        "import gc, socket\nprint('held' if not [o for o in gc.get_objects() if isinstance(o, socket.socket) "
        "and o.fileno() >= 0] else '')"
    ),
    "io_uring is not there": "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(425, 1, 0) == -1 else '')",
    "userfaultfd is not there": "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(323, 0) == -1 else '')",
    "memfd_create is not there": ("import os\ntry: os.memfd_create('x')\nexcept OSError: print('held')"),
    "a raw vfork is refused": "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(58) == -1 else '')",
    "clone into a new namespace is refused": (
        "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(56, 0x10000000, 0, 0, 0, 0) == -1 else '')"
    ),
    "clone with a thread's flag and a namespace is refused by the kernel": (
        "import ctypes\nprint('held' if ctypes.CDLL(None).syscall(56, 0x10010000, 0, 0, 0, 0) == -1 else '')"
    ),
    "execve is refused": "import os\ntry: os.execv('/usr/bin/true', ['true'])\nexcept OSError: print('held')",
    "setsid and setpgid change nobody": "import os\ntry: os.setsid()\nexcept OSError: print('held')",
    "the affinity and priority of others stay": (
        "import os\ntry: os.sched_setaffinity(os.getppid(), {0})\nexcept OSError: print('held')"
    ),
    "limits of others stay": (
        "import resource, os\ntry: resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4))\nexcept OSError: print('held')"
    ),
    "unix sockets are refused": ("import socket\ntry: socket.socketpair()\nexcept OSError: print('held')"),
    "a device cannot be made": (
        "import os\ntry: os.mknod('d', 0o020666, os.makedev(1, 1))\nexcept OSError: print('held')"
    ),
    "the interpreter's own files cannot be changed": (
        "import os, random\ntry: open(random.__file__, 'a')\nexcept OSError:\n"
        "    try: os.unlink(random.__file__)\n    except OSError: print('held')"
    ),
    "the kernel's log, keys and clock are not there": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "got = {libc.syscall(103, 2, 0, 0), libc.syscall(250, 0, 0), libc.syscall(227, 0, 0)}\n"
        "print('held' if got == {-1} else '')"
    ),
    "a file cannot be made to signal another process": (
        "import fcntl, os, struct\nrefused = 0\n"
        "for what, value in ((8, os.getppid()), (10, 9), (15, struct.pack('ii', 1, os.getppid())), (1026, 1)):\n"
        "    try: fcntl.fcntl(1, what, value)\n    except PermissionError: refused += 1\n"
        "print('held' if refused == 4 else refused)"
    ),
    "nobody can be traced, not even by consent": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "print('held' if {libc.ptrace(0, 0, 0, 0), libc.ptrace(16, 1, 0, 0)} == {-1} else '')"
    ),
    "the memory of others is out of reach": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nbuffer = ctypes.create_string_buffer(8)\n"
        "iov = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)\n"
        "got = {libc.process_vm_readv(1, iov, 1, iov, 1, 0), libc.process_vm_writev(1, iov, 1, iov, 1, 0)}\n"
        "print('held' if got == {-1} else '')"
    ),
    "the descriptors of others are out of reach": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "print('held' if {libc.syscall(434, 1, 0), libc.syscall(438, 0, 3, 0)} == {-1} else '')"
    ),
    "no attribute of the process that matters can be changed": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "got = {libc.prctl(option, 1, 0, 0, 0) for option in (1, 4, 8, 22, 24, 28, 29, 35, 36, 38, 47, 53, 59)}\n"
        "print('held' if got == {-1} else got)"
    ),
    "what was locked cannot be locked otherwise": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "print('held' if {libc.syscall(317, 1, 0, 0), libc.syscall(444, 0, 0, 1), "
        "libc.syscall(446, 0, 0)} == {-1} else '')"
    ),
    "limits can be lowered and never raised": (
        "import resource\nrefused = 0\n"
        "for what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE):\n"
        "    try: resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    except (ValueError, OSError): refused += 1\nprint('held' if refused == 4 else refused)"
    ),
    "there is no shared memory with a name": (
        "from multiprocessing import shared_memory\n"
        "try: shared_memory.SharedMemory('x', create=True, size=10)\nexcept OSError: print('held')"
    ),
    "there are no message queues, semaphores or keys": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "got = {libc.syscall(n, 0, 1, 0o1600) for n in (29, 64, 68, 240, 248, "
        "249)}\nprint('held' if got == {-1} else '')"
    ),
    "the interpreter's files cannot be linked, renamed or covered": (
        "import os, random\nrefused = 0\nfor attempt in (lambda: os.link(random.__file__, 'x'), "
        "lambda: os.rename(random.__file__, 'x'), lambda: os.truncate(random.__file__, 0), "
        "lambda: os.utime(random.__file__), lambda: os.chmod(random.__file__, 0)):\n"
        "    try: attempt()\n    except OSError: refused += 1\nprint('held' if refused == 5 else refused)"
    ),
    "a link to the root shows no more than the root": (
        "import os\ntry: os.symlink('/', 'root'); os.listdir('root/home')\nexcept OSError: print('held')"
    ),
    "there is no /proc to look into": (
        "import os\nseen = []\nfor path in ('/proc/self/mem', '/proc/1/environ', "
        "'/proc/self/fd', '/proc/sysrq-trigger'):\n"
        "    try: seen.append(os.open(path, os.O_RDONLY))\n    except OSError: "
        "pass\nprint('held' if not seen else seen)"
    ),
    "pages cannot be given away through a pipe": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "print('held' if {libc.syscall(n, 1, 0, 0, 0, 0, 0) for n in (275, 276, 278)} == {-1} else '')"
    ),
    "a root of one's own is refused": (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "got = {libc.chroot(b'/'), libc.unshare(0x10000000), libc.unshare(0x20000), "
        "libc.mount(b'x', b'/', b'tmpfs', 0, 0)}\n"
        "print('held' if got == {-1} and os.getuid() == os.geteuid() else got)"
    ),
    "groups and users stay": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "got = {libc.setuid(0), libc.setgid(0), libc.setresuid(0, 0, 0), "
        "libc.setgroups(0, 0), libc.setfsuid(0) or -1}\n"
        "print('held' if got == {-1} else got)"
    ),
}
"""Each prints `held` if the door that its name tells of is closed."""


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
)
