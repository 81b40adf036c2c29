"""The path of every request to `thor serve`: its key, its body, its place in the queue, its faults, its end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from thor_tir.chat_template import TemplateFault
from thor_tir.engines.protocol import ContextFull
from thor_tir.errors import EngineFault, MachineFault, SandboxUnavailable, ToolUnavailable, UsageError
from thor_tir.inference.answering import Answer, AskedPrompt, asked_prompt
from thor_tir.pretrained import ChatTurn
from thor_tir.rollout.overheard import Event
from thor_tir.seeds import seed_of
from thor_tir.serving.answers import Served, Tell, serve_answer
from thor_tir.serving.audit import AuditLog, AuditRecord
from thor_tir.serving.fields import InvalidRequest, parse_json
from thor_tir.serving.keys import KEYS_VARIABLE, Keys
from thor_tir.serving.metrics import Metrics
from thor_tir.serving.queue import Queue, QueueConfig
from thor_tir.serving.replies import Head, error_json
from thor_tir.serving.reply import HttpReply
from thor_tir.serving.requests import AnswerOptions, ServedDefaults
from thor_tir.storage.journal import JsonObject
from thor_tir.web_service import LOOPBACK, TurnedAway, json_body, unless_gone

_LOG = logging.getLogger(__name__)
GONE = 499
"""Status in logs and metrics of a request whose client left."""
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 503: "unavailable", 504: "timeout"}


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Address and limits of the server."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs a key."""
    port: int = 8000
    """Port to listen on; 0 lets the system choose."""
    queue: QueueConfig = field(default_factory=QueueConfig)
    """Attempts in work, and requests that wait."""
    body_bytes: int = 2**21
    """Longer requests are turned away with 413."""
    body_s: float = 30.0
    """A request that takes longer to arrive is turned away with 408."""
    send_s: float = 30.0
    """A client that does not read its reply for so long is given up, and its programs are stopped."""
    request_s: float = 600.0
    """Longest time in work, without the time in the queue; then the reply is 504."""
    drain_s: float = 60.0
    """After SIGTERM, what is in work may take that long; what is not done then is dropped, which is said."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise UsageError(f"a port is from 0 to 65535, found {self.port}")
        if self.body_bytes < 1 or min(self.body_s, self.send_s, self.request_s) <= 0 or self.drain_s < 0:
            raise UsageError(f"limits of size and time must be positive, found {self}")

    def check_keys(self, keys: Keys) -> None:
        """Raise UsageError for a place where strangers could ask without a key."""
        if self.host not in LOOPBACK and not len(keys):
            raise UsageError(
                f"listening on {self.host} lets other machines run programs here, which needs a key: "
                f"put one into {KEYS_VARIABLE}, or several into a file and give --key-file"
            )


class AnswerService:
    """The state that all requests share, and the work that they have in common."""

    def __init__(
        self, served: Served, defaults: ServedDefaults, config: ServeConfig, keys: Keys, audit: AuditLog
    ) -> None:
        config.check_keys(keys)
        self.served = served
        self.defaults = defaults
        self.config = config
        self.queue = Queue(config.queue)
        self.metrics = Metrics(
            {
                "thor_serve_running": ("Attempts in work", lambda: self.queue.running),
                "thor_serve_waiting": ("Requests that wait for their turn", lambda: self.queue.num_waiting),
            }
        )
        self.created = int(time.time())
        """Unix time of the start, in seconds."""
        self.is_draining = False
        """No new requests: the service is about to end."""
        self.num_dropped = 0
        """Requests that the end of the service cut short."""
        self.fault = ""
        """Fault of the engine that the last answer met; empty where it met none."""
        self._keys = keys
        self._audit = audit
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_dropping = False

    @property
    def model(self) -> str:
        """Name of the served model."""
        return self.served.name

    @property
    def needs_no_key(self) -> bool:
        """True where every program on this machine may ask, and no other."""
        return not len(self._keys)

    def knows(self, request: Request) -> bool:
        """True for a client that may ask."""
        try:
            self._keys.client(request.headers)
        except TurnedAway:
            return False
        return True

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return len(self._tasks)

    def drop(self) -> None:
        """Give up what is in work, and say how much it is."""
        self.num_dropped = len(self._tasks)
        _LOG.warning("serve: %d requests did not end in time and are dropped", self.num_dropped)
        self._is_dropping = True
        for task in self._tasks:
            task.cancel()

    def guarded(self, path: str, work: "Work", *, is_work: bool) -> "RouteApp":
        """The work of a route behind the keys: its faults are answered in OpenAI's form, counted and logged."""

        async def serve(request: Request, send: Send) -> None:
            reply = HttpReply(send, id=f"req-{uuid4().hex}", send_s=self.config.send_s)
            record = AuditRecord(id=reply.id, client="", route=path)
            task = asyncio.current_task()
            assert task is not None
            try:
                record.client = self._keys.client(request.headers)
                if is_work:
                    self._check_open()
                    self._tasks.add(task)
                await work(self, request, reply, record)
                status = reply.status
            except Exception as fault:
                status = await self._refuse(reply, fault)
            except asyncio.CancelledError:
                if not self._is_dropping:
                    raise
                task.uncancel()
                status = await self._refuse(reply, TurnedAway(503, "the server ended before the answer was done"))
            finally:
                self._tasks.discard(task)
            self.metrics.requests.labels(path, str(status)).inc()
            if is_work:
                self.metrics.seconds.labels(path).observe(time.monotonic() - record.began)
                self._audit.write(record, status)

        return RouteApp(serve)

    async def body(self, request: Request) -> Mapping[str, Any]:
        """The object that a request holds. Raises TurnedAway and InvalidRequest."""
        return parse_json(await json_body(request, most_bytes=self.config.body_bytes, within_s=self.config.body_s))

    @asynccontextmanager
    async def place(self, request: Request, record: AuditRecord, attempts: int) -> AsyncIterator[None]:
        """Wait for a place in the queue and hold it, for no longer than a request may be in work. Raises TurnedAway."""
        async with AsyncExitStack() as stack:
            entering = stack.enter_async_context(self.queue.place(record.client, attempts))
            await unless_gone(request, entering)
            try:
                async with asyncio.timeout(self.config.request_s):
                    yield
            except TimeoutError as late:
                raise TurnedAway(504, f"the answer was not done within {self.config.request_s:g} s") from late

    def head(self, prefix: str) -> Head:
        """The beginning of a reply."""
        return Head(id=f"{prefix}-{uuid4().hex}", created=int(time.time()), model=self.model)

    def prompt(self, turns: Sequence[ChatTurn], options: AnswerOptions) -> AskedPrompt:
        """A conversation as the model reads it. Raises InvalidRequest where its template refuses the turns."""
        try:
            return asked_prompt(self.served.dialect(options), turns)
        except TemplateFault as refusal:
            message = f"the model's chat template refuses these messages: {str(refusal)[:200]}"
            raise InvalidRequest(message, param="messages") from refusal

    async def answer(
        self, asked: AskedPrompt, options: AnswerOptions, record: AuditRecord, tell: Tell, *, index: int = 0
    ) -> Answer:
        """Answer a prompt once, counted and logged; `index` distinguishes several answers to one request."""
        began, is_first = time.monotonic(), True

        def note(event: Event) -> None:
            nonlocal is_first
            if is_first:
                self.metrics.first_text.observe(time.monotonic() - began)
                is_first = False
            self.metrics.note(event)
            record.note(event)

        made = await serve_answer(asked, options, self.served, tell, note, seed=seed_of(options.seed, index))
        self.fault = ""
        self.metrics.note_answer(made)
        record.spent["model"] += made.num_tokens
        record.spent["prompt"] = len(asked.prompt)
        return made

    def _check_open(self) -> None:
        if self.is_draining:
            raise TurnedAway(503, "this server is about to end", {"Connection": "close", "Retry-After": "5"})

    async def _refuse(self, reply: HttpReply, fault: Exception) -> int:
        """Say why there is no answer, or no more of it; returns the status of the refusal."""
        status, body, headers = self._refusal(reply, fault)
        try:
            if reply.status:
                await reply.event(body)
                await reply.end_events()
            elif status != GONE:
                await reply.json(body, status, headers)
        except (TurnedAway, OSError):
            return GONE  # the client is not there to hear it
        return status

    def _refusal(self, reply: HttpReply, fault: Exception) -> tuple[int, JsonObject, Mapping[str, str]]:
        match fault:
            case TurnedAway():
                code = _CODES.get(fault.status_code)
                return fault.status_code, error_json(fault.status_code, str(fault), code=code), fault.headers
            case InvalidRequest():
                return fault.status, error_json(fault.status, str(fault), param=fault.param, code=fault.code), {}
            case ContextFull():
                return 400, error_json(400, str(fault), param="messages", code="context_length_exceeded"), {}
            case MachineFault():
                _LOG.error("serve: %s: %s: %s", reply.id, type(fault).__name__, fault)
                if isinstance(fault, EngineFault):
                    self.fault = "the engine does not answer"
                places = {SandboxUnavailable: "sandbox", ToolUnavailable: "tool"}
                where = next((name for kind, name in places.items() if isinstance(fault, kind)), "engine")
                message = f"the {where} could not do its part; the log of the server says why"
                return 503, error_json(503, message, code=f"{where}_unavailable"), {"Retry-After": "5"}
        _LOG.error("serve: %s failed", reply.id, exc_info=fault)
        return 500, error_json(500, f"the server failed at this request; its log has {reply.id}"), {}


Work = Callable[[AnswerService, Request, HttpReply, AuditRecord], Awaitable[None]]
"""The work of one route."""


class RouteApp:
    """An ASGI application of one route; Starlette takes functions for something else."""

    def __init__(self, serve: Callable[[Request, Send], Awaitable[None]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(Request(scope, receive), send)
