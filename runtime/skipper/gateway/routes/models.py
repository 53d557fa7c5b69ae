"""``/v1/models``: what is stored."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from skipper import problems
from skipper.blobs import StoredFile
from skipper.errors import DefinitionError, NotFoundError
from skipper.gateway.answers import Json, json_bytes
from skipper.gateway.archive import ArchiveResponse
from skipper.gateway.contents import lost
from skipper.gateway.context import Context
from skipper.gateway.figures import calls_of
from skipper.gateway.imports import FILES, LAYOUT, MANIFEST
from skipper.gateway.model_documents import Stored, shown_version, version_document
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import MAX_PAGE, Name, VersionAt
from skipper.ledger import deployments, models
from skipper.ledger.connection import Connection
from skipper.ledger.records import Deployment, Fitness, ModelVersion
from skipper.selectors import Selector, parse_at


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
    async def version(name: Name, version: VersionAt) -> Any:
        found, held = await context.ledger.read(lambda conn: _found(conn, name, version))
        stored = await asyncio.to_thread(_stored, context, found)
        calls = await calls_of(context, found)
        return Json(shown_version(found, held, stored) | {"calls": calls})

    @router.get(
        "/models/{name}/versions/{version}/archive", summary="Download a version, as one tar"
    )
    async def archive(name: Name, version: VersionAt) -> Any:
        found, held = await context.ledger.read(lambda conn: _found(conn, name, version))
        return await asyncio.to_thread(_archive, context, found, held)

    return router


def _found(conn: Connection, name: str, version: str) -> tuple[ModelVersion, Deployment]:
    try:
        at = parse_at(version)
        stored = models.get(conn, name, at) if isinstance(at, int) else None
        if stored is not None and stored.state is Fitness.REMOVED:
            detail = f"version {version} of {name!r} was removed: {stored.reason}"
            raise Problem(problems.GONE, detail)
        return models.resolve(conn, Selector(name, at)), deployments.held_of(conn, name)
    except DefinitionError as error:
        raise Problem(problems.BAD_REQUEST, str(error)) from None
    except NotFoundError as error:
        raise Problem(problems.NOT_FOUND, str(error)) from None


def _stored(context: Context, version: ModelVersion) -> Stored | None:
    """What is stored of a version; None where that is gone or damaged."""
    blobs = context.values.blobs
    try:
        made_with = blobs.folder(version.digest).made_with
        return Stored(files=blobs.listing(version.digest), libraries=made_with)
    except (OSError, ValueError):
        return None


def _archive(context: Context, version: ModelVersion, held: Deployment) -> Response:
    """What is known of a version, and its files, each held against its hash as it is sent."""
    stored, blobs = _stored(context, version), context.values.blobs
    if stored is None:
        raise lost("is gone or damaged")
    manifest = json_bytes({"layout": LAYOUT} | shown_version(version, held, stored))
    about = StoredFile(path=MANIFEST, digest=blobs.put(manifest), size=len(manifest))
    files = [replace(each, path=FILES + each.path) for each in stored.files]
    name = f"{version.name}-{version.version}.tar"
    return ArchiveResponse([about, *files], blobs, tag=version.digest, name=name)
