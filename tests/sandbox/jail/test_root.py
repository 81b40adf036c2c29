"""What programs can read: the interpreter and its packages, wherever those lie, and nothing else."""

import asyncio
import sys
from pathlib import Path

import pytest

from thor_tir.execution import ExecutionResult
from thor_tir.sandbox.jail import root
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig


def environment_that_borrows(folder: Path) -> Path:
    """A virtual environment whose packages lie in another one, found through a .pth file; returns its interpreter."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own, lent, project = (folder / "own", folder / "lender/lib" / version / "site-packages", folder / "project/src")
    for each in (own / "bin", own / "lib" / version / "site-packages", lent, project):
        each.mkdir(parents=True)
    (lent / "lent.py").write_text("NAME = 'lent'")
    (project / "private.py").write_text("NAME = 'private'")
    (own / "lib" / version / "site-packages" / "borrows.pth").write_text(f"{lent}\n{project}\n")
    home = Path(sys.base_prefix) / "bin"
    (own / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (own / "bin/python").symlink_to(home / version)
    return own / "bin/python"


def test_borrowed_packages_are_there_and_the_sources_of_a_project_are_not(tmp_path: Path) -> None:
    python = environment_that_borrows(tmp_path)  # in the temporary folder, where the jail also builds its root

    async def runs() -> list[ExecutionResult]:
        async with LocalSandbox(LocalSandboxConfig(workers=1, modules=())) as sandbox:
            if sandbox.level != "full":
                pytest.skip(f"this host offers less than the level full: {sandbox.missing}")
        config = LocalSandboxConfig(workers=1, least="full", python=str(python), modules=("lent", "private"))
        async with LocalSandbox(config) as sandbox:
            return [await sandbox.run(code) for code in ("import lent; print(lent.NAME)", "import private")]

    lent, private = asyncio.run(runs())
    assert (lent.stdout, private.error) == ("lent\n", "ModuleNotFoundError")


def test_the_new_root_is_built_where_it_hides_nothing_that_is_shown() -> None:
    assert root._stage(["/usr/lib"]) == "/tmp"
    assert root._stage(["/usr/lib", "/tmp/environment/lib"]) != "/tmp"
