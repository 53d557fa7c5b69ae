"""The application as a whole: its routes and its documentation follow what there is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skipper.gateway.access.policy import AccessPolicy
from skipper.gateway.app import Gateway
from skipper.settings.model import GatewaySettings, Settings
from tests.unit.gateway.asgi import request
from tests.unit.gateway.played import SPEC, PlayedDirectory, PlayedLink

PAGE = (Path(__file__).parents[3] / "docs" / "rest.md").read_text("utf-8")


def gateway(folder: Path, **own: Any) -> tuple[Gateway, PlayedDirectory]:
    """A gateway without a ledger, its ``own`` settings, and what its hosts serve."""
    directory = PlayedDirectory(PlayedLink())
    settings = Settings(project_dir=folder, gateway=GatewaySettings(**own))
    context: Any = SimpleNamespace(
        settings=settings, directory=directory, calls=None, max_body=1000, shows_tracebacks=True
    )
    return Gateway(context, AccessPolicy(settings.gateway)), directory


async def described(gateway: Gateway) -> dict[str, Any]:
    answer = await request(gateway, path="/openapi.json", headers={"Host": "localhost"})
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


PLAIN = ["/docs", "/openapi.json", "/livez", "/v1/functions/f.f"]


@pytest.mark.parametrize("path", PLAIN)
async def test_a_slash_at_the_end_is_answered_with_what_to_write(path: str, tmp_path: Path) -> None:
    app, _ = gateway(tmp_path)
    headers = {"Host": "localhost"}
    for ending in ("/", "//"):
        answer = await request(app, path=path + ending, headers=headers)
        assert answer.status == 404
        assert answer.json["detail"].endswith(f"write it without the slash at its end: {path}")
        assert "location" not in answer.headers
    assert (await request(app, path=path, headers=headers)).status == 200


async def test_what_is_there_with_no_slash_either_is_plainly_not_there(tmp_path: Path) -> None:
    app, _ = gateway(tmp_path)
    for path in ("/nothing/", "//", "/v1/", "//evil.example/"):
        answer = await request(app, path=path, headers={"Host": "localhost"})
        assert answer.status == 404
        assert answer.json["detail"] == f"GET {path}: Not Found"


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/static/swagger-ui.css"])
async def test_everything_is_also_there_below_the_prefix(path: str, tmp_path: Path) -> None:
    """Because some proxies take the prefix off the path, and others hand it on."""
    app, _ = gateway(tmp_path, root_path="/ml")
    headers = {"Host": "localhost"}
    plain = await request(app, path=path, headers=headers)
    below = await request(app, path=f"/ml{path}", headers=headers)
    assert (plain.status, below.status) == (200, 200)
    assert plain.body == below.body
    assert (await request(app, path=f"/mlx{path}", headers=headers)).status == 404
    assert (await request(app, path=f"/ml/ml{path}", headers=headers)).status == 404


async def test_the_document_names_the_prefix_as_its_server(tmp_path: Path) -> None:
    proxied = {"X-Forwarded-Prefix": "/told", "Host": "localhost"}
    believed = {"trusted_proxies": ("127.0.0.1",)}
    cases: list[tuple[dict[str, Any], str, Any]] = [
        ({}, "127.0.0.1", None),
        ({"root_path": "/ml"}, "127.0.0.1", [{"url": "/ml"}]),
        (believed, "127.0.0.1", [{"url": "/told"}]),
        (believed, "127.0.0.2", None),
    ]
    for own, peer, servers in cases:
        app, _ = gateway(tmp_path, **own)
        answer = await request(app, path="/openapi.json", headers=proxied, client=(peer, 40000))
        assert answer.json.get("servers") == servers, own


async def test_every_answer_keeps_browsers_from_framing_and_guessing(tmp_path: Path) -> None:
    app, _ = gateway(tmp_path)
    for path in (*PLAIN, "/nothing", "/docs/static/swagger-ui-bundle.js"):
        for host in ("localhost", "evil.example"):
            answer = await request(app, path=path, headers={"Host": host})
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_who_opens_the_address_gets_a_page_and_a_program_json(tmp_path: Path) -> None:
    app, _ = gateway(tmp_path, root_path="/ml")
    for path in ("/", "/ml/"):
        answer = await request(app, path=path, headers={"Host": "localhost", "Accept": "text/html"})
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"f.f" in answer.body
        assert "script" not in answer.headers["content-security-policy"]
    headers = {"Host": "localhost", "Accept": "application/json"}
    document = (await request(app, headers=headers, path="/")).json
    assert document["project"] == tmp_path.name
    assert document["functions"] == ["f.f"]


KEY = "0123456789abcdef0123456789abcdef"


async def test_the_page_is_for_whom_the_keys_let_in(tmp_path: Path) -> None:
    app, _ = gateway(tmp_path, keys=[KEY])
    headers = {"Host": "localhost", "Accept": "text/html"}
    assert (await request(app, path="/", headers=headers)).status == 401
    answer = await request(app, path="/", headers=headers | {"Authorization": f"Bearer {KEY}"})
    assert answer.status == 200
