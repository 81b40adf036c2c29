"""The programs that the sandbox runs for a task: record the calls of a test, make the calls, repeat the test.

A test in the style of HumanEval mixes what it asks with what it expects, and both would stand in the process of the
program under test. So it is taken apart. `recording` runs the test once with the reference solution and notes the
arguments of each call. `calling` gives the program under test those arguments and nothing else. `replaying` runs the
test again, on the outcomes as plain data, in a process that has never held the program. What a program under test
prints, exits with or replaces therefore cannot become a verdict: only right outcomes can.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

from thor_tir.eval.code import value_json as exchange
from thor_tir.problems.code_tasks import CallTests

MOST_BYTES = 2**28
"""Most bytes of one outcome, unpacked."""
MARK = "\x1e"
"""First character of the lines that the programs here write for us."""

_SPEECH = """
import base64 as _base64, json as _json, os as _os, zlib as _zlib
def _tell(position, outcome, _write=_os.write, _dumps=_json.dumps, _zip=_zlib.compress, _base=_base64.b64encode):
    text = _dumps(outcome).encode()
    if len(text) > 100_000:
        text = b"z" + _base(_zip(text, 1))
    blob = memoryview(b"\\n\\x1e%d " % position + text + b"\\n")
    while blob:
        blob = blob[_write(1, blob):]
"""

_MODULE = """
import sys as _sys, types as _types
def _module(name, source):
    module = _types.ModuleType(name)
    _sys.modules[name] = module
    exec(compile(source, name + ".py", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__
"""

_CALLS = """
import io as _io, copy as _copy
class _Nowhere(_io.RawIOBase):
    def writable(self): return True
    def write(self, data): return len(data)
def _silence():
    return _io.TextIOWrapper(_io.BufferedWriter(_Nowhere()), "utf-8", errors="replace", write_through=True)
def _call_all(source, entry, calls, encode=encode, tell=_tell, leave=_os._exit, module=_module):
    _sys.stdout, _sys.stderr = _silence(), _silence()
    target = module("solution", source)
    for name in entry.split("."):
        target = target[name] if isinstance(target, dict) else getattr(target(), name)
    for position, (args, kwargs) in enumerate(calls):
        try:
            outcome = {"returned": encode(target(*args, **kwargs))}
        except BaseException as fault:
            outcome = {"raised": type(fault).__name__}
        tell(position, outcome)
    leave(0)
"""

_ASKED = """
def _as_asked(args, kwargs):
    # As JSON at once: what `encode` gives may share lists with the arguments, which the function may change.
    return _json.loads(_json.dumps([encode(list(args)), encode(kwargs)]))
"""

_RECORD = """
_calls = []
def _recorder(*args, **kwargs):
    _calls.append(_as_asked(args, kwargs))
    return _reference(*args, **kwargs)
_names = _module("reference", _source)
_reference = _names[_entry]
_names = {**_names, _entry: _recorder}
exec(compile(_test, "test.py", "exec", dont_inherit=True), _names)
if _checks: _names["check"](_recorder)
_tell(-1, _calls)
"""

_REPLAY = """
import builtins as _builtins
_next = iter(_calls)
def _replay(*args, **kwargs):
    asked, outcome = next(_next)
    assert _as_asked(args, kwargs) == asked, "the test asked something else than it was recorded to ask"
    if "returned" in outcome:
        return decode(outcome["returned"])
    kind = getattr(_builtins, outcome["raised"], None)
    raise kind() if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError()
_names = {**_module("reference", _source), _entry: _replay}
exec(compile(_test, "test.py", "exec", dont_inherit=True), _names)
if _checks: _names["check"](_replay)
_tell(-1, True)
"""


def _prelude() -> str:
    return Path(exchange.__file__).read_text(encoding="utf-8") + _SPEECH + _MODULE


def recording(reference: str, entry_point: str, test: str, *, checks: bool) -> str:
    """A program that tells [arguments, keywords] of each call that the test makes; `checks`: it defines `check`."""
    return _prelude() + _ASKED + _bind(source=reference, entry=entry_point, test=test, checks=checks) + _RECORD


def calling(program: str, entry_point: str, calls: str) -> str:
    """A program that calls `entry_point` of the program under test; outcome k is reported as soon as call k has ended.

    `calls` is Python for a list of (arguments, keywords), in which `decode`, `inf`, `nan` and `np` are known.
    `entry_point` may be a method, `Solution.name`: then a fresh object is made for each call's receiver.
    """
    known = "from math import inf, nan\n" + ("import numpy as np\n" if "np." in calls else "")
    return f"{_prelude()}{_CALLS}{known}_call_all({program!r}, {entry_point!r}, {calls})\n"


def tabulating(tests: CallTests) -> str:
    """A program that tells [the arguments of each call, the result that each should have], encoded."""
    given = f"{tests.preamble}\nfrom math import inf, nan\nimport copy as _copy\ninputs = {tests.inputs}\n"
    wanted = "_arguments = [encode(arguments) for arguments in inputs]\n_results = " + tests.results + "\n"
    return _prelude() + given + wanted + "_tell(-1, [_arguments, [encode(result) for result in _results]])\n"


def replaying(
    reference: str, entry_point: str, test: str, asked: list[Any], outcomes: list[Any], *, checks: bool
) -> str:
    """A program that runs the test on recorded outcomes and tells True if the test passes."""
    calls = [list(pair) for pair in zip(asked, outcomes, strict=True)]
    given = f"_calls = _json.loads({json.dumps(calls)!r})\n"
    return _prelude() + _ASKED + _bind(source=reference, entry=entry_point, test=test, checks=checks) + given + _REPLAY


def reported(stdout: str) -> dict[int, Any]:
    """Values that a program here reported, by position; -1 is the value of a program that reports only one.

    Lines of the program under test that look like ours count as its outcomes, which it may choose anyway.
    """
    found: dict[int, Any] = {}
    for line in stdout.split("\n"):
        position, _, text = line.removeprefix(MARK).partition(" ")
        if line.startswith(MARK):
            try:
                found[int(position)] = json.loads(_unzipped(text[1:]) if text.startswith("z") else text)
            except (ValueError, RecursionError, zlib.error):
                continue
    return found


def _unzipped(text: str) -> bytes:
    """The packed text, and no more of it than a program may print: the text may be the program's own."""
    return zlib.decompressobj().decompress(base64.b64decode(text), MOST_BYTES)


def _bind(**values: object) -> str:
    return "".join(f"_{name} = {value!r}\n" for name, value in values.items())
