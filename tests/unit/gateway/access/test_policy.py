"""Who is let in: the access policy as a whole, before an application."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from typing import Any

import pytest

from skipper.gateway.access import users
from skipper.gateway.access.middleware import AccessMiddleware
from skipper.gateway.access.policy import AccessPolicy, open_policy
from skipper.gateway.access.refusals import Reason
from skipper.gateway.access.users import Find
from skipper.gateway.http import head as http
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.peer import HttpPeer
from skipper.settings.model import GatewaySettings
from tests.unit.gateway.asgi import CLIENT, SERVER, Answer, request

ONE, OTHER = "one-key-0123456789", "another-key-0123456789"
APP = "https://app.example.com"
Pairs = list[tuple[str, str]]


class Inside:
    """What is behind the policy: keeps who came in."""

    def __init__(self) -> None:
        self.seen: list[http.Head] = []

    def answer(self, exchange: Exchange) -> None:
        self.seen.append(exchange.head)
        exchange.respond(200, [(b"vary", b"Prefer")], b"inside")


async def knock(
    settings: GatewaySettings,
    headers: dict[str, str] | Pairs,
    *,
    method: str = "POST",
    path: str = "/v1/functions/a.b/invoke",
    find: Find | None = None,
    **scope: Any,
) -> Answer:
    """Ask for entry; nobody who is refused has been inside, and each of those is counted."""
    inside, policy = Inside(), AccessPolicy(settings, find)
    answer = await request(AccessMiddleware(inside.answer, policy), method, path, headers, **scope)
    assert bool(inside.seen) is (answer.status == 200)
    assert sum(policy.refusals.totals().values()) == (answer.status not in (200, 204))
    return answer


def settings(
    host: str = "127.0.0.1", *hosts: str, keys: bool = False, **more: Any
) -> GatewaySettings:
    given = {"host": host, "allowed_hosts": hosts, "keys": (ONE, OTHER) if keys else ()}
    return GatewaySettings.model_validate(given | more)


@pytest.mark.parametrize(
    ("gateway", "host", "status"),
    [
        (settings(), "localhost:8000", 200),
        (settings(), "LOCALHOST", 200),
        (settings(), "127.0.0.1:8000", 200),
        (settings(), "[::1]:8000", 200),
        (settings("127.0.0.2"), "127.0.0.2", 200),
        (settings(), "evil.example", 421),
        (settings(), "localhost.evil.example", 421),
        (settings(), "[::1", 400),
        (settings(), "", 400),
        (settings(), "localhost:8000:9000", 400),
        (settings(), "local host", 400),
        (settings(), "user@localhost", 400),
        (settings(), "localhost/path", 400),
        (settings(), "localhost, localhost", 400),
        (settings(), "localhost.", 421),
        (settings(), "[0:0:0:0:0:0:0:1]:8000", 200),
        (settings("127.0.0.1", "*.skipper.test"), "a.b.skipper.test", 200),
        (settings("127.0.0.1", "*.skipper.test"), "skipper.test", 421),
        (settings("127.0.0.1", "*.skipper.test"), "evilskipper.test", 421),
        (settings("127.0.0.1", "*"), "anything.example", 200),
        (settings("127.0.0.1", "*"), "any thing", 400),
        (settings("0.0.0.0", keys=True), "any thing", 400),
        (settings("127.0.0.1", "skipper.test"), "skipper.test:80", 200),
        (settings("127.0.0.1", "Skipper.Test"), "skipper.test", 200),
        (settings("127.0.0.1", "skipper.test"), "localhost", 200),
        (settings("0.0.0.0", keys=True), "anything.example", 200),
        (settings("0.0.0.0", "skipper.test", keys=True), "anything.example", 421),
        (settings("0.0.0.0", "skipper.test", keys=True), "skipper.test", 200),
        (settings("10.0.0.7", "skipper.test", keys=True), "10.0.0.7:80", 200),
    ],
)  # fmt: skip
async def test_only_hosts_that_are_served_are_answered(
    gateway: GatewaySettings, host: str, status: int
) -> None:
    headers = {"Host": host, "X-API-Key": ONE}
    assert (await knock(gateway, headers)).status == status


async def test_a_request_without_a_host_is_refused_on_loopback() -> None:
    assert (await knock(settings(), {})).status == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {ONE}"}, 200),
        ({"Authorization": f"bearer {OTHER}"}, 200),
        ({"Authorization": f"Bearer  {ONE} "}, 200),
        ({"X-API-Key": OTHER}, 200),
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {ONE}"}, 401),
        ({"Authorization": ONE}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": ONE[:-1]}, 401),
        ({"X-API-Key": f"{ONE}s"}, 401),
        ({"X-API-Key": ONE.upper()}, 401),
        ({"Cookie": f"key={ONE}"}, 401),
    ],
)
async def test_where_keys_are_set_one_of_them_is_needed(
    headers: dict[str, str], status: int
) -> None:
    answer = await knock(settings(keys=True), {"Host": "localhost"} | headers)
    assert answer.status == status
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert ONE not in answer.body.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/readyz", 200),
        ("/readyz?verbose", 401),
        ("/readyz/", 401),
        ("/livez/../v1/functions", 401),
        ("/metrics", 401),
        ("/docs", 401),
        ("/openapi.json", 401),
        ("/v1/functions", 401),
        ("/", 401),
    ],
)
async def test_only_probes_are_open_to_those_without_a_key(path: str, status: int) -> None:
    answer = await knock(settings(keys=True), {"Host": "localhost"}, method="GET", path=path)
    assert answer.status == status


async def test_a_refusal_is_a_problem_document() -> None:
    answer = await knock(settings(), {"Host": "evil.example"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 421
    assert "evil.example" in answer.json["detail"]


@pytest.mark.parametrize("headers", [{}, {"Host": "10.0.0.7:8000"}, {"Host": "no host"}])
async def test_probes_are_answered_under_any_host(headers: dict[str, str]) -> None:
    for path in ("/livez", "/readyz"):
        assert (await knock(settings(), headers, method="GET", path=path)).status == 200
    verbose = await knock(settings(), headers, method="GET", path="/readyz?verbose")
    assert verbose.status in (400, 421)


# --- several keys ---


@pytest.mark.parametrize(
    "sent",
    [
        [("Authorization", f"Bearer {ONE}"), ("X-API-Key", "wrong")],
        [("Authorization", "Bearer wrong"), ("X-API-Key", ONE)],
        [("Authorization", f"Bearer {ONE}"), ("Authorization", "Bearer wrong")],
        [("Authorization", f"Basic {ONE}"), ("Authorization", f"BEARER\t {ONE}")],
        [("X-API-Key", ""), ("X-API-Key", ONE), ("X-API-Key", "wrong")],
        [("Authorization", f"Bearer {OTHER}"), ("X-API-Key", ONE)],
    ],
)
async def test_any_right_key_lets_in_whatever_the_order(sent: Pairs) -> None:
    for pairs in (sent, list(reversed(sent))):
        answer = await knock(settings(keys=True), [("Host", "localhost"), *pairs])
        assert answer.status == 200


@pytest.mark.parametrize(
    "sent",
    [
        [("Authorization", "Bearer wrong"), ("X-API-Key", "wrong")],
        [("Authorization", f"Bearer {ONE[:9]}"), ("X-API-Key", ONE[9:])],
        [("X-API-Key", f"{ONE},{OTHER}")],
        [("Authorization", f"Bearer {ONE}, Bearer {OTHER}")],
        [("Authorization", f"{ONE} Bearer")],
        [("X-API-Key", f"Bearer {ONE}")],
        [("Authorization", f"Bearer{ONE}")],
        [("X-API-Key", "\xe4" * 20)],
    ],
)
async def test_none_that_is_right_lets_nobody_in_whatever_the_order(sent: Pairs) -> None:
    for pairs in (sent, list(reversed(sent))):
        answer = await knock(settings(keys=True), [("Host", "localhost"), *pairs])
        assert answer.status == 401


# --- pages ---


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "PROPFIND"])
@pytest.mark.parametrize(
    ("page", "status"),
    [
        ([], 200),
        ([("Origin", "http://localhost:8000")], 200),
        ([("Origin", "http://localhost:8000"), ("Sec-Fetch-Site", "same-origin")], 200),
        ([("Sec-Fetch-Site", "none")], 200),
        ([("Sec-Fetch-Site", "same-origin")], 200),
        ([("Origin", "http://localhost:3000")], 403),
        ([("Origin", "http://localhost")], 403),
        ([("Origin", "http://127.0.0.1:8000")], 403),
        ([("Origin", "https://localhost:8000")], 403),
        ([("Origin", "http://localhost:8000.evil.example")], 403),
        ([("Origin", "null")], 403),
        ([("Origin", "")], 403),
        (
            [("Origin", "http://localhost:8000"), ("Origin", "https://evil.example")],
            403,
        ),
        (
            [("Origin", "https://evil.example"), ("Origin", "http://localhost:8000")],
            403,
        ),
        ([("Sec-Fetch-Site", "same-site")], 403),
        ([("Sec-Fetch-Site", "cross-site")], 403),
        ([("Sec-Fetch-Site", "whatever")], 403),
        ([("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")], 403),
        ([("Origin", "http://localhost:8000"), ("Sec-Fetch-Site", "same-site")], 403),
        ([("Origin", "http://localhost:3000"), ("Sec-Fetch-Site", "same-origin")], 403),
    ],
)
async def test_a_page_of_another_origin_may_look_but_not_act(
    method: str, page: Pairs, status: int
) -> None:
    headers = [("Host", "localhost:8000"), *page]
    answer = await knock(settings(), headers, method=method)
    assert answer.status == status
    assert not any(name.startswith("access-control-") for name in answer.headers)
    for reading in ("GET", "HEAD", "OPTIONS"):
        assert (await knock(settings(), headers, method=reading)).status == 200


async def test_a_page_behind_tls_that_a_proxy_ends_is_the_gateways_own() -> None:
    site = {"Sec-Fetch-Site": "same-origin"}
    headers = {"Host": "ml.example.com", "Origin": "https://ml.example.com"}
    gateway = settings("127.0.0.1", "ml.example.com")
    assert (await knock(gateway, headers | site)).status == 200
    assert (await knock(gateway, headers)).status == 403
    behind = settings("127.0.0.1", "ml.example.com", trusted_proxies=["127.0.0.1"])
    assert (await knock(behind, headers | {"X-Forwarded-Proto": "https"})).status == 200
    assert (await knock(behind, headers)).status == 403


PREFLIGHT = [
    ("Host", "localhost:8000"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "authorization,content-type"),
]


@pytest.mark.parametrize("keys", [False, True])
async def test_a_named_origin_is_let_in_with_what_browsers_need(keys: bool) -> None:
    gateway = settings(keys=keys, cors_origins=[APP])
    asked = await knock(gateway, [*PREFLIGHT, ("Origin", APP)], method="OPTIONS")
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == APP
    assert "POST" in asked.headers["access-control-allow-methods"]
    for name in ("Authorization", "Content-Type", "Prefer", "Idempotency-Key", "Last-Event-ID"):
        assert name in asked.headers["access-control-allow-headers"]
    assert int(asked.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in asked.headers
    assert "access-control-allow-private-network" not in asked.headers
    headers = [("Host", "localhost:8000"), ("Origin", APP), ("Sec-Fetch-Site", "cross-site")]
    answer = await knock(gateway, [*headers, ("X-API-Key", ONE)])
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", f"{APP}.evil.example", APP.upper(), f"{APP}:8443", ""],
)
@pytest.mark.parametrize("keys", [False, True])
async def test_no_other_origin_is(keys: bool, origin: str) -> None:
    gateway = settings(keys=keys, cors_origins=[APP])
    asked = await knock(gateway, [*PREFLIGHT, ("Origin", origin)], method="OPTIONS")
    posted = await knock(
        gateway, [("Host", "localhost:8000"), ("Origin", origin), ("X-API-Key", ONE)]
    )
    twice = await knock(gateway, [("Host", "localhost:8000"), ("Origin", APP), ("Origin", origin)])
    for answer in (asked, posted, twice):
        assert answer.status == 403
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert answer.headers["vary"] == "Origin"


async def test_a_named_page_sees_why_it_was_refused() -> None:
    gateway = settings(keys=True, cors_origins=[APP])
    for host, status in (("localhost", 401), ("evil.example", 421), ("no host", 400)):
        answer = await knock(gateway, {"Host": host, "Origin": APP})
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == APP


async def test_a_preflight_opens_no_host_that_is_not_served() -> None:
    asked = [("Host", "evil.example"), *PREFLIGHT[1:], ("Origin", APP)]
    assert (await knock(settings(cors_origins=[APP]), asked, method="OPTIONS")).status == 421


async def test_a_named_page_may_reach_a_private_network() -> None:
    private = [("Access-Control-Request-Private-Network", "true"), ("Origin", APP)]
    asked = await knock(settings(cors_origins=[APP]), [*PREFLIGHT, *private], method="OPTIONS")
    assert asked.headers["access-control-allow-private-network"] == "true"


async def test_without_named_origins_answers_say_nothing_of_them() -> None:
    answer = await knock(settings(), {"Host": "localhost"})
    assert answer.headers["vary"] == "Prefer"


# --- accounts of this machine ---


@pytest.mark.parametrize("uid", [os.geteuid(), users.ROOT])
async def test_without_keys_this_account_and_roots_are_let_in(uid: int) -> None:
    answer = await knock(settings(), {"Host": "localhost"}, find=lambda *_: uid)
    assert answer.status == 200


@pytest.mark.parametrize("uid", [54321, 65534, None])
async def test_no_other_account_is(uid: int | None) -> None:
    find = lambda *_: uid  # noqa: E731
    for method in ("GET", "POST", "OPTIONS"):
        answer = await knock(settings(), {"Host": "localhost"}, method=method, find=find)
        assert answer.status == 403
        assert answer.json["type"] == "/problems/other-user"
        assert all(word in answer.json["detail"] for word in ("gateway.keys", "gateway.local"))
    probe = await knock(settings(), {"Host": "localhost"}, method="GET", path="/livez", find=find)
    assert probe.status == 200


async def test_a_trusted_proxys_account_is_let_in() -> None:
    gateway = settings(trusted_proxies=["127.0.0.1"])
    assert (await knock(gateway, {"Host": "localhost"}, find=lambda *_: 33)).status == 200


async def test_who_may_open_a_unix_socket_is_let_in() -> None:
    for server, status in ((("/run/skipper.sock", None), 200), (SERVER, 403), (None, 403)):
        peer = HttpPeer(None, server)
        answer = await knock(settings(), {"Host": "localhost"}, find=lambda *_: None, peer=peer)
        assert answer.status == status


async def test_an_account_is_looked_up_once_a_connection_and_anew_for_the_next() -> None:
    asked: list[int] = []

    def find(*ends: object) -> int:
        assert ends == (CLIENT, SERVER)
        asked.append(len(asked))
        return os.geteuid()

    mine, others = HttpPeer(CLIENT, SERVER), HttpPeer(CLIENT, SERVER)
    for peer, lookups in ((mine, 1), (mine, 1), (others, 2), (mine, 2)):
        assert (await knock(settings(), {"Host": "localhost"}, find=find, peer=peer)).status == 200
        assert len(asked) == lookups


def test_accounts_are_looked_up_where_nothing_else_guards() -> None:
    for gateway, are_looked_up in (
        (settings(), True),
        (settings(keys=True), False),
        (settings(local="anyone"), False),
    ):
        with open_policy(gateway) as policy:
            assert (policy._find is not None) is are_looked_up


@pytest.mark.parametrize(
    ("host", "more", "is_told"),
    [
        ("0.0.0.0", {}, True),
        ("box.example", {}, True),
        ("127.0.0.1", {}, False),
        ("0.0.0.0", {"trusted_proxies": ["10.0.0.1"]}, False),
        ("0.0.0.0", {"tls_cert": "cert.pem", "tls_key": "key.pem"}, False),
        ("0.0.0.0", {"socket": "gateway.sock"}, False),
    ],
)
def test_that_keys_go_in_clear_is_told_at_the_start(
    caplog: pytest.LogCaptureFixture, host: str, more: dict[str, Any], is_told: bool
) -> None:
    with open_policy(settings(host, keys=True, **more)):
        assert ("in clear" in caplog.text) is is_told
    assert ONE not in caplog.text
    caplog.clear()
    with open_policy(settings(host, keys=True, **more), "gateway-2"):
        assert not caplog.records


def test_that_accounts_cannot_be_told_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "finder", lambda: contextlib.nullcontext(None))
    for name in ("gateway-1", "gateway-2", "gateway-3"):
        with open_policy(settings(workers=3), name):
            assert len(caplog.records) == 1
    assert "every account of this machine" in caplog.text


# --- what else comes to the policy ---


async def test_who_may_come_in_comes_in_unchanged() -> None:
    inside = Inside()
    front = AccessMiddleware(inside.answer, AccessPolicy(settings()))
    await request(front, "POST", "/x", {"Host": "localhost", "Prefer": "wait=1"})
    (head,) = inside.seen
    assert (head.method, head.path) == ("POST", "/x")
    assert (b"prefer", b"wait=1") in head.headers


async def test_a_refused_key_is_logged_with_its_address_and_without_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    wrong = "wrong-key-0123456789"
    headers = {"Host": "localhost", "X-API-Key": wrong, "Authorization": f"Bearer {wrong}"}
    await knock(settings(keys=True), headers, peer=HttpPeer(("203.0.113.7", 1), SERVER))
    assert "203.0.113.7" in caplog.text
    assert wrong not in caplog.text


class Head:
    """A request's head, without a server."""

    method, path, query = "POST", "/v1/functions/a.b/invoke", b""

    def __init__(self, headers: Pairs) -> None:
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers]


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ([("X-API-Key", ONE)], 1),
        ([("X-API-Key", OTHER)], 2),
        ([("X-API-Key", OTHER), ("Authorization", f"Bearer {ONE}")], 1),
        ([("X-API-Key", OTHER), ("Origin", APP)], 2),
    ],
)
async def test_which_key_let_in_is_known_by_a_name_that_opens_nothing(
    sent: Pairs, number: int
) -> None:
    policy = AccessPolicy(settings(keys=True, cors_origins=[APP]))
    admission = policy.admit(Head([("Host", "localhost"), *sent]), HttpPeer(CLIENT, SERVER))
    digest = hashlib.sha256((ONE, OTHER)[number - 1].encode()).hexdigest()
    assert (admission.problem, admission.reason, admission.key) == (None, None, digest[:8])


async def test_why_it_was_refused_is_known_in_a_word() -> None:
    policy = AccessPolicy(settings(keys=True))
    for headers, reason in (
        ([("Host", "evil.example")], Reason.HOST),
        ([("Host", "localhost"), ("Origin", "null")], Reason.ORIGIN),
        ([("Host", "localhost"), ("X-API-Key", ONE[:-1])], Reason.KEY),
    ):
        admission = policy.admit(Head(headers), HttpPeer(CLIENT, SERVER))
        assert (admission.reason, admission.key) == (reason, "")
