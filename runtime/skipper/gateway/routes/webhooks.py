"""``/v1/webhooks``: who is notified of ended tasks, and whether that works."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import Response

from skipper import problems
from skipper.gateway.answers import Json, accepted_response
from skipper.gateway.context import Context
from skipper.gateway.problems import Problem
from skipper.settings.webhooks import Webhook

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

    @router.get("", summary="List webhooks, without their secrets")
    async def webhooks() -> Any:
        known = context.settings.webhooks
        return Json({"items": [_shown(name, known[name]) for name in sorted(known)]})

    @router.post("/{name}/test", summary="Send a webhook a ping, as a task")
    async def test(name: Name) -> Any:
        return await _test(context, name)

    return router


def _shown(name: str, webhook: Webhook) -> dict[str, Any]:
    shown = webhook.model_dump(exclude={"url", "secret"}, mode="json")
    return {"name": name, "origin": webhook.url.origin} | shown


async def _test(context: Context, name: str) -> Response:
    webhook = context.settings.webhooks.get(name)
    if webhook is None:
        raise Problem(problems.NOT_FOUND, f"there is no webhook {name!r} in skipper.toml")
    return await accepted_response(context, await context.intake.ping(name, webhook))
