"""Programs that mean harm, beyond those of the shared corpus: doors that must be closed.

Every number of a system call is that of x86-64. None of these may run outside the sandbox.
"""

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
    "no device but the harmless ones is there": (
        "import os\nseen = []\nfor name in ('tty', 'ptmx', 'pts/0', 'mem', 'kmsg', 'kvm', 'fuse', 'shm', 'mqueue', "
        "'net/tun', 'vda', 'sda', 'full', 'console', 'uinput', 'rtc0', 'hugepages'):\n"
        "    try: os.open(f'/dev/{name}', os.O_RDONLY); seen.append(name)\n    except OSError: pass\n"
        "print('held' if not seen else seen)"
    ),
    "no way up leads out of the root": (
        "import os\nseen = []\nfor start in ('.', '/', os.path.dirname(os.__file__)):\n"
        "    try:\n        os.chdir(start)\n        for _ in range(64): os.chdir('..')\n    except OSError: pass\n"
        "    for path in ('etc/passwd', 'etc/hostname', 'root/.bashrc', 'proc/1/root/etc/passwd', "
        "'sys/kernel/osrelease'):\n"
        "        try: os.open(path, os.O_RDONLY); seen.append(path)\n        except OSError: pass\n"
        "print('held' if not seen else seen)"
    ),
    "neither a FIFO nor a socket can be made as a file": (
        "import os, stat\nrefused = 0\nfor kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK):\n"
        "    try: os.mknod('f', kind | 0o666)\n    except OSError: refused += 1\n"
        "try: os.mkfifo('g')\nexcept OSError: refused += 1\nprint('held' if refused == 4 else refused)"
    ),
    "no file that others see too can be locked": (
        "import fcntl, os\nd = os.open(os.__file__, os.O_RDONLY)\nrefused = 0\n"
        "for lock in (lambda: fcntl.flock(d, fcntl.LOCK_EX), lambda: fcntl.flock(d, fcntl.LOCK_SH), "
        "lambda: fcntl.lockf(d, fcntl.LOCK_EX)):\n"
        "    try: lock()\n    except OSError: refused += 1\nprint('held' if refused == 3 else refused)"
    ),
    "no page can be locked into memory": (
        "import ctypes, mmap\nlibc = ctypes.CDLL(None)\n"
        "got = {libc.mlockall(3), libc.mlock(ctypes.create_string_buffer(9), 9), libc.syscall(325, 0, 4096, 0)}\n"
        "try: mmap.mmap(-1, 65536, flags=0x2022); got.add(0)\nexcept OSError: pass  # private, anonymous, locked\n"
        "print('held' if got == {-1} else got)"
    ),
    "the interpreter's files cannot be written through a mapping": (
        "import ctypes, mmap, os\nd = os.open(os.__file__, os.O_RDONLY)\nrefused = 0\n"
        "try: mmap.mmap(d, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)\n"
        "except PermissionError: refused += 1\n"
        "libc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_long\n"
        "at = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, d, ctypes.c_long(0))\n"
        "refused += libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4096), 3) == -1\n"
        "print('held' if refused == 2 else refused)"
    ),
    "a signal cannot be sent by the rarer calls": (
        "import ctypes\nlibc = ctypes.CDLL(None)\ninfo = ctypes.create_string_buffer(128)\n"
        "got = {libc.syscall(129, 1, 10, info), libc.syscall(297, 1, 1, 10, info), libc.syscall(200, 1, 10),\n"
        "       libc.syscall(424, 0, 10, 0, 0), libc.syscall(222, 1, info, info)}\n"
        "print('held' if got == {-1} else got)"
    ),
    "nothing asynchronous is begun in the kernel": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nroom = ctypes.create_string_buffer(256)\n"
        "got = {libc.syscall(206, 8, room), libc.syscall(283, 1, 0), libc.inotify_init(), libc.syscall(300, 0, 0),\n"
        "       libc.syscall(282, -1, room, 8), libc.syscall(449, room, 1, 0, 0, 0)}\n"
        "print('held' if got == {-1} else got)"
    ),
    "what the interpreter was started with holds nothing of the user's": (
        "import ctypes, os\nlist_ = (ctypes.c_char_p * 4096).in_dll(ctypes.CDLL(None), 'environ')\n"
        "raw = ctypes.cast(ctypes.c_void_p.in_dll(ctypes.CDLL(None), 'environ'), ctypes.POINTER(ctypes.c_char_p))\n"
        "names, at = set(), 0\nwhile raw[at]:\n    names.add(raw[at].split(b'=')[0].decode()); at += 1\n"
        "print('held' if names == set(os.environ) and 'USER' not in names else names)"
    ),
}
"""Each prints `held` if the door that its name tells of is closed."""
