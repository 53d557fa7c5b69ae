"""``/v1/functions``: what is served, and which files could not be loaded."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from skipper import problems
from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import Name


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1", tags=["functions"])

    @router.get(
        "/functions",
        summary="List functions, and files that could not be loaded",
    )
    async def functions() -> Any:
        directory = context.directory
        return Json(
            {
                "items": [item.document() for item in directory.functions()],
                "broken": [item.model_dump(mode="json") for item in directory.broken()],
                "loading": directory.loading(),
            }
        )

    @router.get("/functions/{name}", summary="Look at one function")
    async def function(name: Name) -> Any:
        for item in context.directory.functions():
            if item.spec.name == name:
                return Json(item.document())
        if (broken := context.directory.broken_for(name)) is not None:
            raise Problem(
                problems.BROKEN,
                f"{broken.file}:{broken.line or 1}: {broken.error}",
                {"function": name},
            )
        raise Problem(problems.UNKNOWN_FUNCTION, f"there is no function {name!r}")

    return router
