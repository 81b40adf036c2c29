"""What the generator adds to the time that models and programs take, and whether its memory grows with the run.

An endpoint on this machine answers every request after a fixed time, a sandbox every program after another. With `c`
attempts in flight and `t` seconds of waiting in each, no schedule makes more than `c / t` attempts a second; printed is
how much of that the generator achieves, over HTTP, journal and grading included. The second part makes many attempts
without waiting and prints the resident memory at its beginning, middle and end.

    python benchmarks/tirgen_overhead.py [--attempts 2560] [--memory-attempts 20000]
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import selectors
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from rounds import save
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS
from thor_tir.engines.openai_api.policy import EndpointConfig, EndpointPolicy
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt, attempt_to_json
from thor_tir.sandbox.protocol import Limits
from thor_tir.storage.journal import Journal
from thor_tir.tirgen.critic import Critic, CriticConfig
from thor_tir.tirgen.generate import TirgenAgents, TirgenConfig, generate
from thor_tir.tirgen.schedule import AttemptKey, AttemptSchedule, AttemptScheduleConfig, brief
from thor_tir.verdict import Outcome, Verdict

REPLY_S, PROGRAM_S, CONCURRENCY = 0.05, 0.02, 64
STEP, ANSWER = "The sum of both is 20 + 57 = 78.\n\n", "So the answer is \\boxed{77}."
REWRITTEN = "The sum of both is\n```python\nprint(20 + 57)\n```\n"
WAITING_S = 4 * REPLY_S + PROGRAM_S
"""Of one attempt: a step, its rewriting, the program, the answer, and the critic's look at that."""


def reply_to(request: bytes) -> bytes:
    """What actor and critic say: the same attempt over and over. Nothing is parsed, to leave the processor alone."""
    if json.dumps(CRITIC.system)[1:-1].encode() in request:
        text = REWRITTEN if b"= 78" in request else "NONE"
    else:
        text = ANSWER if b"```output" in request else STEP
    stopped_by = next((stop for stop in ("\n```\n", "\n\n") if text.endswith(stop)), None)
    choice = {"text": text, "finish_reason": "stop", "stop_reason": stopped_by}
    return http(json.dumps({"choices": [choice], "usage": {"completion_tokens": 12}}))


def http(body: str, status: str = "200 OK") -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Endpoint(asyncio.Protocol):
    """One connection, on which every request for text is answered so long after its last byte came."""

    def __init__(self, reply_s: float) -> None:
        self._reply_s = reply_s
        self._loop = asyncio.get_running_loop()
        self._request = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        arrived = self._loop.time()
        self._request += data
        head, end, body = self._request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        self._request = b""
        if head.startswith(b"GET"):
            self._transport.write(http(json.dumps({"data": [{"id": "fixed"}]})))
        elif head.startswith(b"POST /v1/chat"):
            self._transport.write(http("{}", "404 Not Found"))
        else:
            self._loop.call_at(arrived + self._reply_s, self._transport.write, reply_to(body))


def serve(connection: Any, reply_s: float) -> None:
    """An endpoint in a process of its own, so that its work is not the generator's."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Endpoint(reply_s), "127.0.0.1", 0, backlog=1024)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    # select() tells time in microseconds, where epoll() would round every reply up to the next millisecond.
    asyncio.SelectorEventLoop(selectors.SelectSelector()).run_until_complete(forever())


class FixedSandbox:
    """Runs nothing, and takes its time for it."""

    def __init__(self, program_s: float) -> None:
        self._program_s = program_s

    @property
    def level(self) -> str:
        return "none"

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        await asyncio.sleep(self._program_s)
        return ExecutionResult(status=Status.OK, stdout="77\n", exit_code=0)


def resident_mib() -> float:
    """Of this process, now."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


async def make(port: int, path: Path, *, attempts: int, program_s: float, watch: list[float]) -> float:
    """So many attempts, one a question; the seconds they took."""
    problems = [
        Problem(id=f"p{i}", question=f"What is 20 + 57, {i}?", answer="77", source="fixed") for i in range(attempts)
    ]
    address, config = f"http://127.0.0.1:{port}/v1", EndpointConfig(concurrency=CONCURRENCY)
    async with EndpointPolicy(address, config=config) as actor, EndpointPolicy(address, config=config) as critic:
        rewriter = Critic(
            policy=critic, dialect=Dialect(critic.tokenizer, DialectConfig(style=CRITIC)), config=CriticConfig()
        )
        dialect = Dialect(actor.tokenizer, DialectConfig(style=NO_TOOLS))
        studio = TirgenAgents(actor=actor, dialect=dialect, critic=rewriter, sandbox=FixedSandbox(program_s))

        async def one(wanted: AttemptKey) -> dict[str, Any]:
            sample = await generate(wanted.problem, studio, TirgenConfig(), id=wanted.key, seed=0)
            assert sample.critic["rewritten"] == 1
            right = Verdict(outcome=Outcome.CORRECT, extracted="77", reason="fixed")
            attempt = Attempt(problem=wanted.problem, trajectory=sample.trajectory, verdict=right)
            return {**attempt_to_json(attempt), "critic": dict(sample.critic), "spent": sample.spent.to_json()}

        schedule = AttemptSchedule(problems, Journal(path, brief=brief), AttemptScheduleConfig())
        num_made = 0

        def made(key: str, row: dict[str, Any]) -> None:
            nonlocal num_made
            num_made += 1
            if num_made in (CONCURRENCY, attempts // 2, attempts):
                watch.append(resident_mib())

        began = perf_counter()
        await schedule.run(one, concurrency=CONCURRENCY, made=made, done=lambda: None)
        return perf_counter() - began


def with_server(reply_s: float, *, attempts: int, program_s: float) -> tuple[float, list[float]]:
    """Seconds of a run, and the resident memory on its way."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, reply_s), daemon=True)
    server.start()
    watch: list[float] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            port = ours.recv()
            work = make(port, Path(folder) / "raw.jsonl", attempts=attempts, program_s=program_s, watch=watch)
            return asyncio.run(work), watch
    finally:
        server.kill()


def main() -> None:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=2560)
    parser.add_argument("--memory-attempts", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="where the numbers go as JSON, besides the lines")
    asked = parser.parse_args()
    with_server(0.0, attempts=CONCURRENCY, program_s=0.0)  # imports and first uses are no part of a long run
    before = process_time()
    seconds, _ = with_server(REPLY_S, attempts=asked.attempts, program_s=PROGRAM_S)
    used_ms = 1000 * (process_time() - before) / asked.attempts
    rounds = -(-asked.attempts // CONCURRENCY)
    achieved, ideal = asked.attempts / seconds, asked.attempts / (rounds * WAITING_S)
    print(f"{achieved:.1f} attempts/s of {ideal:.1f} that the ideal schedule makes: ratio {achieved / ideal:.3f}")
    print(f"processor time of an attempt, four requests and one program: {used_ms:.1f} ms")
    save(asked.out, {"ratio": achieved / ideal, "ms_per_attempt": used_ms})
    if asked.memory_attempts:
        seconds, watch = with_server(0.0, attempts=asked.memory_attempts, program_s=0.0)
        told = ", ".join(f"{mib:.0f} MiB" for mib in watch)
        rate = asked.memory_attempts / seconds
        print(
            f"resident memory at the start, middle and end of {asked.memory_attempts} attempts: {told} ({rate:.0f}/s)"
        )


if __name__ == "__main__":
    main()
