"""The models of a stand-in gateway: one with three versions, whose record moves as a real one's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from skipper.errors import DeploymentError
from skipper.ledger import transitions
from skipper.ledger.records import Deployment

AT = "2026-01-01T10:00:00Z"


def version(name: str, number: int) -> dict[str, Any]:
    """A version as lists have it; 3 is unfit."""
    return {
        "name": name,
        "version": number,
        "digest": f"{number:064x}",
        "format": "keras",
        "metrics": {"rmse": 3.0 + number / 10},
        "params": {"epochs": 10 * number},
        "code": f"c{number}",
        "task_id": f"task{number}",
        "function": "boston.train",
        "created_at": AT,
        "size": 1000 * number,
        "state": "unfit" if number == 3 else "fit",
        "reason": "its weights are NaN" if number == 3 else None,
        "gate": None,
    }


class PlayedModels:
    """Answers what is below ``/v1/models``."""

    def __init__(self) -> None:
        self.past = [Deployment(name="boston", production=2, previous=1, revision=2)]
        self.drops = 0
        """How many further changes lose their connection once they have taken effect."""
        self.gate: dict[str, Any] | None = None
        """What the gate has said of every version."""
        self.pending: list[str] = []
        """Pools that do not take a change in."""

    @property
    def held(self) -> Deployment:
        return self.past[-1]

    async def models(self, request: Request) -> Response:
        is_second = request.query_params.get("cursor") == "2"
        item = version("digits", 1) if is_second else version("boston", 3)
        return JSONResponse({"items": [item], "next": None if is_second else "2"})

    async def model(self, request: Request) -> Response:
        if (name := request.path_params["name"]) != "boston":
            return refused(404, "not-found", f"There is no model {name!r}")
        items = [version(name, number) for number in (3, 2, 1)]
        return JSONResponse({"name": name, "items": items, "next": None})

    async def version(self, request: Request) -> Response:
        text, held = request.path_params["version"], self.held
        number = int(text) if text.isdigit() else self._number(text)
        if number is None or number > 3:
            return refused(404, "not-found", f"model 'boston' has no version {text}")
        file = {"path": "model.keras", "size": 1000 * number, "sha256": f"{number:064x}"}
        roles = {"production": held.production, "previous": held.previous}
        more = {
            "roles": [role for role, each in roles.items() if each == number],
            "aliases": [alias for alias, each in held.aliases.items() if each == number],
            "files": [file, {"path": "same.txt", "size": 4, "sha256": "0" * 64}],
        }
        return JSONResponse(version("boston", number) | more | {"gate": self.gate})

    async def deployment(self, request: Request) -> Response:
        if request.method == "GET":
            return self._answer(request)
        given = {k: v for k, v in (await request.json()).items() if k != "why"}
        return await self._step(request, lambda held: transitions.changed(held, given))

    async def deployments(self, _: Request) -> Response:
        items = [document(each) for each in reversed(self.past)]
        return JSONResponse({"items": items, "next": None})

    async def promote(self, request: Request) -> Response:
        given = await request.json()
        number, percent = self._number(given["version"]), given.get("percent")
        if number == 3:
            return refused(422, "unfit-version", "version 3 of 'boston' is unfit")
        if self.gate and not given.get("force"):
            return refused(422, "kept-out", f"its gate keeps version {number} out")
        if number is None or number > 3:
            return refused(422, "no-such-version", f"model 'boston' has no {given['version']!r}")
        if percent is None:
            return await self._step(request, lambda held: transitions.promoted(held, number))
        return await self._step(
            request, lambda held: transitions.with_candidate(held, number, percent)
        )

    async def rollback(self, request: Request) -> Response:
        return await self._step(request, transitions.rolled_back)

    async def alias(self, request: Request) -> Response:
        name = request.path_params["alias"]
        if request.method == "DELETE":
            if name not in self.held.aliases:
                return refused(404, "not-found", f"model 'boston' has no alias {name!r}")
            return await self._step(request, lambda held: transitions.unaliased(held, name))
        number = self._number((await request.json())["version"]) or 0
        return await self._step(request, lambda held: transitions.aliased(held, name, number))

    async def archive(self, request: Request) -> Response:
        return Response(b"a tar", media_type="application/x-tar")

    async def imported(self, request: Request) -> Response:
        if await request.body() != b"a tar":
            return refused(422, "invalid-input", "it is no tar")
        made = version(request.query_params.get("name", "boston"), 4)
        return JSONResponse(made | {"state": "stored"}, 201)

    async def gc(self, request: Request) -> Response:
        given = await request.json()
        if given["keep_versions"] is None and given["keep_days"] is None:
            return refused(400, "bad-request", "say what is kept")
        held = [{"version": 2, "by": "production"}]
        return JSONResponse({"removed": [1], "held": held, "trial": given["trial"]})

    def _number(self, at: Any) -> int | None:
        if isinstance(at, int):
            return at
        roles = {"production": self.held.production, "previous": self.held.previous}
        roles["candidate"] = self.held.candidate
        return roles.get(at, self.held.aliases.get(at))

    async def _step(self, request: Request, step: Callable[[Deployment], Deployment]) -> Response:
        held, match = self.held, request.headers.get("if-match", "*")
        if match not in ("*", f'"{held.revision}"'):
            detail = f"the deployment of 'boston' is at revision {held.revision}, not at {match}"
            return refused(409, "changed-meanwhile", detail, deployment=document(held))
        try:
            made = step(held)
        except DeploymentError as error:
            return refused(422, "invalid-deployment", str(error))
        body = json.loads(await request.body() or b"{}")
        self.past.append(replace(made, revision=held.revision + 1, by="x", why=body.get("why")))
        if self.drops:
            self.drops -= 1
            return drop(request)
        return self._answer(request, pending=self.pending)

    def _answer(self, request: Request, **members: Any) -> Response:
        if (name := request.path_params["name"]) != "boston":
            return refused(404, "not-found", f"There is no model {name!r}")
        return JSONResponse(document(self.held) | members)

    def routes(self) -> list[Route]:
        one = "/v1/models/{name}"
        return [
            Route("/v1/models", self.models),
            Route("/v1/models", self.imported, methods=["POST"]),
            Route(one, self.model),
            Route(one + "/versions/{version}", self.version),
            Route(one + "/versions/{version}/archive", self.archive),
            Route(one + "/deployment", self.deployment, methods=["GET", "PUT"]),
            Route(one + "/deployments", self.deployments),
            Route(one + "/promote", self.promote, methods=["POST"]),
            Route(one + "/gc", self.gc, methods=["POST"]),
            Route(one + "/rollback", self.rollback, methods=["POST"]),
            Route(one + "/aliases/{alias}", self.alias, methods=["PUT", "DELETE"]),
        ]


def drop(request: Request) -> Response:
    """Cut the connection off without an answer."""
    cycle = cast(Any, request.receive).__self__  # uvicorn's own; there is no public way
    cycle.transport.abort()
    return Response()


def document(record: Deployment) -> dict[str, Any]:
    """A record as the gateway answers it."""
    shown = asdict(record) | {"at": AT}
    del shown["seq"]
    return shown


def refused(status: int, slug: str, detail: str, **members: Any) -> Response:
    """A problem document."""
    told = {"type": f"/problems/{slug}", "title": slug, "status": status, "detail": detail}
    return JSONResponse(told | members, status)
