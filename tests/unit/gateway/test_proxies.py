"""Whom a request comes from, and where its caller sees the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from skipper.gateway.http.peer import HttpPeer
from skipper.gateway.proxies import MAX_HOPS, Proxies, RequestOrigin, plain_address

PROXY, CALLER, OTHER = "10.0.0.1", "203.0.113.7", "198.51.100.9"
TRUSTED = (PROXY, "192.168.0.0/16", "2001:db8:1::/48")


def scope(peer: str | None, *headers: tuple[str, str], scheme: str = "http") -> dict[str, Any]:
    """A request from ``peer`` to the gateway's own address; None for one on the unix socket."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    client = None if peer is None else (peer, 40000)
    raw = [(b"host", b"gateway:8000"), *raw]
    return {"type": "http", "client": client, "scheme": scheme, "headers": raw}


def seen(
    peer: str | None, *headers: tuple[str, str], scheme: str = "http", root_path: str = ""
) -> RequestOrigin:
    proxies, asked = Proxies(TRUSTED, root_path), scope(peer, *headers, scheme=scheme)
    origin = proxies.origin(asked)
    assert proxies.client(HttpPeer(asked["client"]), asked["headers"]) == origin.client
    return origin


def chain(*hops: str) -> tuple[str, str]:
    return "X-Forwarded-For", ", ".join(hops)


SPOOFS = [
    [chain(CALLER)],
    [chain(CALLER), chain(PROXY)],
    [chain(CALLER, "192.168.1.1", PROXY)],
    [("X-Forwarded-Proto", "https")],
    [("X-Forwarded-Host", "api.example.com")],
    [("X-Forwarded-Prefix", "/ml")],
    [("Forwarded", "for=203.0.113.7;proto=https;host=api.example.com")],
    [("X-Real-IP", CALLER)],
]


@pytest.mark.parametrize("headers", SPOOFS)
@pytest.mark.parametrize("peer", [OTHER, "10.0.0.2", "127.0.0.1", "::1", None])
def test_what_a_stranger_says_of_itself_changes_nothing(
    peer: str | None, headers: list[tuple[str, str]]
) -> None:
    assert seen(peer, *headers) == seen(peer)
    assert seen(peer).client == (peer or "unix")
    assert not seen(peer, *headers).is_proxied


@pytest.mark.parametrize("headers", SPOOFS)
def test_without_trusted_proxies_nobody_is_believed(headers: list[tuple[str, str]]) -> None:
    assert Proxies().origin(scope(PROXY, *headers)) == Proxies().origin(scope(PROXY))


def test_a_trusted_proxy_is_believed() -> None:
    told = (
        chain(CALLER),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "API.example.com:443"),
        ("X-Forwarded-Prefix", "/ml"),
    )
    origin = seen(PROXY, *told)
    assert (origin.client, origin.scheme, origin.prefix) == (CALLER, "https", "/ml")
    assert origin.text == "https://api.example.com"
    assert origin.is_proxied


def test_the_standards_own_header_counts_from_nobody() -> None:
    """Because the usual proxies hand on what their caller wrote there."""
    assert seen(PROXY, ("Forwarded", f"for={CALLER};proto=https")).client == PROXY


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ([CALLER], CALLER),
        ([OTHER, CALLER], CALLER),
        ([OTHER, CALLER, "192.168.3.4"], CALLER),
        ([OTHER, CALLER, "192.168.3.4", "2001:db8:1::9"], CALLER),
        (["192.168.3.4", PROXY], "192.168.3.4"),
        ([PROXY, CALLER], CALLER),
        ([f"{CALLER}:55012"], CALLER),
        (["[2001:db8::7]:443"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["2001:DB8:0::7"], "2001:db8::7"),
        (["fe80::1%eth0"], "fe80::1"),
        (["::ffff:203.0.113.7"], CALLER),
        (["::ffff:10.0.0.1", CALLER, "::ffff:10.0.0.1"], CALLER),
        ([CALLER, "unknown"], PROXY),
        ([CALLER, "_hidden", "192.168.3.4"], "192.168.3.4"),
        ([CALLER, ""], PROXY),
        (["unix:"], PROXY),
        (["' OR 1=1 --"], PROXY),
        (["\xff\xfe"], PROXY),
        (["999.1.1.1"], PROXY),
        (["1.2.3.4\x1b[2J"], PROXY),
        ([""], PROXY),
    ],
)
def test_the_rightmost_hop_that_is_no_proxy_is_the_caller(hops: list[str], client: str) -> None:
    assert seen(PROXY, chain(*hops)).client == client


def test_a_header_that_comes_twice_is_one_list() -> None:
    assert seen(PROXY, chain(OTHER), chain(CALLER, "192.168.0.9")).client == CALLER
    twice = seen(PROXY, ("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https"))
    assert twice.scheme == "https"
    assert seen(PROXY, ("X-Forwarded-Host", "evil.example, api.example.com")).host == (
        "api.example.com"
    )


def test_ten_thousand_hops_are_not_walked() -> None:
    assert seen(PROXY, chain(CALLER, *["192.168.0.1"] * 10_000)).client == "192.168.0.1"
    assert seen(PROXY, chain(CALLER, *["192.168.0.1"] * (MAX_HOPS - 1))).client == CALLER
    assert seen(PROXY, chain(*[OTHER] * 10_000, CALLER)).client == CALLER


@pytest.mark.parametrize("text", ["gopher", "", "https\t;", "javascript", "httpss", "https http"])
def test_a_scheme_that_is_none_leaves_the_connections_own(text: str) -> None:
    assert seen(PROXY, ("X-Forwarded-Proto", text)).scheme == "http"
    assert seen(PROXY, ("X-Forwarded-Proto", text), scheme="https").scheme == "https"


@pytest.mark.parametrize(
    "text", ["", "a b", "evil.example/x", "u@evil.example", 'x"y', "[zz]", "a:123456", "a\x1b"]
)
def test_a_host_that_is_none_leaves_the_hosts_own(text: str) -> None:
    assert seen(PROXY, ("X-Forwarded-Host", text)).host == "gateway:8000"


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("/ml", "/ml"),
        ("/ml/", "/ml"),
        ("/", ""),
        ("", ""),
        ("//evil.example", "/set"),
        ("https://evil.example", "/set"),
        ("/a b", "/set"),
        ('/"><script>', "/set"),
        ("ml", "/set"),
        ("/a/b/c/d/e/f/g/h/i", "/set"),
    ],
)
def test_a_prefix_that_is_none_leaves_the_settings_own(text: str, prefix: str) -> None:
    assert seen(PROXY, ("X-Forwarded-Prefix", text), root_path="/set").prefix == prefix
    assert seen(OTHER, ("X-Forwarded-Prefix", text), root_path="/set").prefix == "/set"


@pytest.mark.parametrize(
    ("scheme", "host", "text"),
    [
        ("http", "localhost:8000", "http://localhost:8000"),
        ("http", "localhost:80", "http://localhost"),
        ("https", "localhost:80", "https://localhost:80"),
        ("https", "Api.Example.com:443", "https://api.example.com"),
        ("http", "[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_is_written_as_browsers_do(scheme: str, host: str, text: str) -> None:
    assert RequestOrigin(client=CALLER, scheme=scheme, host=host).text == text


def test_the_socket_is_trusted_by_its_name() -> None:
    proxies = Proxies(["unix"])
    assert proxies.origin(scope(None, chain(CALLER))).client == CALLER
    assert proxies.origin(scope("127.0.0.1", chain(CALLER))).client == "127.0.0.1"
    assert proxies.origin(scope(None, chain(CALLER, "unix"))).client == "unix"


@pytest.mark.parametrize(
    "text", ["", "unix", "1.2.3", "a" * 1000, "1.2.3.4.5", "[", "[]", ":", "%"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert plain_address(text) == ""
