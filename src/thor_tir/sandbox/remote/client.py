"""Runs programs on other machines that speak SandboxFusion's HTTP API: its own servers, or `thor sandbox serve`.

Replies are not trusted: bounded in size, strictly typed, never followed elsewhere. After a failure of the service a
program is sent again, to another server where there is one. One that fails a few times while servers run others is
given up, a fault of the machine; while servers run nothing, all wait (`load_balancer.py`). What a program did wrong is
a result and never asked for twice. This is the only place that retries. How well a foreign server confines programs is
unknown here, and so says the level.
"""

import asyncio
import logging
import os
import random
from dataclasses import dataclass, field, replace
from typing import Self

import aiohttp

from thor_tir.address import check_address
from thor_tir.errors import SandboxUnavailable, UsageError
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.protocol import Limits
from thor_tir.sandbox.remote import sandboxfusion_json as fusion
from thor_tir.sandbox.remote.load_balancer import Endpoint, Fleet, FleetRules

_LOG = logging.getLogger(__name__)

MAX_PAUSE_S = 30.0
"""The longest pause, also where a server asks for a longer one."""
IDLE_S = 2.0
"""A connection that was idle for longer is not used again, since servers hang up on those in silence."""
SMALL_BYTES = 65_536
"""More is not read of a reply to a ping, of an error, and of what surrounds a program's output."""
_REFUSED = frozenset({400, 413, 415, 422})
"""The request itself is at fault, so no other server would take it."""
PROBE = "print('ready')"
"""A server that was out must run it before it gets programs again: some that run nothing still answer pings."""


@dataclass(frozen=True, kw_only=True)
class RemoteSandboxConfig:
    """Addresses of servers, and the answer to failures of the service."""

    endpoints: tuple[str, ...]
    """Addresses of servers, e.g. http://10.0.0.5:8080."""
    token: str | None = field(default_factory=lambda: os.environ.get(fusion.TOKEN_VARIABLE), repr=False)
    """Sent as a bearer token; by default what THOR_SANDBOX_TOKEN holds."""
    limits: Limits = field(default_factory=Limits)
    """Limits of programs that come without their own."""
    level: str = "unknown"
    """Confinement of servers that do not say theirs, in the operator's words."""
    fleet: FleetRules = field(default_factory=FleetRules)
    """Rules by which servers are chosen and given up."""
    retries: int = 2
    """Number of failures of a program, beyond the first, after which it is given up while servers run others."""
    connect_s: float = 3.0
    """Longest time for opening a connection, and for a ping, in seconds."""
    queue_s: float = 120.0
    """Longest time that a program waits inside a server before it runs, transport included, in seconds."""
    backoff_s: float = 0.2
    """Average pause before the first retry; doubles with each, up to half a minute."""

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise UsageError("a remote sandbox needs at least one endpoint, such as http://10.0.0.5:8080")
        if len(set(self.endpoints)) < len(self.endpoints):
            raise UsageError(f"an endpoint is named twice: {', '.join(self.endpoints)}")
        if self.retries < 0 or not 1 <= self.fleet.concurrency <= 1024:
            raise UsageError("retries must not be negative, and concurrency must be from 1 to 1024")
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise UsageError(f"the token, {fusion.TOKEN_VARIABLE}, must be made of printable ASCII characters")
        for url in self.endpoints:
            check_address(url, example="http://10.0.0.5:8080")


class _Refused(Exception):
    """The server understood the request and will never run it."""


class _Busy(Exception):
    """The server is well but has enough to do."""

    def __init__(self, reason: str, pause_s: float) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class RemoteSandbox:
    """A `Sandbox` on one or more servers, usable between `async with` and its end, from one event loop."""

    def __init__(self, config: RemoteSandboxConfig) -> None:
        self.config = config
        endpoints = [Endpoint(url=url.rstrip("/"), level=config.level) for url in config.endpoints]
        self._fleet = Fleet(endpoints, config.fleet, ping=self._ping, is_fit=self._is_fit)
        self._random = random.Random()  # pauses must not draw from the generator that a run has seeded
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Ping the servers. Raises SandboxUnavailable when none answers."""
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self.config.token:
            headers["Authorization"] = f"Bearer {self.config.token}"
        # No proxies and no .netrc: endpoints are named by the operator, and the token is for them alone.
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
            headers=headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.config.connect_s),
            trust_env=False,
        )
        try:
            await self._fleet.greet()
        except BaseException:
            await self.close()
            raise
        _LOG.info("sandbox: %d servers, level %s", len(self._fleet.endpoints), self.level)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def level(self) -> str:
        """`remote:` and what the servers say of themselves, e.g. `remote:full`, or `remote:unknown`."""
        return "remote:" + ",".join(sorted({endpoint.level for endpoint in self._fleet.endpoints}))

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        """Run one program on some server. Cancelling the call closes the request.

        Raises SandboxUnavailable when it fails again and again while servers run others, or they refuse the request;
        SandboxLost when they have run nothing for as long as patience lasts.
        """
        if not _is_sendable(code):
            error = "UnicodeEncodeError"
            return ExecutionResult(
                status=Status.SYNTAX, stdout="", stderr=f"{error}: a lone surrogate", error=error, level=self.level
            )
        limits = limits or self.config.limits
        body = fusion.encode(fusion.request_to_json(code, limits, stdin=stdin, seed=seed))
        return await self._insist(body, limits)

    async def close(self) -> None:
        """End every connection. Calls in progress raise SandboxUnavailable."""
        await self._fleet.close()
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _insist(self, body: bytes, limits: Limits) -> ExecutionResult:
        """Send until there is an answer, or until it is known that servers are well and the program is not.

        A failure is the program's own where a server has run something since its last one.
        """
        clock = asyncio.get_running_loop().time
        start, tried, reasons, own, answers = clock(), set[Endpoint](), list[str](), 0, 0
        while True:
            async with self._fleet.lend(tried, since=start) as endpoint:
                sent = clock()
                answer = await self._attempt(endpoint, body, limits)
            if isinstance(answer, ExecutionResult):
                waited_s = answer.queue_s + sent - start
                return replace(answer, queue_s=waited_s, runs=answer.runs + len(reasons))
            self._fleet.left_s(start)
            if endpoint.rests_until > clock():  # it is well, and busy
                continue
            tried.add(endpoint)
            reasons.append(f"{endpoint.url}: {answer}")
            own += not own or self._fleet.num_answers > answers
            answers = self._fleet.num_answers
            if own > self.config.retries:
                said = "; then ".join(reasons[-own:])
                raise SandboxUnavailable(f"a program was given up after {len(reasons)} attempts: {said}")
            average = min(MAX_PAUSE_S, self.config.backoff_s * 2 ** min(len(reasons) - 1, 16))
            await asyncio.sleep(average * self._random.uniform(0.5, 1.5))

    async def _attempt(self, endpoint: Endpoint, body: bytes, limits: Limits) -> ExecutionResult | str:
        """One exchange: a result, or the reason of a failure that another attempt may not meet."""
        patience_s = limits.timeout_s + self.config.queue_s + 5.0
        try:
            async with asyncio.timeout(patience_s):
                reply = await self._exchange(endpoint, body, _reply_bytes(limits))
            result = fusion.reply_from_json(fusion.decode(reply), limits)
        except _Refused as refusal:
            self._fleet.failed(endpoint, f"it refuses requests: {refusal}")
            raise SandboxUnavailable(f"{endpoint.url} refuses the request: {refusal}") from refusal
        except _Busy as busy:
            self._fleet.rests(endpoint, max(busy.pause_s, self.config.backoff_s), str(busy))
            return str(busy)
        except aiohttp.ServerTimeoutError:
            reason = f"no connection within {self.config.connect_s:g} s"
        except TimeoutError:
            reason = f"no answer within {patience_s:g} s"
        # RuntimeError: the client was closed meanwhile.
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as fault:
            reason = _in_words(fault)
        else:
            self._fleet.answered(endpoint)
            _suspect(endpoint, result)
            return replace(result, level=f"remote:{_plain(result.level) or endpoint.level}")
        self._fleet.failed(endpoint, reason)
        return reason

    async def _exchange(self, endpoint: Endpoint, body: bytes, most_bytes: int) -> bytes:
        """The body of a good reply. Raises for every other."""
        async with self._http().post(f"{endpoint.url}/run_code", data=body, allow_redirects=False) as reply:
            if reply.status == 200:
                return await _read(reply, most_bytes)
            said = (await _read(reply, SMALL_BYTES)).decode("utf-8", errors="replace")[:300]
            if reply.status in _REFUSED:
                raise _Refused(f"{reply.status} {said}")
            if reply.status == 429:
                raise _Busy(f"429 {said}", _pause_s(reply.headers.get("retry-after", "")))
            raise fusion.BadReply(_explain(reply.status, said))

    async def _ping(self, endpoint: Endpoint) -> bool:
        """True if it answers as a sandbox; remembers its level, or what is wrong with it."""
        try:
            async with (
                asyncio.timeout(self.config.connect_s),
                self._http().get(f"{endpoint.url}/v1/ping", allow_redirects=False) as reply,
            ):
                said = await _read(reply, SMALL_BYTES)
                if reply.status == 200 and said.strip() in (b'"pong"', b"pong"):
                    endpoint.level = _plain(reply.headers.get(fusion.LEVEL_HEADER, "")) or endpoint.level
                    return True
                endpoint.said = _explain(reply.status, said.decode("utf-8", errors="replace")[:100])
        except TimeoutError:
            endpoint.said = f"no answer to a ping within {self.config.connect_s:g} s"
        except (aiohttp.ClientError, OSError, fusion.BadReply, RuntimeError) as fault:
            endpoint.said = _in_words(fault)
        return False

    async def _is_fit(self, endpoint: Endpoint) -> bool:
        """True if a server that was out is there and runs a program."""
        limits = self.config.limits
        body = fusion.encode(fusion.request_to_json(PROBE, limits, stdin="", seed=0))
        try:
            return await self._ping(endpoint) and isinstance(
                await self._attempt(endpoint, body, limits), ExecutionResult
            )
        except SandboxUnavailable:  # it refuses even this
            return False

    def _http(self) -> aiohttp.ClientSession:
        if self._client is None:
            raise SandboxUnavailable("the sandbox is closed")
        return self._client


def _is_sendable(code: str) -> bool:
    """Python cannot compile lone surrogates, and foreign servers refuse them as a malformed request."""
    try:
        code.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _reply_bytes(limits: Limits) -> int:
    """Two streams, of which JSON may write every byte as six, and the rest of a reply."""
    return 12 * max(limits.output_bytes, fusion.FOREIGN_OUTPUT_BYTES) + SMALL_BYTES


async def _read(reply: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The body as it came; raises BadReply as soon as it is longer than it may be."""
    data = bytearray()
    async for chunk in reply.content.iter_any():
        data += chunk
        if len(data) > most_bytes:
            raise fusion.BadReply(f"a reply of more than {most_bytes} bytes")
    return bytes(data)


def _in_words(fault: Exception) -> str:
    """A fault of the connection on one line."""
    said = fault.os_error if isinstance(fault, aiohttp.ClientConnectorError) else fault
    return f"{type(fault).__name__} {' '.join(str(said).split())[:300]}".rstrip()


def _explain(status_code: int, said: str) -> str:
    remedy = {
        401: f"it wants another token: set {fusion.TOKEN_VARIABLE} to the server's",
        403: "it does not let this machine in",
        404: "there is no sandbox at this address",
    }
    return f"HTTP {status_code} {remedy.get(status_code, said)}".rstrip()


def _pause_s(header: str) -> float:
    """`Retry-After` in seconds; a date, or anything else, counts as one second."""
    try:
        pause_s = float(header)
    except ValueError:
        return 1.0
    return min(pause_s, MAX_PAUSE_S) if pause_s >= 0 else 1.0


def _plain(level: str) -> str:
    """A level as a server reported it, without anything that could disturb a log."""
    return "".join(c for c in level if c.isascii() and c.isprintable())[:100]


def _suspect(endpoint: Endpoint, result: ExecutionResult) -> None:
    if result.status is Status.TIMEOUT and not result.level and len(result.stdout) >= fusion.DEADLOCK_BYTES:
        _LOG.warning(
            "sandbox: %s timed a program out that had printed %d characters; old SandboxFusion servers stop reading "
            "there, so the program may have been well",
            endpoint.url,
            len(result.stdout),
        )
