"""Which requests the audit is told of."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from pydantic import SecretStr

from skipper.gateway.access.keys import Keys
from skipper.gateway.access.middleware import AccessMiddleware
from skipper.gateway.access.policy import AccessPolicy
from skipper.gateway.audit import Audit
from skipper.gateway.audited import Audited
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.peer import HttpPeer
from skipper.gateway.proxies import Proxies
from skipper.settings.model import GatewaySettings
from tests.unit.gateway.asgi import request
from tests.unit.gateway.test_audit import Clockwork

KEY = "3b0arnnc3gjk0ckto7avdbu64t"
INVOKE = "/v1/functions/f.f/invoke"


class WatchedDoor:
    """A policy with a key, something behind it that answers as told, and the audit's lines."""

    def __init__(self, *, calls: bool = True) -> None:
        self.put: list[bytes] = []
        self.audit = Audit(self.put.append, self.put.append if calls else None, later=Clockwork())
        settings = GatewaySettings(keys=(SecretStr(KEY),), trusted_proxies=("10.0.0.1",))
        policy, proxies = AccessPolicy(settings), Proxies(settings.trusted_proxies)
        self.answer: tuple[int, list[tuple[bytes, bytes]]] = 200, []
        self.front = AccessMiddleware(self.inside, policy, Audited(self.audit, proxies).follow)

    def inside(self, exchange: Exchange) -> None:
        status, headers = self.answer
        if status:
            exchange.respond(status, headers, b"")
        else:
            exchange.lose()

    async def ask(self, method: str, path: str, client: str = "127.0.0.1", **headers: str) -> None:
        peer = HttpPeer((client, 40000))
        given = {"Host": "localhost", "X-API-Key": KEY, "X-Request-Id": "r0"} | headers
        with contextlib.suppress(ValueError):  # there is no answer for who has left
            await request(self.front, method, path, given, peer=peer)

    @property
    def lines(self) -> list[dict[str, Any]]:
        self.audit.flush()
        return [json.loads(line) for line in b"".join(self.put).splitlines()]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_what_may_change_something_leaves_a_line(method: str) -> None:
    tried = WatchedDoor()
    await tried.ask(method, "/v1/tasks/3b0a/cancel")
    (line,) = tried.lines
    assert line["message"] == f"{method} /v1/tasks/3b0a/cancel"
    assert (line["address"], line["key"], line["request"]) == (
        "127.0.0.1",
        Keys([KEY]).names[1],
        "r0",
    )
    assert KEY not in json.dumps(line)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_only_reads_leaves_none(method: str) -> None:
    tried = WatchedDoor()
    await tried.ask(method, "/v1/tasks")
    assert tried.lines == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_is_refused_leaves_one_whatever_was_asked(method: str) -> None:
    tried = WatchedDoor()
    await tried.ask(method, "/v1/tasks", **{"X-API-Key": "guess"})
    await tried.ask(method, "/v1/tasks", Host="evil.example")
    found = [(line["status"], line["outcome"], line["key"]) for line in tried.lines]
    assert found == [(401, "key", None), (421, "host", None)]


async def test_the_task_that_a_request_began_is_named() -> None:
    tried = WatchedDoor()
    tried.answer = 202, [(b"location", b"/ml/v1/tasks/3b0arnnc3gjk0ckto7avdbu64t")]
    await tried.ask("POST", INVOKE)
    (line,) = tried.lines
    assert (line["function"], line["task"]) == ("f.f", "3b0arnnc3gjk0ckto7avdbu64t")


async def test_a_caller_who_has_left_leaves_a_line() -> None:
    tried = WatchedDoor()
    tried.answer = 0, []
    await tried.ask("POST", INVOKE)
    (line,) = tried.lines
    assert line["outcome"] == "left"


async def test_behind_a_trusted_proxy_the_caller_is_named() -> None:
    tried = WatchedDoor()
    told = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7"}
    await tried.ask("POST", INVOKE, "10.0.0.1", **told)
    await tried.ask("POST", INVOKE, "10.0.0.2", **told)
    assert [line["address"] for line in tried.lines] == ["203.0.113.7", "10.0.0.2"]


async def test_an_answer_without_an_id_has_that_of_its_request() -> None:
    tried = WatchedDoor()
    await tried.ask("GET", "/v1/tasks", **{"X-API-Key": "guess"})
    (line,) = tried.lines
    assert line["request"] == "r0"


async def test_without_direct_calls_tasks_and_refusals_are_kept() -> None:
    tried = WatchedDoor(calls=False)
    await tried.ask("POST", INVOKE)
    await tried.ask("POST", INVOKE, **{"X-API-Key": "guess"})
    tried.answer = 202, [(b"location", b"/v1/tasks/3b0a")]
    await tried.ask("POST", INVOKE)
    assert [line["status"] for line in tried.lines] == [401, 202]


async def test_a_long_path_is_cut() -> None:
    tried = WatchedDoor()
    await tried.ask("POST", "/" + "a" * 60_000)
    (line,) = tried.lines
    assert len(line["message"]) < 400
