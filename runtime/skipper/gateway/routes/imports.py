"""``POST /v1/models``: an archive of a version becomes the next version of its name.

It comes beside FastAPI, because its body is never held. Nobody has loaded it: it is tried where
somebody puts it in production.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from skipper import problems, selectors
from skipper.blobs import temporary_folder
from skipper.errors import DefinitionError, FormatError
from skipper.gateway import links
from skipper.gateway.access.policy import caller_of
from skipper.gateway.answers import Json, failures_answered, respond, storing
from skipper.gateway.archive import TAR
from skipper.gateway.context import Context
from skipper.gateway.http import asgi
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.imports import Manifest, unpack
from skipper.gateway.inputs import members_of
from skipper.gateway.model_documents import version_document
from skipper.gateway.problems import Problem
from skipper.gateway.reception import BodyLimit
from skipper.gateway.routes.deployments import TAKEN_S
from skipper.ledger import models
from skipper.ledger.records import ImportedModel, ModelVersion
from skipper.values.envelope import Part


class Imports:
    """Receives ``POST /v1/models``: the body is the archive; ``?name=`` gives another name."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def begin(self, exchange: Exchange, prefix: str = "") -> None:
        """Answer an import; links in the answer begin with ``prefix``."""
        exchange.run(self._answer(exchange, prefix))

    async def _answer(self, exchange: Exchange, prefix: str) -> None:
        links.below(prefix)
        view = asgi.AsgiView(exchange)
        with failures_answered(view, "an import"):
            with storing("the model"):
                made = await self._taken_in(exchange, view)
            await self._context.directory.renew_models(TAKEN_S)  # for who asks for its number
            response = Json(version_document(made), 201)
            response.headers["Location"] = links.link(
                f"/v1/models/{made.name}/versions/{made.version}"
            )
            respond(exchange, response)

    async def _taken_in(self, exchange: Exchange, view: asgi.AsgiView) -> ModelVersion:
        name, by = _name(exchange), caller_of(exchange.key, exchange.peer)
        inputs, spool = self._context.inputs, self._context.values.spool
        limit = BodyLimit(inputs.room.most, "files.quota_gb")
        limit.check(exchange.head.length)
        part = await inputs.file(TAR, None, view.pieces(), limit)
        try:
            new = await asyncio.to_thread(self._stored, part, name, by)
        finally:
            spool.remove([part.spool or ""])
        return await self._context.ledger.write(lambda conn: models.take_in(conn, new))

    def _stored(self, part: Part, name: str | None, by: str) -> ImportedModel:
        """What is in an archive, once all of it is proven and its files are in the store."""
        values = self._context.values
        with (
            temporary_folder(self._context.settings.state_dir / "tmp") as place,
            values.spool.open(part.spool or "") as stream,
        ):
            try:
                manifest = unpack(stream, folder := Path(place))
            except FormatError as error:
                detail = f"the file is no version of a model that can be imported: {error}"
                raise Problem(problems.INVALID_INPUT, detail) from None
            digest = values.blobs.put_folder(folder, made_with=manifest.libraries, adopts=True)
        return _imported(manifest, name, digest, by)


def _name(exchange: Exchange) -> str | None:
    """What the model is to be called, if that is said. Raises Problem."""
    named = members_of(exchange.head.query)
    if odd := sorted(named.keys() - {"name"}):
        raise Problem(problems.BAD_REQUEST, f"there is no parameter {odd[0]!r}; name= is one")
    if exchange.head.header(b"content-encoding").lower() not in (b"", b"identity"):
        raise Problem(problems.MEDIA, "send the file as it is, without Content-Encoding")
    if (name := named.get("name")) is not None:
        try:
            selectors.check_name(name)
        except DefinitionError as error:
            raise Problem(problems.BAD_REQUEST, str(error)) from None
    return name


def _imported(manifest: Manifest, name: str | None, digest: str, by: str) -> ImportedModel:
    origin = {"name": manifest.name, "version": manifest.version, "task_id": manifest.task_id}
    origin |= {"created_at": manifest.created_at, "digest": manifest.digest, "by": by}
    return ImportedModel(
        name=name or manifest.name,
        digest=digest,
        format=manifest.format,
        function=manifest.function,
        created_at=time.time(),
        metrics=manifest.metrics,
        params=manifest.params,
        code=manifest.code,
        size=sum(file.size for file in manifest.files),
        origin=origin,
    )
