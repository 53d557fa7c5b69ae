"""``/v1/functions``: what is served, and which files could not be loaded."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from fastapi import APIRouter

from skipper import problems
from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.gateway.function_limits import limits_of
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import Name
from skipper.spec import BrokenFile
from skipper.wire.messages import ListedFunction


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1", tags=["functions"])
    shows_all = context.shows_tracebacks

    def shown(item: ListedFunction) -> dict[str, Any]:
        document = item.document()
        return document if shows_all else document | {"file": short(item.spec.file)}

    def shown_broken(item: BrokenFile) -> dict[str, Any]:
        document = item.model_dump(mode="json")
        return document if shows_all else document | {"file": short(item.file), "traceback": ""}

    @router.get(
        "/functions",
        summary="List functions, and files that could not be loaded",
    )
    async def functions() -> Any:
        directory = context.directory
        return Json(
            {
                "items": [shown(item) for item in directory.functions()],
                "broken": [shown_broken(item) for item in directory.broken()],
                "loading": directory.loading(),
            }
        )

    @router.get("/functions/{name}", summary="Look at one function")
    async def function(name: Name) -> Any:
        for item in context.directory.functions():
            if item.spec.name == name:
                found = limits_of(item.spec, context.settings)
                return Json(shown(item) | {"limits": [each._asdict() for each in found]})
        if (broken := context.directory.broken_for(name)) is not None:
            raise Problem(
                problems.BROKEN,
                f"{broken.file}:{broken.line or 1}: {broken.tried}",
                {"function": name},
            )
        raise Problem(problems.UNKNOWN_FUNCTION, f"there is no function {name!r}")

    return router


def short(file: str) -> str:
    """A path in the project as it is; of one elsewhere, an installed plugin's, the last parts."""
    path = PurePath(file)
    return str(PurePath(*path.parts[-2:])) if path.is_absolute() else file
