"""``/v1/functions``, ``/v1/models`` and ``/v1/pools``: what there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from skipper import problems
from skipper.directory import Link
from skipper.documents import timestamp
from skipper.errors import SkipperError
from skipper.gateway.core import Core
from skipper.gateway.problems import Problem
from skipper.ledger import models
from skipper.ledger.records import ModelVersion

MAX_PAGE = 200
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]


def routes(core: Callable[[], Core]) -> APIRouter:
    """The routes; ``core`` gives what the running gateway has."""
    router = APIRouter(prefix="/v1")
    _add_functions(router, core)
    _add_models(router, core)
    _add_pools(router, core)
    return router


def _add_functions(router: APIRouter, core: Callable[[], Core]) -> None:
    @router.get(
        "/functions",
        tags=["functions"],
        summary="List functions, and files that could not be loaded",
    )
    async def functions() -> Any:
        directory = core().directory
        return JSONResponse(
            {
                "items": directory.described(),
                "broken": [item.model_dump(mode="json") for item in directory.broken()],
                "loading": directory.loading(),
            }
        )

    @router.get("/functions/{name}", tags=["functions"], summary="Look at one function")
    async def function(name: Name) -> Any:
        for item in core().directory.described():
            if item["name"] == name:
                return JSONResponse(item)
        if (broken := core().directory.broken_for(name)) is not None:
            raise Problem(
                problems.BROKEN,
                f"{broken.file}:{broken.line or 1}: {broken.error}",
                {"function": name},
            )
        raise Problem(problems.UNKNOWN_FUNCTION, f"there is no function {name!r}")


def _add_models(router: APIRouter, core: Callable[[], Core]) -> None:
    @router.get("/models", tags=["models"], summary="List models, each with its newest version")
    async def model_list() -> Any:
        newest = await core().ledger.read(
            lambda conn: [models.latest(conn, name) for name in models.list_names(conn)]
        )
        return JSONResponse({"items": [_shown(item) for item in newest if item], "next": None})

    @router.get(
        "/models/{name}",
        tags=["models"],
        summary="Look at one model and its versions, newest first",
    )
    async def model(
        name: Name, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50, cursor: str | None = None
    ) -> Any:
        try:
            versions, following = await core().ledger.read(
                lambda conn: models.versions(conn, name, limit, cursor)
            )
        except ValueError:
            raise Problem(
                problems.BAD_REQUEST, f"cursor {cursor!r} is not one that a page gave"
            ) from None
        if not versions and cursor is None:
            raise Problem(problems.NOT_FOUND, f"there is no model {name!r}")
        shown = [_shown(item) for item in versions]
        return JSONResponse({"name": name, "items": shown, "next": following})


def _add_pools(router: APIRouter, core: Callable[[], Core]) -> None:
    @router.get("/pools", tags=["pools"], summary="What each pool has and does")
    async def pools() -> Any:
        links = core().directory.links.values()
        return JSONResponse({"items": await asyncio.gather(*map(_pool, links))})


def _shown(version: ModelVersion) -> dict[str, Any]:
    told = asdict(version)
    del told["seq"]
    return told | {"created_at": timestamp(version.created_at)}


async def _pool(link: Link) -> dict[str, Any]:
    try:
        told: dict[str, Any] = await link.ask("pool")
    except SkipperError as error:
        return {"pool": link.pool, "reachable": False, "error": str(error)}
    return {"reachable": True} | told
