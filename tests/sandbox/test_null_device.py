"""Programs may write to the device that keeps nothing, and to no other device."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from thor_tir.execution import Status
from thor_tir.sandbox.batch import BlockingSandbox
from thor_tir.sandbox.jail import root
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits

PATIENT = Limits(timeout_s=20.0)


@pytest.fixture(scope="module", params=["full", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[BlockingSandbox]:
    with BlockingSandbox(LocalSandbox(LocalSandboxConfig(workers=1, strongest=request.param, modules=()))) as sandbox:
        if sandbox.level != request.param:
            pytest.skip(f"this host does not offer {request.param}")
        yield sandbox


WRITES = {
    "output sent away": (
        "import contextlib, os\nwith open(os.devnull, 'w') as f, contextlib.redirect_stdout(f):\n    print('noise')\n"
        "print('heard')"
    ),
    "opened for both": "import os\nd = os.open(os.devnull, os.O_RDWR)\nos.write(d, b'x')\nassert os.read(d, 9) == b''",
    "emptied, made and appended to": (
        "import os\nfor f in (os.O_TRUNC, os.O_CREAT | os.O_TRUNC, os.O_APPEND):\n"
        "    os.open('/dev/null', os.O_WRONLY | f)"
    ),
    "a megabyte of bytes": "assert open('/dev/null', 'wb').write(b'x' * 2 ** 20) == 2 ** 20",
    "appended as text": "with open('/dev/null', 'a') as f: print('x', file=f)",
    "a descriptor turned away": (
        "import os, sys\nkept = os.dup(1)\nos.dup2(os.open(os.devnull, os.O_WRONLY), 1)\nprint('noise')\n"
        "os.dup2(kept, 1)"
    ),
    "a logger": (
        "import logging\nh = logging.FileHandler('/dev/null')\nlogging.getLogger().addHandler(h)\nlogging.error('x')"
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_to_the_null_device_is_gone(sandbox: BlockingSandbox, name: str) -> None:
    result = sandbox.run(f"{WRITES[name]}\nprint('end')", PATIENT)
    assert result.status is Status.OK, result.stderr
    assert result.stdout.removeprefix("heard\n") == "end\n"


def test_no_other_device_can_be_written_and_none_changed(sandbox: BlockingSandbox) -> None:
    code = (
        "import os\nopened = []\nfor name in ('zero', 'random', 'urandom', 'full', 'tty', 'nullx', 'shm/x'):\n"
        "    for flag in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT):\n"
        "        try: os.open(f'/dev/{name}', flag); opened.append(name)\n        except OSError: pass\n"
        "null = '/dev/null'\n"
        "for change in (lambda: os.unlink(null), lambda: os.rename(null, '/dev/x'), lambda: os.chmod(null, 0),\n"
        "               lambda: os.utime(null), lambda: os.utime(null, (1, 1)), lambda: os.link(null, 'x')):\n"
        "    try: change(); opened.append('changed')\n    except OSError: pass\n"
        "print(opened)"
    )
    assert sandbox.run(code, PATIENT).stdout == "[]\n"


def test_a_file_in_the_place_of_the_null_device_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert root.swallows_all()
    for place in (tmp_path / "none", tmp_path, Path("/dev/zero")):
        monkeypatch.setattr(root, "NULL", str(place))
        assert not root.swallows_all()
    (tmp_path / "null").write_text("")
    monkeypatch.setattr(root, "NULL", str(tmp_path / "null"))
    assert not root.swallows_all()
