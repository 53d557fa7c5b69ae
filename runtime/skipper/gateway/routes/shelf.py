"""``/v1/models/{name}/gc``: old versions are removed, but for those that anybody holds."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from skipper import problems
from skipper.errors import NotFoundError
from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import Caller, Name
from skipper.ledger import shelf
from skipper.ledger.records import Keeping
from skipper.selectors import MAX_VERSION
from skipper.settings.models import ModelSettings
from skipper.tasks.keeping import keeping, pinned


class Clearing(BaseModel):
    """What is kept, where that is not what the settings say; a trial removes nothing."""

    model_config = ConfigDict(extra="forbid")

    keep_versions: Annotated[StrictInt, Field(ge=1, le=MAX_VERSION)] | None = None
    keep_days: Annotated[float, Field(ge=0, le=36500, allow_inf_nan=False)] | None = None
    trial: bool = False


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["models"])

    @router.post("/gc", summary="Remove old versions that nobody holds")
    async def gc(name: Name, by: Caller, body: Clearing | None = None) -> Any:
        wanted = body or Clearing()
        kept = _keeping(context.settings.models.get(name, ModelSettings()), wanted, by)
        pins = _pinned(context, name)
        try:
            cleared = await context.ledger.write(
                lambda conn: shelf.clear(conn, name, kept, pins, is_trial=wanted.trial)
            )
        except NotFoundError as error:
            raise Problem(problems.NOT_FOUND, str(error)) from None
        held = [{"version": version, "by": each} for version, each in cleared.held.items()]
        return Json({"removed": cleared.removed, "held": held, "trial": wanted.trial})

    return router


def _keeping(settings: ModelSettings, wanted: Clearing, by: str) -> Keeping:
    """What is kept: as the request says, or else the settings. One of them must."""
    versions, days = wanted.keep_versions, wanted.keep_days
    if versions is None and days is None:
        versions, days = settings.keep_versions, settings.keep_days
    if versions is None and days is None:
        detail = "say what is kept: keep_versions or keep_days, here or in [models.NAME]"
        raise Problem(problems.BAD_REQUEST, detail)
    return keeping(versions, days, by=by, now=time.time())


def _pinned(context: Context, name: str) -> set[int]:
    """The versions that functions ask for by number.

    Raises Problem while files are still being read: they may pin others.
    """
    directory = context.directory
    if loading := directory.loading():
        detail = f"not all functions are known yet, which may pin versions: {', '.join(loading)}"
        raise Problem(problems.UNAVAILABLE, detail)
    return pinned(directory.functions(), name)
