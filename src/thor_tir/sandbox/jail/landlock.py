"""Landlock rules: the files that a program may read, and the one folder that it may write.

With namespaces this is the second line; without them it is the first.
"""

import ctypes
import os
import struct
from collections.abc import Sequence

from thor_tir.sandbox.jail import kernel

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_WRITE_FILE, _TRUNCATE, _REFER, _IOCTL_DEVICE = 1 << 1, 1 << 14, 1 << 13, 1 << 15
_CHANGE = sum(
    1 << bit for bit in (4, 5, 7, 8, 12)
)  # remove dir, remove file, make dir, make regular file, make symlink
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_ALL_NETWORK, _ALL_SCOPES = 0b11, 0b11


def abi() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    try:
        return kernel.syscall(
            kernel.SYS_LANDLOCK_CREATE_RULESET,
            None,
            ctypes.c_size_t(0),
            ctypes.c_uint(_CREATE_RULESET_VERSION),
            what="landlock",
        )
    except OSError:
        return 0


def ruleset(readable: Sequence[str], writable: Sequence[str]) -> int:
    """A descriptor for `restriction`; folders that do not exist are left out. Raises OSError."""
    version = abi()
    handled = _ALL_BY_ABI[min(version, 5)]
    network = _ALL_NETWORK if version >= 4 else 0
    scopes = _ALL_SCOPES if version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)
    size = 8 if version < 4 else 16 if version < 6 else 24
    descriptor = kernel.syscall(
        kernel.SYS_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint(0), what="landlock"
    )
    may_read = _EXECUTE | _READ_FILE | _READ_DIR
    for path in readable:
        _allow(descriptor, path, may_read & handled)
    for path in writable:
        _allow(descriptor, path, (may_read | _WRITE_FILE | _TRUNCATE | _REFER | _CHANGE) & handled)
    return descriptor


def _allow(descriptor: int, path: str, access: int) -> None:
    if not os.path.isdir(path):
        access &= _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEVICE
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        kernel.syscall(
            kernel.SYS_LANDLOCK_ADD_RULE,
            ctypes.c_int(descriptor),
            ctypes.c_int(_RULE_PATH_BENEATH),
            struct.pack("=Qi", access, parent),
            ctypes.c_uint(0),
            what=f"landlock rule for {path}",
        )
    finally:
        os.close(parent)


def restriction(descriptor: int) -> kernel.Call:
    """Hold the calling process to a ruleset for ever. Needs NO_NEW_PRIVS."""
    return kernel.Call(
        kernel.SYS_LANDLOCK_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint(0), what="landlock restriction"
    )
