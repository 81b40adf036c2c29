"""The list of system calls that a program may make, as a filter for the kernel.

What is not listed fails with EPERM; a foreign architecture kills; clone3 and a few newer calls answer ENOSYS, so that
the C library falls back to calls whose arguments a filter can read. `fork`, `exec`, sockets, ptrace, keyrings, shared
memory, mounts and namespaces are not listed. Threads are: clone with CLONE_THREAD.
"""

import ctypes
import errno
import struct
from collections.abc import Iterable, Sequence

from thor_tir.sandbox.jail import calls, kernel

_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH = 0, 4
_CLONE_THREAD = 0x00010000
_NEW_NAMESPACES = 0x7E020000
"""All CLONE_NEW flags of clone(2)."""
_X32 = 0x40000000

_HARMLESS_IOCTLS = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_SIGNALLING_FCNTLS = (8, 10, 15, 1024, 1026)  # F_SETOWN F_SETSIG F_SETOWN_EX F_SETLEASE F_NOTIFY
"""With these a file has the kernel send a signal of the program's choice to a process of its choice."""
_HARMLESS_PRCTLS = (15, 16, 3, 40)  # PR_SET_NAME PR_GET_NAME PR_GET_DUMPABLE PR_GET_TID_ADDRESS


def _op(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k & 0xFFFFFFFF)


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low half; both architectures are little-endian


def _allow_if(number: int, index: int, values: Sequence[int]) -> list[bytes]:
    """Allow call `number` if its argument is one of `values`, else EPERM."""
    body = [_op(_LOAD, _argument(index))]
    body += [_op(_JUMP_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    body += [_op(_RETURN, _ERRNO | errno.EPERM), _op(_RETURN, _ALLOW)]
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def _allow_unless(number: int, index: int, values: Sequence[int]) -> list[bytes]:
    """Allow call `number` unless its argument is one of `values`, which is EPERM."""
    body = [_op(_LOAD, _argument(index))]
    body += [_op(_JUMP_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    body += [_op(_RETURN, _ALLOW), _op(_RETURN, _ERRNO | errno.EPERM)]
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def _allow_threads(number: int) -> list[bytes]:
    body = [
        _op(_LOAD, _argument(0)),
        _op(_JUMP_SET, _NEW_NAMESPACES, 1, 0),
        _op(_JUMP_SET, _CLONE_THREAD, 1, 0),
        _op(_RETURN, _ERRNO | errno.EPERM),
        _op(_RETURN, _ALLOW),
    ]
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def program(architecture: str, *, pid: int, may_change: bool) -> bytes:
    """The filter as the kernel takes it: for a process that will have the number `pid` in its own namespace."""
    allowed = {*calls.numbers(calls.FREE, architecture).values()}
    if may_change:
        allowed.update(calls.numbers(calls.UNMEDIATED, architecture).values())
    bound = calls.numbers(calls.BOUND, architecture)
    ops = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, kernel.AUDIT_ARCH[architecture], 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NR),
    ]
    if architecture == "x86_64":
        ops += [_op(_JUMP_AT_LEAST, _X32, 0, 1), _op(_RETURN, _KILL)]
    ops += _any_of(allowed, _ALLOW)
    ops += _any_of(calls.numbers(calls.UNKNOWN, architecture).values(), _ERRNO | errno.ENOSYS)
    ops += _allow_threads(bound["clone"])
    ops += _allow_if(bound["kill"], 0, (0, pid))
    ops += _allow_if(bound["tgkill"], 0, (pid,))
    ops += _allow_if(bound["prlimit64"], 0, (0, pid))
    ops += _any_of((bound["setrlimit"],), _ALLOW)
    ops += _allow_unless(bound["fcntl"], 1, _SIGNALLING_FCNTLS)
    ops += _allow_if(bound["ioctl"], 1, _HARMLESS_IOCTLS)
    ops += _allow_if(bound["prctl"], 0, _HARMLESS_PRCTLS)
    ops.append(_op(_RETURN, _ERRNO | errno.EPERM))
    return b"".join(ops)


def _any_of(numbers: Iterable[int], verdict: int) -> list[bytes]:
    """Return `verdict` for runs of neighbouring numbers: two comparisons a run."""
    ops: list[bytes] = []
    for first, last in _runs(sorted(numbers)):
        if first == last:
            ops += [_op(_JUMP_EQUAL, first, 0, 1), _op(_RETURN, verdict)]
        else:  # first <= number, and not last + 1 <= number
            ops += [_op(_JUMP_AT_LEAST, first, 0, 2), _op(_JUMP_AT_LEAST, last + 1, 1, 0), _op(_RETURN, verdict)]
    return ops


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def installation(code: bytes) -> kernel.Call:
    """The call after which this process can only do what the filter allows. Needs NO_NEW_PRIVS."""
    set_mode_filter = 1
    kept = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(kept)))
    header.kept = kept  # type: ignore[attr-defined]  # the kernel reads it through the header's pointer
    number = kernel.NUMBERS[kernel.architecture()].seccomp
    return kernel.Call(number, ctypes.c_uint(set_mode_filter), ctypes.c_uint(0), header, what="seccomp")
