"""``/v1/models``: what is stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from skipper import problems
from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import MAX_PAGE, Name
from skipper.ledger import models
from skipper.ledger.records import ModelVersion
from skipper.tasks.documents import timestamp


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1", tags=["models"])

    @router.get("/models", summary="List models, each with its newest version")
    async def model_list() -> Any:
        newest = await context.ledger.read(
            lambda conn: [models.latest(conn, name) for name in models.list_names(conn)]
        )
        return Json({"items": [_shown(item) for item in newest if item], "next": None})

    @router.get(
        "/models/{name}",
        summary="Look at one model and its versions, newest first",
    )
    async def model(
        name: Name, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50, cursor: str | None = None
    ) -> Any:
        try:
            versions, following = await context.ledger.read(
                lambda conn: models.versions(conn, name, limit, cursor)
            )
        except ValueError:
            raise Problem(
                problems.BAD_REQUEST, f"cursor {cursor!r} is not one that a page gave"
            ) from None
        if not versions and cursor is None:
            raise Problem(problems.NOT_FOUND, f"there is no model {name!r}")
        shown = [_shown(item) for item in versions]
        return Json({"name": name, "items": shown, "next": following})

    return router


def _shown(version: ModelVersion) -> dict[str, Any]:
    document = asdict(version)
    del document["seq"]
    return document | {"created_at": timestamp(version.created_at)}
