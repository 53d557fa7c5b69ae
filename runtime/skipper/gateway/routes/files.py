"""``/v1/files``: what callers upload once and name in calls, as often as they like.

Uploads come by :class:`Uploads`, beside FastAPI, because their bodies are never held.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import Response

from skipper import problems
from skipper.gateway import links
from skipper.gateway.answers import Json, failures_answered, file_document, respond, storing
from skipper.gateway.contents import content_response
from skipper.gateway.context import Context
from skipper.gateway.http import asgi
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.inputs import FORM, members_of
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import WantedContent
from skipper.ledger.records import FileRecord
from skipper.values.envelope import Part
from skipper.values.file import OCTETS

FileId = Annotated[str, Path(pattern=r"^file-[0-9a-f]{32}$", description="what POST answered")]


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1/files", tags=["files"])

    @router.head("/{id}", include_in_schema=False)
    @router.get("/{id}", summary="Download a file, or with Range a part of it")
    async def get(id: FileId, wanted: WantedContent) -> Any:
        part = part_of(await _found(context, id))
        # Whatever it accepts: it asked for this file.
        response = content_response(part, context.values, wanted._replace(accept=""))
        response.headers["Cache-Control"] = "private, max-age=0, must-revalidate"
        return response

    @router.get("/{id}/info", summary="Look at a file: its size, type, and when it expires")
    async def info(id: FileId) -> Any:
        return Json(file_document(await _found(context, id)))

    @router.delete("/{id}", summary="Forget a file")
    async def delete(id: FileId) -> Any:
        if not await context.files.remove(id):
            raise _none(id)
        return Response(status_code=204)

    return router


def part_of(record: FileRecord) -> Part:
    """The content of a file."""
    return Part(media_type=record.media_type, size=record.size, name=record.name, ref=record.ref)


async def _found(context: Context, file_id: str) -> FileRecord:
    record = await context.files.get(file_id)
    if record is None or not await asyncio.to_thread(context.values.blobs.touch, record.ref):
        raise _none(file_id)
    return record


def _none(file_id: str) -> Problem:
    return Problem(problems.NOT_FOUND, f"there is no file {file_id!r}, or it has expired")


class Uploads:
    """Receives ``POST /v1/files``: the body is the file, or a form with it; ``?name=`` names it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def begin(self, exchange: Exchange, prefix: str = "") -> None:
        """Answer an upload; links in the answer begin with ``prefix``."""
        exchange.run(self._answer(exchange, prefix))

    async def _answer(self, exchange: Exchange, prefix: str) -> None:
        links.below(prefix)
        view = asgi.AsgiView(exchange)
        with failures_answered(view, "an upload"):
            with storing("the file"):
                record = await self._kept(exchange, view)
            response = Json(file_document(record), 201)
            response.headers["Location"] = links.link(f"/v1/files/{record.id}")
            respond(exchange, response)

    async def _kept(self, exchange: Exchange, view: asgi.AsgiView) -> FileRecord:
        inputs, files = self._context.inputs, self._context.files
        kind = exchange.head.header(b"content-type").decode("latin-1")
        named = members_of(exchange.head.query)
        if odd := sorted(named.keys() - {"name"}):
            raise Problem(problems.BAD_REQUEST, f"there is no parameter {odd[0]!r}; name= is one")
        if exchange.head.header(b"content-encoding").lower() not in (b"", b"identity"):
            detail = "send the file as it is, without Content-Encoding"
            raise Problem(problems.MEDIA, detail)
        inputs.of_files.check(length := exchange.head.length)
        await files.check_room(length)
        media_type = kind.partition(";")[0].strip().lower() or OCTETS
        if media_type == FORM:
            part = await inputs.file_of_form(kind, view.pieces())
        else:
            part = await inputs.file(media_type, None, view.pieces())
        try:
            return await files.add(replace(part, name=named.get("name", part.name)))
        finally:
            self._context.values.spool.remove([part.spool or ""])
