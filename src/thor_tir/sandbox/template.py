"""The template process of a worker: it has imported the maths libraries and forks one child per program.

Over one socket it receives framed JSON requests and answers each exactly once with bare facts: how the child ended
and what it wrote. What those facts mean is decided in `sandbox/interpretation.py`. Snippet code never runs in this
process, which stays single-threaded, and a child closes the socket before it compiles the snippet.

It may run under another interpreter than the rest of the package, any Python >= 3.11, so this file and the three it
needs (`confinement`, `program`, `supervision`) import the standard library and one another alone.
"""

import atexit
import errno
import gc
import importlib
import json
import os
import secrets
import signal
import socket
import stat
import struct
import sys
import tempfile
from typing import Any

from thor_tir.sandbox.confinement import Confinement, adopt_orphans, confine_template, die_with_parent
from thor_tir.sandbox.program import READY
from thor_tir.sandbox.supervision import can_list_children, run_program

HEADER = struct.Struct("!I")
"""Bytes of JSON that follow. A frame of length zero asks to stop the program that is running."""
BOOTSTRAP = """
import json, sys, types
settings = json.loads(sys.argv[1])
for name, folder in settings["packages"].items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from thor_tir.sandbox.template import main
main(settings)
"""
"""What the interpreter is started with: it finds this file without running the package's own `__init__`, whose
dependencies another interpreter need not have."""


def receive(control: socket.socket) -> Any | None:
    """The next request; None for a frame of length zero. Leaves the process when the other side is gone."""
    (length,) = HEADER.unpack(_exactly(control, HEADER.size))
    return json.loads(_exactly(control, length)) if length else None


def send(control: socket.socket, message: object) -> None:
    """One JSON value as a frame: its length first."""
    body = json.dumps(message).encode()
    control.sendall(HEADER.pack(len(body)) + body)


def _exactly(control: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        if not (chunk := control.recv(count - len(data))):
            sys.exit(0)
        data += chunk
    return bytes(data)


def remove_tree(top: str) -> None:
    """Delete a folder that programs wrote into. No process may write to it any more. Raises OSError."""
    if os.path.islink(top):
        os.unlink(top)
    else:
        empty_folder(top)
        os.rmdir(top)


def empty_folder(top: str) -> None:
    """Delete what is in a folder, following no link and at any depth. Raises OSError.

    Subfolders are lifted to the top instead of descended into, so neither the recursion limit nor PATH_MAX binds.
    """
    if not stat.S_ISDIR(os.lstat(top).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "a program replaced its own folder", top)
    os.chmod(top, 0o700)
    while entries := list(os.scandir(top)):
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _lift(entry.path, top)
            else:
                os.unlink(entry.path)


def _lift(folder: str, top: str) -> None:
    os.chmod(folder, 0o700)
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)  # a folder can only be moved by someone who may write into it
        os.rename(entry.path, os.path.join(top, secrets.token_hex(16)))
    os.rmdir(folder)


def answer(request: dict[str, Any], folder: str, confinement: Confinement, control: socket.socket) -> dict[str, Any]:
    """Run one request in `folder`; the facts, or a `fault` of the machine."""
    try:
        capture = run_program(request, folder, confinement, control)
    except OSError as fault:
        return {"fault": str(fault)}
    stdout, stderr, report = (bytes(text) for text in capture.pipes.values())
    if not report.startswith(READY) and capture.ending == "exit":
        return {"fault": report.decode(errors="replace") or "the program's process died while it was being set up"}
    return {
        "ending": capture.ending,
        "exit": os.waitstatus_to_exitcode(capture.wait_status),
        "cpu_s": capture.cpu_s,
        "seconds": capture.seconds,
        "report": report.removeprefix(READY).decode(errors="replace"),
        "stdout": stdout.decode(errors="replace"),
        "stderr": stderr.decode(errors="replace"),
    }


def preload(modules: list[str]) -> list[str]:
    """Import each module once for all programs; returns those that could not be imported."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return missing


def _prepare(scratch: str) -> Confinement:
    """Everything that must hold before the first fork."""
    parent = os.getppid()
    confinement = confine_template(scratch)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # A second cord beside the closing of the socket, whose other end a fork of the parent may hold open.
    if not die_with_parent(signal.SIGTERM, parent):
        sys.exit(0)
    if can_list_children():
        adopt_orphans()
    if os.path.isdir("/proc/self/task") and len(os.listdir("/proc/self/task")) > 1:
        sys.exit("a preloaded module started a thread, so this process cannot be forked safely")
    return confinement


def _tidy() -> None:
    """Leave nothing of this process's own in what its children inherit, and let them share its memory."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "thor_tir"]:
        del sys.modules[name]
    atexit._clear()  # hooks of the preloaded libraries are not the programs'
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would touch, and so copy, every page shared with a child


def main(settings: dict[str, Any]) -> None:
    """Serve until the other side closes the socket."""
    control = socket.socket(fileno=settings["descriptor"])
    control.set_inheritable(False)
    missing = preload(settings["modules"])
    confinement = _prepare(settings["scratch"])
    home, folder = _make_home(settings["scratch"], confinement.uid)
    _tidy()
    try:
        send(control, {"level": confinement.level, "missing": missing, "home": home})
        while True:
            if (request := receive(control)) is not None:
                send(control, answer(request, folder, confinement, control))
                empty_folder(folder)  # after the answer, which need not wait for it; if it fails, so does this process
    except ConnectionError:
        sys.exit(0)
    finally:
        if os.path.lexists(home):
            remove_tree(home)


def _make_home(scratch: str, uid: int | None) -> tuple[str, str]:
    """This process's own folder, and in it the working directory of its programs, one after the other.

    It is emptied and not made anew for each, since removing a directory takes milliseconds on some file systems.
    """
    home = tempfile.mkdtemp(prefix="thor-sandbox-", dir=scratch)
    folder = os.path.join(home, "work")
    os.mkdir(folder, 0o700)
    if uid is not None:
        os.chown(folder, uid, uid)
    os.chmod(home, 0o511)  # programs can pass through it and write nothing beside their working directory
    return home, folder
