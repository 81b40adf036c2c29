"""`thor sandbox run` and `thor sandbox serve`: programs from files, or from other machines, through the sandbox."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from thor_tir.errors import SandboxUnavailable, UsageError
from thor_tir.execution import ExecutionResult, Status
from thor_tir.storage.journal import JsonObject

if TYPE_CHECKING:
    from thor_tir.sandbox.remote.server import ServerConfig


@dataclass(frozen=True, kw_only=True)
class SandboxRun:
    """Run one Python file, or every program of a JSONL file, confined; exit status 0 whatever the programs did.

    One file: its output goes where yours goes, and a last line on stderr says how it ended. With --jsonl every line of
    the input is {"id": ..., "code": ...}, and every line of the output, in the same order, is
    {"id", "status", "exit_code", "stdout", "stderr", "truncated", "wall_s", "level"}.
    """

    file: tyro.conf.Positional[Path | None] = None
    """A Python file to run."""
    jsonl: Path | None = None
    """Programs, one a line: {"id": ..., "code": ...}, and if need be "stdin" and "seed"."""
    output: Path | None = None
    """Results of --jsonl, one a line; written beside it and renamed when all programs have run."""
    timeout_s: float = 5.0
    """Wall-clock time of a program."""
    memory_mb: int = 512
    """Memory of a program, on top of what the interpreter and its libraries hold."""
    workers: int = os.cpu_count() or 1
    """Programs that run at the same time."""
    least: Literal["full", "landlock", "none"] = "landlock"
    """The weakest confinement to accept; `none` confines nothing and is for hosts that are thrown away."""
    strongest: Literal["full", "landlock", "none"] = "full"
    """The level to begin with; lower it to see what a host that offers less would do."""

    def run(self) -> None:
        """Run, and print or write what came out."""
        if (self.file is None) == (self.jsonl is None):
            raise UsageError("name one Python file, or --jsonl FILE with --output FILE")
        if (self.jsonl is None) != (self.output is None):
            raise UsageError("--jsonl and --output belong together")
        if self.jsonl is not None and self.output is not None and self.jsonl.resolve() == self.output.resolve():
            raise UsageError(f"{self.output} holds the programs; name another file for their results")
        if self.file is not None:
            asyncio.run(self._run_file(self.file))
        elif self.jsonl is not None and self.output is not None:
            asyncio.run(self._run_lines(self.jsonl, self.output))

    async def _run_file(self, file: Path) -> None:
        from thor_tir.console import visible
        from thor_tir.sandbox.local.sandbox import LocalSandbox

        code = _text(file)
        async with LocalSandbox(self._config(workers=1)) as sandbox:
            result = await sandbox.run(code)
        for stream, text in ((sys.stdout, result.stdout), (sys.stderr, result.stderr)):
            stream.write(visible(text) if stream.isatty() else text)
            stream.flush()
        reason = f" ({result.error})" if result.error else ""
        print(f"[{result.status}{reason}, {result.seconds:.3f} s, level {result.level}]", file=sys.stderr)

    async def _run_lines(self, source: Path, target: Path) -> None:
        from thor_tir.console import ConsoleReporter
        from thor_tir.sandbox.batch import stream
        from thor_tir.sandbox.local.sandbox import LocalSandbox
        from thor_tir.sandbox.protocol import Snippet

        rows = list(_rows(source))
        snippets = [Snippet(code=row["code"], stdin=row.get("stdin", ""), seed=row.get("seed", 0)) for row in rows]
        lines: dict[int, str] = {}
        reporter = ConsoleReporter()
        async with LocalSandbox(self._config(workers=self.workers)) as sandbox:
            with reporter.stage(f"programs, level {sandbox.level}", len(snippets)) as progress:
                async for index, result in stream(sandbox, snippets, concurrency=2 * self.workers):
                    lines[index] = json.dumps(_record(rows[index]["id"], result))
                    progress.advance()
        _write(target, [lines[index] for index in range(len(rows))])
        if lost := sum('"sandbox_unavailable"' in line for line in lines.values()):
            raise SandboxUnavailable(
                f"{lost} of {len(rows)} programs could not be run; their lines in {target} say why"
            )
        reporter.say(f"{len(rows)} results: {target}")

    def _config(self, *, workers: int) -> Any:
        from thor_tir.sandbox.local.sandbox import LocalSandboxConfig
        from thor_tir.sandbox.protocol import Limits

        limits = Limits(timeout_s=self.timeout_s, memory_bytes=self.memory_mb * 2**20)
        return LocalSandboxConfig(workers=workers, limits=limits, least=self.least, strongest=self.strongest)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


def _rows(source: Path) -> Iterator[JsonObject]:
    for number, line in enumerate(_text(source).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{source}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("code"), str):
            raise UsageError(f'{source}, line {number} needs an "id" and a "code" that is text')
        if not isinstance(row.get("stdin", ""), str) or type(row.get("seed", 0)) is not int:
            raise UsageError(f'{source}, line {number}: "stdin" is text and "seed" an integer')
        yield row


def _record(identity: object, result: ExecutionResult | SandboxUnavailable) -> JsonObject:
    if isinstance(result, SandboxUnavailable):
        return {"id": identity, "status": "sandbox_unavailable", "error": str(result)}
    return {
        "id": identity,
        "status": result.status,
        "exit_code": result.exit_code,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "truncated": result.is_truncated or result.status is Status.OUTPUT_LIMIT,
        "wall_s": round(result.seconds, 6),
        "level": result.level,
        "error": result.error,
    }


def _write(target: Path, lines: list[str]) -> None:
    from thor_tir.storage.journal import write_atomically

    write_atomically(target, "".join(f"{line}\n" for line in lines))


@dataclass(frozen=True, kw_only=True)
class SandboxServe:
    """Run programs for other machines: SandboxFusion's HTTP API over this machine's sandbox, until SIGTERM or Ctrl-C.

    Point runs at it with --sandbox.endpoints http://HOST:PORT; see docs/remote_sandbox.md.
    """

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs a token."""
    port: int = 8080
    """Port to listen on; 0 lets the system choose."""
    token: str = ""
    """Clients must send it. Better set THOR_SANDBOX_TOKEN: other users of the machine can read command lines."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Programs that run at the same time."""
    queue: int = 256
    """Programs that may wait; more are turned away with 429."""
    max_timeout_s: float = 60.0
    """Most wall-clock time that a request may ask for."""
    max_memory_mb: int = 4096
    """Most memory that a request may ask for."""
    drain_s: float = 60.0
    """After SIGTERM, what runs may take that long to finish."""

    def run(self) -> None:
        """Serve, and say where."""
        from thor_tir.console import ConsoleReporter
        from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
        from thor_tir.sandbox.remote.server import serve

        config = self._config()
        reporter = ConsoleReporter()

        async def work() -> None:
            async with LocalSandbox(LocalSandboxConfig(workers=self.workers)) as sandbox:
                details = f"{self.workers} workers, level {sandbox.level}"
                await serve(sandbox, config, lambda address: reporter.say(f"sandbox at {address} ({details})"))

        asyncio.run(work())
        reporter.say("sandbox ended")

    def _config(self) -> "ServerConfig":
        from thor_tir.sandbox.protocol import Limits
        from thor_tir.sandbox.remote.sandboxfusion_json import TOKEN_VARIABLE, RequestRules
        from thor_tir.sandbox.remote.server import ServerConfig

        most = Limits(timeout_s=self.max_timeout_s, memory_bytes=self.max_memory_mb * 2**20, output_bytes=2**23)
        return ServerConfig(
            host=self.host,
            port=self.port,
            token=self.token or os.environ.get(TOKEN_VARIABLE) or None,
            workers=self.workers,
            queue=self.queue,
            drain_s=self.drain_s,
            rules=RequestRules(most=most),
        )
