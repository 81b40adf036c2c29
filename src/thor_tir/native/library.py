"""C files of this folder as libraries: compiled once on this machine, kept in the user's cache, called through ctypes.

Wheels stay free of machine code, and the code is for the processor that is there. Whoever asks has another way where no
library can be had, which a warning says once.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

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
        return ctypes.CDLL(str(_built(source, variant)))
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.warning("going on through torch, which is slower: %s was not compiled (%s)", source, error)
        return None


def _built(source: str, variant: tuple[str, ...] = ()) -> Path:
    """The library of this source, compiler and processor: from the user's cache, or compiled into it."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise OSError(f"none of {', '.join(COMPILERS)} is installed")
    texts = [(HERE / name).read_text() for name in (source, "vectors.h")]
    key = hashlib.sha256(repr((texts, compiler, FLAGS, variant, _processor())).encode()).hexdigest()[:20]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thor-tir"
    target = folder / f"{Path(source).stem}-{key}.so"
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder))
    except OSError:  # no home that can be written: for this process alone
        made = Path(tempfile.mkdtemp())
        target = made / target.name
    try:
        _compile(compiler, HERE / source, variant, made / "new.so")
        os.replace(made / "new.so", target)
    finally:
        if target.parent != made:
            shutil.rmtree(made, ignore_errors=True)
    return target


def _compile(compiler: str, source: Path, variant: tuple[str, ...], output: Path) -> None:
    for threads in THREADS:
        command = [compiler, *FLAGS, *threads, *variant, "-o", str(output), str(source), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode == 0:
            return
    raise OSError(f"{compiler}: {(done.stderr.strip() or 'no message').splitlines()[0]}")


def _processor() -> str:
    """A description of the processor: what was compiled for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
