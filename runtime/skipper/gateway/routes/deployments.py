"""``/v1/models/{name}/deployment``: which versions serve, and the verbs that change that."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, NamedTuple, Self

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from skipper import problems
from skipper.errors import (
    ConflictError,
    DefinitionError,
    DeploymentError,
    KeptOutError,
    NotFoundError,
    UnfitError,
)
from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.gateway.model_documents import deployment_document
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import (
    MAX_PAGE,
    Caller,
    Follows,
    MustFollow,
    Name,
)
from skipper.ledger import deployments, models, transitions
from skipper.ledger.connection import Connection
from skipper.ledger.records import Deployment, Forced
from skipper.ledger.transitions import changed, unaliased
from skipper.problems import ProblemKind
from skipper.selectors import MAX_VERSION, Role, Selector, parse_at

TAKEN_S = 1.0
"""How long the hosts of this machine may take to serve what has been changed."""

_Number = Annotated[StrictInt, Field(ge=1, le=MAX_VERSION)]
_Why = Annotated[str, Field(max_length=500)]
_Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    why: _Why | None = None


class Change(_Body):
    """What is to be different; a member that is left out stays as it is, one that is null ends."""

    production: _Number | None = None
    candidate: _Number | None = None
    percent: _Percent = 0.0
    shadow: _Number | None = None
    aliases: dict[str, _Number] = {}


class Promotion(_Body):
    """A version, by its number, role or alias. With ``percent`` it becomes the candidate.

    With ``force`` and a reason, whatever the model's gate has said about it.
    """

    version: _Number | str
    percent: _Percent | None = None
    force: bool = False

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.force and not (self.why or "").strip():
            raise ValueError("say why a version is promoted that its gate keeps out")
        return self


class Rollback(_Body):
    """Nothing but a reason."""


class Alias(_Body):
    """The version that an alias names."""

    version: _Number | str


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["models"])
    _add_reads(router, context)
    _add_verbs(router, context)
    _add_aliases(router, context)
    return router


def _add_reads(router: APIRouter, context: Context) -> None:
    @router.get("/deployment", summary="Look at which versions serve")
    async def deployment(name: Name) -> Any:
        return _answer(await _held(context, name))

    @router.get("/deployments", summary="List the records that have held, newest first")
    async def past(
        name: Name,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: Annotated[int | None, Query(ge=1, le=MAX_VERSION)] = None,
    ) -> Any:
        await _held(context, name)
        found = await context.ledger.read(
            lambda conn: deployments.history(conn, name, limit + 1, cursor)
        )
        following = str(found[limit - 1].revision) if len(found) > limit else None
        items = [deployment_document(each) for each in found[:limit]]
        return Json({"items": items, "next": following})


def _add_verbs(router: APIRouter, context: Context) -> None:
    @router.put("/deployment", summary="Change which versions serve")
    async def change(name: Name, body: Change, follows: MustFollow, by: Caller) -> Any:
        given = body.model_dump(include=body.model_fields_set - {"why"})
        said = _Said(by, body.why, follows)
        return await _changed(context, name, said, lambda _, held: changed(held, given))

    @router.post("/promote", summary="Put a version in production, or part of the calls to it")
    async def promote(name: Name, body: Promotion, follows: Follows, by: Caller) -> Any:
        at, percent = _at(body.version), body.percent

        def step(conn: Connection, held: Deployment) -> Deployment:
            found = models.resolve(conn, Selector(name, at))
            if body.force:
                models.force(conn, found, Forced(by=by, why=body.why or "", at=time.time()))
            if percent is None:
                return transitions.promoted(held, found.version)
            return transitions.with_candidate(held, found.version, percent)

        return await _changed(context, name, _Said(by, body.why, follows), step)

    @router.post("/rollback", summary="Put the version in production that was there before")
    async def rollback(
        name: Name, follows: Follows, by: Caller, body: Rollback | None = None
    ) -> Any:
        said = _Said(by, body.why if body else None, follows)
        return await _changed(context, name, said, lambda _, held: transitions.rolled_back(held))


def _add_aliases(router: APIRouter, context: Context) -> None:
    @router.put("/aliases/{alias}", summary="Give a version a name of your own")
    async def alias(name: Name, alias: Name, body: Alias, follows: Follows, by: Caller) -> Any:
        at = _at(body.version)

        def step(conn: Connection, held: Deployment) -> Deployment:
            version = models.resolve(conn, Selector(name, at)).version
            return transitions.aliased(held, alias, version)

        return await _changed(context, name, _Said(by, body.why, follows), step)

    @router.delete("/aliases/{alias}", summary="Take such a name away")
    async def unalias(name: Name, alias: Name, follows: Follows, by: Caller) -> Any:
        held = await _held(context, name)
        if alias not in held.aliases:
            raise Problem(problems.NOT_FOUND, f"model {name!r} has no alias {alias!r}")
        said = _Said(by, None, follows)
        return await _changed(context, name, said, lambda _, held: unaliased(held, alias))


class _Said(NamedTuple):
    """Who wants a change, why, and which revision it is to follow; None: whichever holds."""

    by: str
    why: str | None
    follows: int | None


async def _held(context: Context, name: str) -> Deployment:
    try:
        return await context.ledger.read(lambda conn: deployments.held_of(conn, name))
    except NotFoundError as error:
        raise Problem(problems.NOT_FOUND, str(error)) from None


async def _changed(
    context: Context,
    name: str,
    said: _Said,
    step: Callable[[Connection, Deployment], Deployment],
) -> Response:
    """Take a step, and answer once whoever serves on this machine has taken it in."""

    def change(conn: Connection) -> Deployment:
        def signed(held: Deployment) -> Deployment:
            return replace(step(conn, held), at=time.time(), by=said.by, why=said.why)

        return deployments.change(conn, name, signed, follows=said.follows)

    await _held(context, name)
    try:
        made = await context.ledger.write(change)
    except ConflictError as error:
        now = deployment_document(await _held(context, name))
        raise Problem(problems.CHANGED, str(error), {"deployment": now}) from None
    except (NotFoundError, DeploymentError) as error:
        raise Problem(_kind_of(error), str(error)) from None
    return _answer(made, pending=await context.directory.renew_models(TAKEN_S))


def _kind_of(error: Exception) -> ProblemKind:
    if isinstance(error, UnfitError):
        return problems.UNFIT
    if isinstance(error, KeptOutError):
        return problems.KEPT_OUT
    is_absent = isinstance(error, NotFoundError)
    return problems.NO_VERSION if is_absent else problems.DEPLOYMENT


def _at(version: int | str) -> int | Role | str:
    try:
        return version if isinstance(version, int) else parse_at(version)
    except DefinitionError as error:
        raise Problem(problems.NO_VERSION, str(error)) from None


def _answer(record: Deployment, **members: Any) -> Response:
    document = deployment_document(record) | members
    return Json(document, headers={"ETag": f'"{record.revision}"'})
