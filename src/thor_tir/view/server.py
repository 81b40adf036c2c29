"""The web application over run folders: a page and the JSON it asks for, behind a token in the address.

Every address begins with the token, so that links into the page hold it and no cookie is needed. The page may load
nothing but its own files (Content-Security-Policy), and nothing here writes.
"""

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from threading import Thread
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from thor_tir.errors import UsageError
from thor_tir.storage.journal import JsonObject
from thor_tir.view.assets import PAGE_HEADERS, TYPES, asset
from thor_tir.view.curves import curves
from thor_tir.view.detail import candidates, detail, tokens
from thor_tir.view.outcomes import outcomes
from thor_tir.view.run import ViewedRun, state_of
from thor_tir.view.selection import PAGE_ROWS, Selection, choose, facets, listed, whole_number
from thor_tir.web_service import LOOPBACK, GracefulServer, Place, TurnedAway, refuse_other_hosts

BUDGET_S = 0.25
"""Time that one request may spend on reading; the page asks several at once, and the newest rows come first."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Address of the application, and the token that opens it."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8765
    """Port to listen on; 0 lets the system choose."""
    token: str = field(repr=False)
    """First part of every address."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise UsageError(f"a port is a number from 0 to 65535, found {self.port}")
        if len(self.token) < 16 or not (
            self.token.isascii() and self.token.replace("-", "").replace("_", "").isalnum()
        ):
            raise UsageError("a token is made of at least 16 letters, digits, - and _")


class View:
    """The application over some runs."""

    def __init__(self, runs: list[ViewedRun], config: ViewConfig) -> None:
        self.runs = runs
        self.config = config
        self.is_draining = False
        """Set by the end of the server."""

    @property
    def in_flight(self) -> int:
        """Always 0: nothing is lost when the server ends."""
        return 0

    def drop(self) -> None:
        """No effect: there is nothing to give up."""

    def app(self) -> Starlette:
        """The routes."""
        answers: dict[str, Callable[[Request], Any]] = {
            "api/state": self._state,
            "api/curves": self._curves,
            "api/{run}/outcomes": self._outcomes,
            "api/{run}/facets": self._facets,
            "api/{run}/trajectories": self._trajectories,
            "api/{run}/trajectory": self._trajectory,
            "api/{run}/tokens": self._tokens,
            "api/{run}/candidates": self._candidates,
        }
        routes = [Route(f"/{{token}}/{path}", self._guarded(_as_json(answer))) for path, answer in answers.items()]
        routes.append(Route("/{token}/api/{run}/row", self._guarded(self._row)))
        routes.append(Route("/{token}/{name:path}", self._guarded(self._asset)))
        routes.append(Route("/{rest:path}", lambda request: _refusal()))
        return Starlette(routes=routes)

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """The answer behind the token; mistakes of a request are reported as JSON."""

        def endpoint(request: Request) -> Response:
            if not self._admits(request):
                return _refusal()
            try:
                response = answer(request)
            except UsageError as error:
                response = _json({"error": str(error)}, 404)
            response.headers.update(PAGE_HEADERS)
            return response

        return endpoint

    def _admits(self, request: Request) -> bool:
        if self.config.host in LOOPBACK:
            try:
                refuse_other_hosts(request.headers)
            except TurnedAway:
                return False
        given = str(request.path_params["token"]).encode("utf-8", "replace")
        return hmac.compare_digest(given, self.config.token.encode())

    def _run(self, request: Request) -> ViewedRun:
        number = whole_number("run", request.path_params["run"])
        if number >= len(self.runs):
            raise UsageError(f"there are {len(self.runs)} runs, found number {number}")
        run = self.runs[number]
        run.refresh(BUDGET_S)
        return run

    def _state(self, request: Request) -> JsonObject:
        """The runs and how far they were read: what the page asks again and again."""
        for run in self.runs:
            run.refresh(BUDGET_S / len(self.runs))
        return {"runs": [state_of(run) for run in self.runs]}

    def _curves(self, request: Request) -> list[JsonObject]:
        self._state(request)
        return curves(self.runs)

    def _outcomes(self, request: Request) -> JsonObject:
        return outcomes(self._run(request))

    def _facets(self, request: Request) -> JsonObject:
        return facets(self._run(request), request.query_params.get("file", ""))

    def _trajectories(self, request: Request) -> JsonObject:
        return page_of(self._run(request), Selection.of(request.query_params))

    def _trajectory(self, request: Request) -> JsonObject:
        return detail(self._run(request), *_key(request))

    def _tokens(self, request: Request) -> JsonObject:
        return tokens(self._run(request), *_key(request))

    def _candidates(self, request: Request) -> JsonObject:
        return candidates(self._run(request), *_key(request))

    def _row(self, request: Request) -> Response:
        """The line as it stands in its journal, to be saved."""
        run = self._run(request)
        found = run.entry(*_key(request))
        if found is None:
            raise UsageError(f"{run.name} holds no such row")
        line = found[0].growing.read(found[1].place, found[1].length)
        return Response(
            line, headers={"Content-Disposition": 'attachment; filename="row.json"'}, media_type="application/json"
        )

    def _asset(self, request: Request) -> Response:
        name = request.path_params["name"] or "index.html"
        text = asset(name)
        if text is None:
            return _json({"error": "there is no such page"}, 404)
        kind = TYPES[name.rpartition(".")[2]]
        return Response(text, headers={}, media_type=f"{kind}; charset=utf-8")


def page_of(run: ViewedRun, selection: Selection) -> JsonObject:
    """One page of a list of trajectories."""
    chosen = choose(run, selection)
    return {
        "rows": listed(run, chosen),
        "total": chosen.total,
        "page": selection.page,
        "page_rows": PAGE_ROWS,
        "round": chosen.round,
        "unsearched": chosen.unsearched,
        "version": run.version,
        "unread": run.num_unread,
    }


async def serve(view: View, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the whole address. Raises UsageError where it cannot listen."""
    # The first trajectory that somebody opens needs modules that take a second to load.
    Thread(target=import_module, args=("thor_tir.rl.step",), daemon=True).start()
    place = Place(host=view.config.host, port=view.config.port, drain_s=1.0)
    server = GracefulServer(view.app(), view, place, lambda address: announce(f"{address}/{view.config.token}/"))
    await server.until_ended()


def _key(request: Request) -> tuple[str, str]:
    return request.query_params.get("file", ""), request.query_params.get("key", "")


def _as_json(answer: Callable[[Request], Any]) -> Callable[[Request], Response]:
    return lambda request: _json(answer(request))


def _json(value: object, status: int = 200) -> Response:
    # Half a surrogate pair, which a journal may spell, has no UTF-8; escaped it is a text like any other.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def _refusal() -> Response:
    sentence = "The address of this page holds a token: use the one that `thor view` printed when it began.\n"
    return Response(sentence, 404, PAGE_HEADERS, media_type="text/plain; charset=utf-8")
