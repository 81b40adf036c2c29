"""C files of this folder as libraries: compiled once on this machine, kept in the user's cache, called through ctypes.

Wheels stay free of machine code, and the code is for the processor that is there. Whoever asks has another way where no
library can be had, which a warning says once.
"""

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from thor_tir.provenance import file_digest

_LOG = logging.getLogger(__name__)

HERE = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-w")
THREADS = (("-fopenmp",), ())
"""Flags for several threads, tried first, and those of a compiler that has none: what it makes takes one thread."""
LIMIT_S = 120.0
"""Seconds that a compiler may take."""


@cache
def compiled_library(source: str, *variant: str) -> Any | None:
    """A file of this folder, compiled with further flags; None, after a warning, where it cannot be had."""
    try:
        path = _built(source, variant)
        try:
            return ctypes.CDLL(str(path))
        except OSError:  # of another system that shares this home, or damaged
            path.unlink(missing_ok=True)
            return ctypes.CDLL(str(_built(source, variant)))
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.warning("going on through torch, which is slower: %s was not compiled (%s)", source, error)
        return None


def _built(source: str, variant: tuple[str, ...] = ()) -> Path:
    """The library of this source, compiler and processor: from the user's cache, or compiled into it."""
    compiler = _compiler()
    texts = [(HERE / name).read_text(encoding="utf-8") for name in (source, "vectors.h")]
    facts = (texts, compiler, _made(compiler[0]), platform.libc_ver(), FLAGS, variant, _processor())
    name = f"{Path(source).stem}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:20]}"
    try:
        folder = _cache_folder()
        if (found := _whole(folder, name)) is not None:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder))
    except (OSError, RuntimeError):  # no home that can be written: for this process alone
        made = folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    try:
        _compile(compiler, HERE / source, variant, made / "new.so")
        target = folder / f"{name}-{file_digest(made / 'new.so')}.so"
        os.replace(made / "new.so", target)
    finally:
        if folder != made:
            shutil.rmtree(made, ignore_errors=True)
    return target


def _compiler() -> list[str]:
    """The words of the compiler's command. Raises OSError where there is none."""
    if words := shlex.split(os.environ.get("CC", "")):
        return words
    if (found := next(filter(shutil.which, COMPILERS), None)) is None:
        raise OSError(f"none of {', '.join(COMPILERS)} is installed")
    return [found]


def _made(program: str) -> tuple[int, int] | None:
    """Size and time of a program's file, which another version of it has differently."""
    path = shutil.which(program)
    return None if path is None else (os.stat(path).st_size, os.stat(path).st_mtime_ns)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thor-tir"


def _whole(folder: Path, name: str) -> Path | None:
    """The library of this name whose file has the digest that its name ends with; damaged ones are removed."""
    for path in folder.glob(f"{name}-*.so"):
        if path.stem.removeprefix(f"{name}-") == file_digest(path):
            return path
        path.unlink(missing_ok=True)
    return None


def _compile(compiler: list[str], source: Path, variant: tuple[str, ...], output: Path) -> None:
    for threads in THREADS:
        command = [*compiler, *FLAGS, *threads, *variant, "-o", str(output), str(source), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S)
        if done.returncode == 0:
            return
    raise OSError(f"{compiler[0]}: {(done.stderr.strip() or 'no message').splitlines()[0]}")


def _processor() -> str:
    """A description of the processor: what was compiled for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
