"""Any sandbox of ours as a web service that speaks SandboxFusion's HTTP API, for other machines and foreign clients.

`POST /run_code` (the official format), `POST /run_batch` (many at once, ours), `GET /v1/ping`, `/metrics`, `/health`.
What confines programs is the sandbox behind it; this module guards the door: a token, or this machine alone; bounded
bodies, queue and replies; and an orderly end. It does not encrypt: outside a trusted network put a TLS proxy or an SSH
tunnel in front.
"""

import hmac
import logging
import platform
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from thor_tir.errors import SandboxLost, SandboxUnavailable, UsageError
from thor_tir.execution import ExecutionResult
from thor_tir.sandbox.batch import stream
from thor_tir.sandbox.protocol import Sandbox, Snippet
from thor_tir.sandbox.remote import sandboxfusion_json as fusion
from thor_tir.web_service import (
    LOOPBACK,
    GracefulServer,
    PacedResponse,
    Place,
    TurnedAway,
    bearer,
    json_body,
    refuse_other_hosts,
    unless_gone,
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Place of the service, its token, and its bounds."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs a token."""
    port: int = 8080
    """0 lets the system choose."""
    token: str | None = field(default=None, repr=False)
    """Clients must send it as a bearer token; None lets everybody on this machine in, but no web page."""
    workers: int = 1
    """Programs that the sandbox runs at the same time."""
    queue: int = 256
    """Programs that may wait beyond those; more are turned away with 429."""
    body_bytes: int = 2**22
    """Longer requests are turned away with 413."""
    body_s: float = 30.0
    """A request that takes longer to arrive is turned away with 408."""
    batch_bytes: int = 2**27
    """A batch whose replies are longer than that together is turned away with 413; one reply of the longest output is
    not."""
    held_bytes: int = 2**29
    """Length of all replies that clients have not taken yet, at most; then programs are turned away with 429."""
    drain_s: float = 60.0
    """After SIGTERM, what runs may take that long to finish."""
    rules: fusion.RequestRules = field(default_factory=fusion.RequestRules)
    """Bounds of what a request may ask for."""

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.token:
            raise UsageError(
                f"listening on {self.host} lets other machines run programs here, which needs a token: "
                f"set {fusion.TOKEN_VARIABLE} or give --token"
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise UsageError("a token is made of printable ASCII characters without blanks")
        if self.workers < 1 or self.queue < 0 or not 0 <= self.port < 65_536:
            raise UsageError("workers must be at least 1, queue at least 0, port from 0 to 65535")


class SandboxMetrics:
    """Counters behind /metrics, in a registry of their own."""

    def __init__(self, service: "Service") -> None:
        self.registry = CollectorRegistry()
        book = self.registry
        self.programs = Counter("thor_sandbox_programs", "Programs by how they ended", ["status"], registry=book)
        self.turned_away = Counter("thor_sandbox_turned_away", "Requests not carried out", ["code"], registry=book)
        self.seconds = Histogram("thor_sandbox_program_seconds", "Wall-clock time of programs", registry=book)
        running = Gauge("thor_sandbox_running", "Programs that run now", registry=book)
        queued = Gauge("thor_sandbox_queued", "Programs that wait for a worker", registry=book)
        running.set_function(lambda: min(service.in_flight, service.config.workers))
        queued.set_function(lambda: max(0, service.in_flight - service.config.workers))

    def count(self, outcome: ExecutionResult | SandboxUnavailable) -> None:
        """Note one program's end."""
        if isinstance(outcome, ExecutionResult):
            self.programs.labels(outcome.status.value).inc()
            self.seconds.observe(outcome.seconds)
        else:
            self.programs.labels("sandbox_error").inc()


class Service:
    """State that the requests share: the sandbox, and its programs and replies that are not done with."""

    def __init__(self, sandbox: Sandbox, config: ServerConfig) -> None:
        self.sandbox = sandbox
        self.config = config
        self.in_flight = 0
        """Programs taken on and not answered yet."""
        self.held_bytes = 0
        """Length of the replies that are made and not yet taken by their clients."""
        self.is_draining = False
        """No new programs: the service is about to end."""
        self.metrics = SandboxMetrics(self)

    def app(self) -> Starlette:
        """The routes."""
        routes = [
            Route("/run_code", self._guarded(self._run_code), methods=["POST"]),
            Route("/run_batch", self._guarded(self._run_batch), methods=["POST"]),
            Route("/v1/ping", self._guarded(self._ping)),
            Route("/health", self._guarded(self._health)),
            Route("/metrics", self._guarded(self._metrics)),
        ]
        return Starlette(routes=routes)

    async def _run_code(self, request: Request) -> Response:
        body = await self._body(request)
        snippet = self._snippet(body)
        return await self._carry_out(request, [snippet], b"".join)

    async def _run_batch(self, request: Request) -> Response:
        body = await self._body(request)
        if not isinstance(body, dict) or not isinstance(body.get("snippets"), list):
            raise TurnedAway(422, 'the body must be {"snippets": [...]}, each as /run_code takes them')
        snippets = [self._snippet(part, f"snippets[{i}]: ") for i, part in enumerate(body["snippets"])]
        return await self._carry_out(request, snippets, lambda replies: b'{"results": [' + b", ".join(replies) + b"]}")

    async def _ping(self, request: Request) -> Response:
        if self.is_draining:
            raise self._ending()
        return self._json("pong")

    async def _health(self, request: Request) -> Response:
        config = self.config
        return self._json(
            {
                "level": self.sandbox.level,
                "thor": version("thor-tir"),
                "python": platform.python_version(),
                "workers": config.workers,
                "in_flight": self.in_flight,
                "is_draining": self.is_draining,
            }
        )

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self.metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _guarded(self, work: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The work behind the token, its refusals sent as JSON and counted."""

        async def endpoint(request: Request) -> Response:
            try:
                self._admit(request)
                return await work(request)
            except TurnedAway as refusal:
                self.metrics.turned_away.labels(str(refusal.status_code)).inc()
                reply = self._json({"detail": str(refusal)}, refusal.status_code)
                reply.headers.update(refusal.headers)
                return reply

        return endpoint

    def _admit(self, request: Request) -> None:
        token = self.config.token
        if token is None:
            refuse_other_hosts(request.headers)
            return
        given = bearer(request.headers)
        if given is None or not hmac.compare_digest(given, token.encode()):
            raise TurnedAway(401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    async def _body(self, request: Request) -> object:
        """The request's JSON, read no further than it may be long, and not at all when nothing more can be taken on."""
        self._check_room(1)
        data = await json_body(request, most_bytes=self.config.body_bytes, within_s=self.config.body_s)
        try:
            return fusion.decode(data)
        except ValueError as error:
            raise TurnedAway(422, f"the body is not JSON: {str(error)[:200]}") from error

    def _snippet(self, body: object, where: str = "") -> Snippet:
        try:
            return fusion.request_from_json(body, self.config.rules)
        except fusion.MalformedRequest as error:
            raise TurnedAway(422, f"{where}{error}") from error

    async def _carry_out(
        self, request: Request, snippets: list[Snippet], join: Callable[[list[bytes]], bytes]
    ) -> Response:
        """Run the programs. Turns away what does not fit; stops the programs when the client hangs up."""
        self._check_room(len(snippets))
        self.in_flight += len(snippets)
        try:
            replies = await unless_gone(request, self._answers(snippets))
        finally:
            self.in_flight -= len(snippets)
        held_bytes = sum(map(len, replies))

        def let_go() -> None:
            self.held_bytes -= held_bytes

        return PacedResponse(join(replies), self._headers(), "application/json", let_go)

    def _check_room(self, num_programs: int) -> None:
        """Turn away what cannot be taken on now."""
        room = self.config.workers + self.config.queue
        if self.is_draining:
            raise self._ending()
        if num_programs > room:
            raise TurnedAway(422, f"{num_programs} programs in one batch; this server takes at most {room}")
        if self.in_flight + num_programs > room:
            raise TurnedAway(429, f"{self.in_flight} programs run or wait, and {room} fit", {"Retry-After": "1"})

    async def _answers(self, snippets: list[Snippet]) -> list[bytes]:
        """Replies in order, as JSON; they count as held until they are sent."""
        replies: dict[int, bytes] = {}
        try:
            async with aclosing(stream(self.sandbox, snippets, concurrency=2 * self.config.workers)) as outcomes:
                async for index, outcome in outcomes:
                    self.metrics.count(outcome)
                    if isinstance(outcome, ExecutionResult):
                        replies[index] = fusion.encode(fusion.reply_to_json(outcome))
                    else:
                        replies[index] = fusion.encode(fusion.fault_to_json(str(outcome)))
                    self.held_bytes += len(replies[index])
                    self._check_replies(sum(map(len, replies.values())) if len(snippets) > 1 else 0)
        except SandboxLost as fault:
            self._let_go(replies)
            raise TurnedAway(503, str(fault)) from fault
        except BaseException:
            self._let_go(replies)
            raise
        return [replies[index] for index in range(len(snippets))]

    def _let_go(self, replies: Mapping[int, bytes]) -> None:
        self.held_bytes -= sum(map(len, replies.values()))

    def _check_replies(self, batch_bytes: int) -> None:
        """Turn away what has become too long to be kept until it is sent."""
        most = self.config.batch_bytes
        if batch_bytes > most:
            raise TurnedAway(
                413, f"the replies of this batch are longer than {most} bytes; send fewer programs at once"
            )
        if self.held_bytes > self.config.held_bytes:
            message = f"{self.held_bytes} bytes of replies wait for their clients, and {self.config.held_bytes} fit"
            raise TurnedAway(429, message, {"Retry-After": "1"})

    def drop(self) -> None:
        """Say what the end cuts short: the replies to these programs."""
        _LOG.warning("sandbox: %d programs did not end in time and are dropped", self.in_flight)

    def _ending(self) -> TurnedAway:
        return TurnedAway(503, "this server is about to end", {"Connection": "close", "Retry-After": "5"})

    def _json(self, value: object, status_code: int = 200) -> Response:
        return Response(fusion.encode(value), status_code, self._headers(), media_type="application/json")

    def _headers(self) -> dict[str, str]:
        return {fusion.LEVEL_HEADER: self.sandbox.level}


def server_of(service: Service, announce: Callable[[str], None]) -> GracefulServer:
    """The service at its place; `announce` gets the address."""
    config = service.config
    place = Place(host=config.host, port=config.port, drain_s=config.drain_s)
    return GracefulServer(service.app(), service, place, announce)


async def serve(sandbox: Sandbox, config: ServerConfig, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises UsageError when it cannot listen at the place of the configuration."""
    await server_of(Service(sandbox, config), announce).until_ended()
