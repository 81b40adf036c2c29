"""The routes of `thor serve`, and the server that listens for them.

Nothing administrative is among them: weights, limits and keys change when the server is started again.
"""

from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Send

from thor_tir.serving.audit import AuditRecord
from thor_tir.serving.chat import chat
from thor_tir.serving.completions import complete
from thor_tir.serving.fields import InvalidRequest
from thor_tir.serving.replies import error_json, model_json
from thor_tir.serving.reply import HttpReply
from thor_tir.serving.responses import respond
from thor_tir.serving.service import AnswerService, RouteApp, Work
from thor_tir.view.assets import PAGE_HEADERS, TYPES, asset
from thor_tir.web_service import GracefulServer, Place, TurnedAway, refuse_other_hosts

_ANSWERING: Mapping[str, Work] = {
    "/v1/chat/completions": chat,
    "/v1/completions": complete,
    "/v1/responses": respond,
}
"""Routes that ask the model."""


def app(service: AnswerService) -> Starlette:
    """All routes."""
    routes = [
        Route(path, service.guarded(path, work, is_work=True), methods=["POST"]) for path, work in _ANSWERING.items()
    ]
    about: Mapping[str, Work] = {"/v1/models": _models, "/v1/models/{name:path}": _model, "/metrics": _metrics}
    routes += [Route(path, service.guarded(path, work, is_work=False), methods=["GET"]) for path, work in about.items()]
    routes.append(Route("/health", _health(service), methods=["GET"]))
    routes += [Route(path, _page(service), methods=["GET"]) for path in ("/", "/page/{name:path}")]
    return Starlette(routes=routes, exception_handlers={HTTPException: _nowhere})


def answer_server(service: AnswerService, announce: Callable[[str], None]) -> GracefulServer:
    """The service at its place; `announce` gets the address."""
    config = service.config
    place = Place(host=config.host, port=config.port, drain_s=config.drain_s)
    return GracefulServer(app(service), service, place, announce)


async def _models(service: AnswerService, request: Request, reply: HttpReply, record: AuditRecord) -> None:
    entry = model_json(service.model, service.created, service.served.max_model_len)
    await reply.json({"object": "list", "data": [entry]})


async def _model(service: AnswerService, request: Request, reply: HttpReply, record: AuditRecord) -> None:
    name = request.path_params["name"]
    if name != service.model:
        message = f"the model {name[:100]!r} does not exist; this server serves {service.model!r}"
        raise InvalidRequest(message, param="model", code="model_not_found", status=404)
    await reply.json(model_json(service.model, service.created, service.served.max_model_len))


async def _metrics(service: AnswerService, request: Request, reply: HttpReply, record: AuditRecord) -> None:
    await reply.bytes(service.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")


def _health(service: AnswerService) -> RouteApp:
    """The route of health checks, which needs no key, since a monitor may have none; clients get more fields."""

    async def serve(request: Request, send: Send) -> None:
        state = "draining" if service.is_draining else "failed" if service.fault else "ok"
        body: dict[str, object] = {"status": state}
        if service.knows(request):
            sandbox = service.served.sandbox.level
            counts = {"in_flight": service.in_flight, "waiting": service.queue.num_waiting}
            body |= {"fault": service.fault, "model": service.model, "sandbox": sandbox, **counts}
        reply = HttpReply(send, id="health", send_s=service.config.send_s)
        await reply.json(body, 200 if state == "ok" else 503)

    return RouteApp(serve)


def _page(service: AnswerService) -> RouteApp:
    """The route of the chat page and its files. They hold nothing of the server, so that they need no key."""

    async def serve(request: Request, send: Send) -> None:
        reply = HttpReply(send, id="page", send_s=service.config.send_s)
        name = request.path_params.get("name", "chat.html")
        found = asset(name)
        try:
            if service.needs_no_key:
                refuse_other_hosts(request.headers)
            if found is None:
                raise TurnedAway(404, f"the page has no file {name[:100]!r}")
        except TurnedAway as turned:
            await reply.json(error_json(turned.status_code, str(turned)), turned.status_code)
            return
        kind = TYPES[name.rpartition(".")[2]]
        await reply.bytes(found.encode(), f"{kind}; charset=utf-8", headers=PAGE_HEADERS)

    return RouteApp(serve)


async def _nowhere(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method[:20]} {request.url.path[:200]} is not served here: {error.detail}"
    return JSONResponse(error_json(error.status_code, message), error.status_code, headers=error.headers)
