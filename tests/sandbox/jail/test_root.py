"""What programs can read: the interpreter and its packages, wherever those lie, and nothing else."""

import asyncio
from pathlib import Path

import pytest

from borrowed_environment import environment_that_borrows
from thor_tir.execution import ExecutionResult
from thor_tir.sandbox.jail import root
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig


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
