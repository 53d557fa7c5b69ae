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
from starlette.types import Receive, Scope, Send

import skipper
from skipper import problems
from skipper.errors import FullError, SkipperError
from skipper.gateway import links
from skipper.gateway.access.middleware import AccessMiddleware
from skipper.gateway.access.policy import AccessPolicy
from skipper.gateway.answers import Json, problem_response
from skipper.gateway.audit import Audit
from skipper.gateway.audited import Audited
from skipper.gateway.browsers import docs_page, for_browsers
from skipper.gateway.budget import Budget
from skipper.gateway.context import Context
from skipper.gateway.home import home_document, home_page, wants_json
from skipper.gateway.http import asgi
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.invoke import Invoke
from skipper.gateway.problems import Problem
from skipper.gateway.proxies import Proxies
from skipper.gateway.routes import (
    deployments,
    files,
    functions,
    health,
    imports,
    metrics,
    models,
    openapi,
    pools,
    schedules,
    shelf,
    tasks,
    webhooks,
)
from skipper.gateway.routes.health import Readiness
from skipper.wire.messages import ListedFunction

_CALLS, _INVOKE = "/v1/functions/", "/invoke"
_FILES, _MODELS = "/v1/files", "/v1/models"
_OF_STATUS = {404: problems.NOT_FOUND, 405: problems.METHOD, 413: problems.TOO_LARGE}


class Documented(NamedTuple):
    """An OpenAPI document, and the functions that it describes."""

    functions: list[ListedFunction]
    document: dict[str, Any]


class Gateway:
    """The application: its routes on ``context``, for whom ``policy`` lets in, and what they have
    seen.

    What changes something, and what is refused, is told to ``audit``.
    """

    def __init__(self, context: Context, policy: AccessPolicy, audit: Audit | None = None) -> None:
        self._context, self._policy = context, policy
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
        self._root_path = own.root_path
        self._proxies = Proxies(own.trusted_proxies, own.root_path)
        follow = Audited(audit, self._proxies).follow if audit is not None and audit.is_on else None
        self._access = AccessMiddleware(self._answer, policy, follow)
        self._invoke, self._uploads = Invoke(context), files.Uploads(context)
        self._imports = imports.Imports(context)
        self._add_routes()

    @property
    def budget(self) -> Budget:
        """For its bodies and its answers."""
        return self._context.budget

    def drain(self) -> None:
        """Refuse to be ready, and let long listeners go."""
        self._readiness.is_draining = True
        self._context.watchers.close()

    def begin(self, exchange: Exchange) -> None:
        """Answer a request, if the policy lets it in."""
        exchange.head.path = without_prefix(exchange.head.path, self._root_path)
        self._access.begin(exchange)

    def _answer(self, exchange: Exchange) -> None:
        """Answer a call by its exchange, whatever else by FastAPI."""
        head = exchange.head
        if head.method == "POST" and (name := _called(head.path)):
            self._invoke.begin(name, exchange, self._prefix_of(exchange))
        elif head.method == "POST" and head.path == _FILES:
            self._uploads.begin(exchange, self._prefix_of(exchange))
        elif head.method == "POST" and head.path == _MODELS:
            self._imports.begin(exchange, self._prefix_of(exchange))
        else:
            asgi.answer(self._answer_otherwise, exchange)

    def _prefix_of(self, exchange: Exchange) -> str:
        """What the paths in its answer begin with."""
        if not self._proxies.are_named:
            return ""
        return self._proxies.origin(asgi.scope_of(exchange)).prefix

    async def _answer_otherwise(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = self._proxies.origin(scope).prefix
        links.below(prefix)
        scope = {**scope, "root_path": prefix, "path": prefix + scope["path"]}
        await self._api(scope, receive, for_browsers(send))

    def _add_routes(self) -> None:
        api = self._api
        # What comes here has another method, because calls go by begin().
        route = Route(f"{_CALLS}{{name}}{_INVOKE}", _not_here, methods=["POST"])
        api.router.routes.insert(0, route)
        api.router.routes.insert(1, Route(_FILES, _not_here, methods=["POST"]))
        api.router.routes.insert(2, Route(_MODELS, _not_here, methods=["POST"]))
        of_models = (models, deployments, shelf)
        for part in (functions, files, *of_models, pools, tasks, schedules, webhooks):
            api.include_router(part.routes(self._context))
        api.include_router(health.routes(self._readiness))
        api.include_router(metrics.routes(self._context, self._policy.refusals))
        static = resources.files("fastapi_offline") / "static"
        api.mount("/docs/static", StaticFiles(directory=str(static)), name="docs-static")
        api.add_route("/openapi.json", self._document, include_in_schema=False)
        api.add_route("/docs", self._docs, include_in_schema=False)
        api.add_route("/", self._home, include_in_schema=False)
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

    async def _home(self, request: Request) -> Response:
        directory = self._context.directory
        functions, broken = directory.functions(), directory.broken()
        if wants_json(request.headers.get("accept", "")):
            return Json(home_document(self._context.settings.name, functions, broken))
        return home_page(self._context.settings.name, functions, broken)


async def _not_here(request: Request) -> Response:
    raise HTTPException(404)


def without_prefix(path: str, prefix: str) -> str:
    """``path`` as it is below ``prefix``, for proxies that hand paths on as they come."""
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


def _called(path: str) -> str:
    """The name of the function that is called at ``path``; empty for any other path."""
    name = path[len(_CALLS) : -len(_INVOKE)]
    return name if path == f"{_CALLS}{name}{_INVOKE}" and "/" not in name else ""


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
