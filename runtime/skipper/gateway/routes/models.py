"""``/v1/models``: what is stored."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query

from skipper import problems
from skipper.blobs import StoredFile
from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.gateway.model_documents import shown_version, version_document
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import MAX_PAGE, Name, VersionNumber
from skipper.ledger import deployments, models
from skipper.ledger.records import Fitness, ModelVersion


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1", tags=["models"])

    @router.get("/models", summary="List models, each with its newest version")
    async def model_list() -> Any:
        newest = await context.ledger.read(
            lambda conn: [models.latest(conn, name) for name in models.list_names(conn)]
        )
        return Json({"items": [version_document(item) for item in newest if item], "next": None})

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
        shown = [version_document(item) for item in versions]
        return Json({"name": name, "items": shown, "next": following})

    @router.get("/models/{name}/versions/{version}", summary="Look at one version of a model")
    async def version(name: Name, version: VersionNumber) -> Any:
        found = await context.ledger.read(partial(models.get, name=name, version=version))
        if found is None:
            raise Problem(problems.NOT_FOUND, f"model {name!r} has no version {version}")
        if found.state is Fitness.REMOVED:
            detail = f"version {version} of {name!r} was removed: {found.reason}"
            raise Problem(problems.GONE, detail)
        held = await context.ledger.read(lambda conn: deployments.held_of(conn, name))
        files = await asyncio.to_thread(_files, context, found)
        return Json(shown_version(found, held, files))

    return router


def _files(context: Context, version: ModelVersion) -> list[StoredFile] | None:
    try:
        return context.values.blobs.listing(version.digest)
    except (OSError, ValueError):  # it is gone or damaged, and the version is there all the same
        return None
