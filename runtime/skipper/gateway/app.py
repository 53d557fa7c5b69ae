"""The application: routes, problem documents, documentation that works without a network."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

import skipper
from skipper import problems
from skipper.errors import SkipperError
from skipper.gateway.access import Access
from skipper.gateway.answers import Json, problem_response
from skipper.gateway.context import Context
from skipper.gateway.invoke import Invoke
from skipper.gateway.problems import Problem
from skipper.gateway.request_ids import with_id
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
    """The application: its routes on ``context``, and what they have seen."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._readiness = Readiness(context)
        self._documented: Documented | None = None
        self._api = FastAPI(
            title=context.settings.name,
            summary="Functions served by Skipper",
            version=skipper.__version__,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
        )
        self._invoke = Invoke(context)
        self._add_routes()
        self.app: ASGIApp = Access(self._route, context.settings.gateway)

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
                await self._invoke(scope, receive, send)
                return
        if scope["type"] == "http":
            send = with_id(send, scope["headers"])
        await self._api(scope, receive, send)

    def _add_routes(self) -> None:
        api = self._api
        # A plain route before FastAPI's own: its dependency machinery would halve the rate.
        route = Route(f"{_CALLS}{{name}}{_INVOKE}", self._invoke, methods=["POST"])
        api.router.routes.insert(0, route)
        for part in (functions, models, pools, tasks, schedules, webhooks):
            api.include_router(part.routes(self._context))
        api.include_router(health.routes(self._readiness))
        api.include_router(metrics.routes(self._context))
        static = resources.files("fastapi_offline") / "static"
        api.mount("/docs/static", StaticFiles(directory=str(static)), name="docs-static")
        api.add_route("/openapi.json", self._document, include_in_schema=False)
        api.add_route("/docs", self._docs, include_in_schema=False)
        _add_problem_handlers(api)

    async def _document(self, request: Request) -> Response:
        del request
        functions = self._context.directory.functions()
        if self._documented is None or self._documented.functions != functions:
            needs_key = bool(self._context.settings.gateway.keys)
            specs = [each.spec for each in functions]
            document = openapi.document(self._api.openapi(), specs, needs_key=needs_key)
            self._documented = Documented(functions, document)
        return Json(self._documented.document)

    async def _docs(self, request: Request) -> Response:
        del request
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{self._context.settings.name} · Skipper",
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon.png",
        )


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
        detail = f"{request.method} {request.url.path}: {error.detail}"
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
        return problem_response(Problem(problems.UNAVAILABLE, str(error)))
