"""``/v1/pools``: what each pool has and does."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from skipper.errors import SkipperError
from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.wire.link import Link
from skipper.wire.messages import GetPoolState


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1", tags=["pools"])

    @router.get("/pools", summary="What each pool has and does")
    async def pools() -> Any:
        links = context.directory.links.values()
        return Json({"items": await asyncio.gather(*map(_pool, links))})

    return router


async def _pool(link: Link) -> dict[str, Any]:
    try:
        state = await link.ask(GetPoolState())
    except SkipperError as error:
        return {"pool": link.pool, "reachable": False, "error": str(error)}
    return {"reachable": True} | state.document()
