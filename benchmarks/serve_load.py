"""`thor serve` under load, beside a tool loop on the client's side: requests/s, time to the first text, p50 and p99.

    python benchmarks/serve_load.py [--seconds 12] [--soak 2000] [--transformers /path/to/bin/transformers]

  thor          one streamed request; programs run in the server's jail
  client loop   the same model behind `thor serve`'s plain `/v1/completions`: the client stops at the end of a program,
                runs it in a jail of its own, and sends the longer text again
  transformers  the same client loop on `transformers serve`, where that program is given (it needs fastapi)

Clients ask one question after the other for a while; those that are asked by then are waited for. The soak asks so many
questions with the most clients while processes of the server's sandbox are killed, and watches its memory. Clients and
server share the machine.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Any

import aiohttp
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rounds import machine, save
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.loading import EMBEDDED, load_tokenizer
from thor_tir.problems.sets import generated_set
from thor_tir.problems.sources import NANO_FAMILIES
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig

STOP = "\n```\n"
MAX_TOKENS, MAX_CALLS = 320, 5
_PROGRAM = re.compile(r"```python\n(.*?)\n```\n\Z", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a server under load."""

    model: str = "nano/actor"
    clients: tuple[int, ...] = (1, 8, 64)
    seconds: float = 12.0
    """Time in which each side is asked new questions, for each number of clients."""
    soak: int = 2000
    """Questions of the soak; 0 leaves it out."""
    kill_every_s: float = 2.0
    """Time between two kills during the soak."""
    transformers: str = ""
    """Path of the program `transformers`; empty leaves that side out."""
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question that was answered."""

    first_s: float
    """Time to the first text."""
    whole_s: float
    """Time to the last."""
    answered: bool
    """It ended with an answer in a box."""


@dataclass(slots=True, kw_only=True)
class Load:
    """What one side did with so many clients."""

    side: str
    clients: int
    asked: list[Asked] = field(default_factory=list)
    lost: int = 0
    """Questions without a reply."""
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Questions a second."""
        return len(self.asked) / self.seconds if self.seconds else 0.0

    def cells(self) -> list[str]:
        """A row of the table."""
        whole, first = sorted(a.whole_s for a in self.asked), [a.first_s for a in self.asked]
        if not whole:
            return [self.side, str(self.clients), "0", "-", "-", "-", "-", str(self.lost)]
        p99 = whole[min(len(whole) - 1, int(0.99 * len(whole)))]
        answered = sum(a.answered for a in self.asked) / len(self.asked)
        times = [f"{1000 * each:,.0f}" for each in (median(first), median(whole), p99)]
        return [self.side, str(self.clients), f"{self.rate:.2f}", *times, f"{100 * answered:.0f} %", str(self.lost)]


Ask = Callable[[aiohttp.ClientSession, str, int], Awaitable[Asked]]
"""Asks one question with a seed."""


async def events(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The events of one streamed request. Raises for a refusal, an error, and a stream that breaks off."""
    is_over = False
    async with session.post(url, json={**body, "stream": True}) as reply:
        reply.raise_for_status()
        async for line in reply.content:
            if line.startswith(b"data: "):
                if line[6:].strip() == b"[DONE]":
                    return
                told = json.loads(line[6:])
                if "error" in told:
                    raise OSError(told["error"]["message"])
                is_over |= any(choice.get("finish_reason") for choice in told.get("choices", ()))
                yield told
    if not is_over:  # `transformers serve` sends no [DONE]
        raise OSError("the stream broke off")


def server_side(base: str, model: str) -> Ask:
    """One request; the loop runs in the server."""

    async def ask(session: aiohttp.ClientSession, question: str, seed: int) -> Asked:
        began, first, text = perf_counter(), 0.0, ""
        body = {"model": model, "messages": [{"role": "user", "content": question}], "seed": seed}
        async for told in events(session, f"{base}/chat/completions", body | {"thor": {"correction": False}}):
            for choice in told["choices"]:
                if piece := choice["delta"].get("content"):
                    first = first or perf_counter() - began
                    text += piece
        return Asked(first_s=first, whole_s=perf_counter() - began, answered="\\boxed{" in text)

    return ask


def client_side(base: str, model: str, sandbox: LocalSandbox, dialect: Dialect) -> Ask:
    """One request a turn; the loop runs here."""

    async def ask(session: aiohttp.ClientSession, question: str, seed: int) -> Asked:
        began, first = perf_counter(), 0.0
        prompt, said = dialect.tokenizer.decode(dialect.prompt(question).token_ids), ""
        for call in range(MAX_CALLS + 1):
            body = {"model": model, "prompt": prompt + said, "max_tokens": MAX_TOKENS, "stop": STOP}
            turn = ""
            async for told in events(session, f"{base}/completions", body | {"temperature": 0.6, "seed": seed + call}):
                for choice in told["choices"]:
                    if choice.get("text"):
                        first = first or perf_counter() - began
                        turn += choice["text"]
            if "```python\n" in turn and not turn.endswith(STOP):
                turn += STOP
            said += turn
            program = _PROGRAM.search(turn)
            if program is None:
                break
            said += dialect.decode(dialect.observe(await sandbox.run(program[1])).span.token_ids)
        return Asked(first_s=first, whole_s=perf_counter() - began, answered="\\boxed{" in said)

    return ask


async def load(side: str, ask: Ask, questions: Sequence[str], clients: int, seconds: float, most: int = 0) -> Load:
    """So many clients ask one question after the other, for a while or until so many have been asked."""
    found, began, number = Load(side=side, clients=clients), perf_counter(), iter(range(most or 10**9))
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**20) as session:

        async def client() -> None:
            for n in number:
                if not most and perf_counter() - began > seconds:
                    return
                try:
                    found.asked.append(await ask(session, questions[n % len(questions)], 1000 * n))
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    found.lost += 1
                    print(f"lost: {type(error).__name__} {str(error)[:200]}", file=sys.stderr)

        await asyncio.gather(*(client() for _ in range(clients)))
    found.seconds = perf_counter() - began
    return found


@contextmanager
def process(command: Sequence[str], ready: Callable[[str], str | None]) -> Iterator[tuple[int, str]]:
    """A server: its process and its address, once a line of its output tells it."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        found = next((place for line in server.stdout if (place := ready(line)) is not None), None)
        if found is None:
            raise SystemExit(f"{command[0]} ended before it served")
        yield server.pid, found
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def thor_server(model: str) -> Any:
    """`thor serve` on a free port."""
    command = [sys.executable, "-m", "thor_tir", "serve", "--model", model, "--port", "0"]
    return process(command, lambda line: found[1] if (found := re.search(r"serving at (\S+)", line)) else None)


def transformers_server(program: str, model: str, port: int = 8127) -> Any:
    """`transformers serve` over the same folder; what it writes later is left unread, so that it must be little."""
    command = [program, "serve", model, "--port", str(port), "--log-level", "error"]
    ready = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @contextmanager
    def running() -> Iterator[tuple[int, str]]:
        try:
            _wait_for(port)
            yield ready.pid, f"http://127.0.0.1:{port}/v1"
        finally:
            ready.terminate()
            ready.wait(timeout=60)

    return running()


def _wait_for(port: int) -> None:
    import socket

    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            sleep(1)
    raise SystemExit(f"nothing listens on port {port}")


def resident_mb(pid: int) -> float:
    """Memory of a process, without its children."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def soak(pid: int, ask: Ask, questions: Sequence[str], options: Options) -> tuple[Load, list[float], int]:
    """Many questions while sandbox processes die: the load, the server's memory over time, and the kills."""
    memory, kills = [resident_mb(pid)], 0

    async def kill() -> None:
        nonlocal kills
        while True:
            await asyncio.sleep(options.kill_every_s)
            memory.append(resident_mb(pid))
            for victim in children(pid)[:1]:
                os.kill(victim, signal.SIGKILL)
                kills += 1

    killing = asyncio.create_task(kill())
    done = await load("soak", ask, questions, max(options.clients), 0.0, most=options.soak)
    killing.cancel()
    return done, [*memory, resident_mb(pid)], kills


@asynccontextmanager
async def client_loop(base: str, model: str, dialect: Dialect) -> AsyncIterator[Ask]:
    """The loop of a client, with a jail of its own."""
    async with LocalSandbox(LocalSandboxConfig()) as sandbox:
        yield client_side(base, model, sandbox, dialect)


async def measured(options: Options, questions: Sequence[str], dialect: Dialect) -> dict[str, Any]:
    """Every side in turn, then the soak."""
    rows: list[Load] = []
    found: dict[str, Any] = {"rows": rows}
    with thor_server(options.model) as (pid, base):
        ours = server_side(base, options.model)
        async with client_loop(base, options.model, dialect) as theirs:
            await load("warm", ours, questions, 4, 0.0, most=16)
            for clients in options.clients:
                rows.append(await load("thor", ours, questions, clients, options.seconds))
                rows.append(await load("client loop", theirs, questions, clients, options.seconds))
        if options.soak:
            done, memory, kills = await soak(pid, ours, questions, options)
            rows.append(done)
            found |= {"memory_mb": memory, "kills": kills}
    if options.transformers:
        folder = str(EMBEDDED.get(options.model, options.model))
        with transformers_server(options.transformers, folder) as (_, base):
            async with client_loop(base, folder, dialect) as theirs:
                await load("warm", theirs, questions, 1, 0.0, most=2)
                rows += [
                    await load("transformers", theirs, questions, clients, options.seconds)
                    for clients in options.clients
                ]
    return found


def main(options: Options) -> None:
    """Measure and print."""
    dialect = Dialect(load_tokenizer(options.model))
    problems = generated_set("reasoning_gym", NANO_FAMILIES, count=256, seed=0).problems
    began = monotonic()
    found = asyncio.run(measured(options, [problem.question for problem in problems], dialect))
    table = Table(title="requests with tools", title_justify="left", box=SIMPLE)
    for column in ("", "clients", "requests/s", "first text, ms", "p50, ms", "p99, ms", "answered", "lost"):
        table.add_column(column, justify="right" if column else "left")
    for row in found["rows"]:
        table.add_row(*row.cells())
    console = Console(width=120)
    console.print(table)
    if "kills" in found:
        memory = found["memory_mb"]
        first, half, last = memory[0], memory[len(memory) // 2], memory[-1]
        console.print(
            f"soak: {found['kills']} sandbox processes killed; memory {first:.0f} MB before, {half:.0f} MB half-way "
            f"(the engine keeps keys and values up to a bound), {last:.0f} MB after"
        )
    console.print(f"{machine()}; {monotonic() - began:.0f} s in all", highlight=False)
    rows = [{**asdict(row), "rate": row.rate} for row in found["rows"]]
    save(options.out, {"options": {**asdict(options), "out": None}, **found, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))
