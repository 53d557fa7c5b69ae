"""The application as a whole: its routes and its documentation follow what there is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from skipper.gateway.app import Gateway
from skipper.settings.model import Settings
from tests.unit.gateway.asgi import request
from tests.unit.gateway.played import SPEC, PlayedDirectory, PlayedLink

PAGE = (Path(__file__).parents[3] / "docs" / "rest.md").read_text("utf-8")


def gateway(folder: Path) -> tuple[Gateway, PlayedDirectory]:
    """A gateway without a ledger, and what its hosts serve."""
    directory = PlayedDirectory(PlayedLink())
    context: Any = SimpleNamespace(
        settings=Settings(project_dir=folder), directory=directory, calls=None, max_body=1000
    )
    return Gateway(context), directory


async def described(gateway: Gateway) -> dict[str, Any]:
    answer = await request(gateway.app, path="/openapi.json", headers={"Host": "localhost"})
    assert answer.status == 200
    return dict(answer.json["paths"])


async def test_the_document_follows_what_is_served(tmp_path: Path) -> None:
    app, directory = gateway(tmp_path)
    assert "/v1/functions/f.f/invoke" in await described(app)
    directory.spec = SPEC.model_copy(update={"name": "g.g"})
    paths = await described(app)
    assert "/v1/functions/g.g/invoke" in paths
    assert "/v1/functions/f.f/invoke" not in paths


def listed() -> set[tuple[str, str]]:
    """Every route of the page's first table: its method and its path, without its query."""
    table = PAGE.partition("|---|---|\n")[2].partition("\n\n")[0]
    found = set()
    for row in table.splitlines():
        method = ""
        for text in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
            verb, _, path = text.rpartition(" ")
            method = verb or method
            found.add((method, path.partition("?")[0]))
    return found


async def test_the_page_lists_every_route(tmp_path: Path) -> None:
    app, _ = gateway(tmp_path)
    routes = {
        (method.upper(), path.replace("f.f", "{name}"))
        for path, methods in (await described(app)).items()
        for method in methods
    }
    assert listed() == routes
