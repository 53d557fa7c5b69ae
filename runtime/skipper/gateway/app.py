"""The application: routes, problem documents, documentation that works without a network."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

import skipper
from skipper import problems
from skipper.errors import FullError, SkipperError
from skipper.gateway import links
from skipper.gateway.access.asgi import Access
from skipper.gateway.access.door import Door
from skipper.gateway.answers import Json, problem_response
from skipper.gateway.audit import Audit
from skipper.gateway.audited import Audited
from skipper.gateway.browsers import docs_page, for_browsers
from skipper.gateway.budget import Budget
from skipper.gateway.context import Context
from skipper.gateway.invoke import Invoke
from skipper.gateway.problems import Problem
from skipper.gateway.proxies import Proxies
from skipper.gateway.routes import (
    functions,
    health,
    metrics,
    models,
    openapi,
    pools,
    schedules,
    tasks,
    webhooks,
)
from skipper.gateway.routes.health import Readiness
from skipper.wire.messages import ListedFunction

_CALLS, _INVOKE = "/v1/functions/", "/invoke"
_OF_STATUS = {404: problems.NOT_FOUND, 405: problems.METHOD, 413: problems.TOO_LARGE}


class Documented(NamedTuple):
    """An OpenAPI document, and the functions that it describes."""

    functions: list[ListedFunction]
    document: dict[str, Any]


class Gateway:
    """The application: its routes on ``context``, behind ``door``, and what they have seen.

    What changes something, and what is refused, is told to ``audit``.
    """

    def __init__(self, context: Context, door: Door, audit: Audit | None = None) -> None:
        self._context, self._door = context, door
        self._readiness = Readiness(context)
        self._documented: Documented | None = None
        self._api = FastAPI(
            title=context.settings.name,
            summary="Functions served by Skipper",
            version=skipper.__version__,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            # It would redirect to an absolute address, with the scheme and the Host that it sees.
            redirect_slashes=False,
        )
        own = context.settings.gateway
        self._proxies = Proxies(own.trusted_proxies, own.root_path)
        self._invoke = Invoke(context)
        self._add_routes()
        inside: ASGIApp = Access(self._route, door)
        if audit is not None and audit.is_on:
            inside = Audited(inside, audit, self._proxies)
        self.app: ASGIApp = without_prefix(inside, own.root_path)

    @property
    def budget(self) -> Budget:
        """For its bodies and its answers."""
        return self._context.budget

    def drain(self) -> None:
        """Refuse to be ready, and let long listeners go."""
        self._readiness.is_draining = True
        self._context.watchers.close()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls of functions at once, past the layers that every other request goes through."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path: str = scope["path"]
            name = path[len(_CALLS) : -len(_INVOKE)]
            if path == f"{_CALLS}{name}{_INVOKE}" and "/" not in name:
                scope["path_params"] = {"name": name}
                if self._proxies.are_named:
                    links.below(self._proxies.origin(scope).prefix)
                await self._invoke(scope, receive, send)
                return
        if scope["type"] == "http":
            send = for_browsers(send)
            prefix = self._proxies.origin(scope).prefix
            links.below(prefix)
            scope = {**scope, "root_path": prefix, "path": prefix + scope["path"]}
        await self._api(scope, receive, send)

    def _add_routes(self) -> None:
        api = self._api
        # A plain route before FastAPI's own: its dependency machinery would halve the rate.
        route = Route(f"{_CALLS}{{name}}{_INVOKE}", self._invoke, methods=["POST"])
        api.router.routes.insert(0, route)
        for part in (functions, models, pools, tasks, schedules, webhooks):
            api.include_router(part.routes(self._context))
        api.include_router(health.routes(self._readiness))
        api.include_router(metrics.routes(self._context, self._door.refusals))
        static = resources.files("fastapi_offline") / "static"
        api.mount("/docs/static", StaticFiles(directory=str(static)), name="docs-static")
        api.add_route("/openapi.json", self._document, include_in_schema=False)
        api.add_route("/docs", self._docs, include_in_schema=False)
        _add_problem_handlers(api)

    async def _document(self, request: Request) -> Response:
        functions = self._context.directory.functions()
        if self._documented is None or self._documented.functions != functions:
            needs_key = bool(self._context.settings.gateway.keys)
            specs = [each.spec for each in functions]
            document = openapi.document(self._api.openapi(), specs, needs_key=needs_key)
            self._documented = Documented(functions, document)
        prefix = str(request.scope["root_path"])
        servers = {"servers": [{"url": prefix}]} if prefix else {}
        return Json(self._documented.document | servers)

    async def _docs(self, request: Request) -> Response:
        del request
        return docs_page(f"{self._context.settings.name} · Skipper")


def without_prefix(app: ASGIApp, prefix: str) -> ASGIApp:
    """``app`` that also answers below ``prefix``, for proxies that hand paths on as they come."""
    if not prefix:
        return app
    before = f"{prefix}/"

    async def stripped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(before):
            scope = {**scope, "path": scope["path"][len(prefix) :]}
        await app(scope, receive, send)

    return stripped


def _meant(api: FastAPI, request: Request) -> str:
    """What to ask for in place of a path that ends in a slash; empty for any other."""
    path = str(request.scope["path"])
    without = {**request.scope, "path": path.rstrip("/")}
    if not path.endswith("/") or all(
        route.matches(without)[0] is Match.NONE for route in api.router.routes
    ):
        return ""
    return f"write it without the slash at its end: {without['path']}"


def _add_problem_handlers(api: FastAPI) -> None:
    def handles(error: type[Exception]) -> Callable[[Any], Any]:
        return api.exception_handler(error)

    @handles(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        del request
        return problem_response(error)

    @handles(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        kind = _OF_STATUS.get(error.status_code) or problems.plain(error.status_code)
        detail = f"{request.method} {request.scope['path']}: {_meant(api, request) or error.detail}"
        return problem_response(Problem(kind, detail), error.headers)

    @handles(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        del request
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem_response(Problem(problems.BAD_REQUEST, f"{where}: {first['msg']}"))

    @handles(Exception)
    async def internal(request: Request, error: Exception) -> Response:
        del request, error  # logged by the server, with its traceback
        return problem_response(Problem(problems.INTERNAL, "the gateway's log tells more"))

    @handles(SkipperError)
    async def unavailable(request: Request, error: SkipperError) -> Response:
        del request
        kind = problems.QUEUE_FULL if isinstance(error, FullError) else problems.UNAVAILABLE
        return problem_response(Problem(kind, str(error)))
