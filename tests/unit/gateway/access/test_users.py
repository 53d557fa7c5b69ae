"""Accounts at the other end: both finders know the owner of a living connection, and no other."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from skipper.gateway.access import users
from skipper.gateway.access.users import Find
from skipper.system import IS_LINUX

pytestmark = pytest.mark.skipif(not IS_LINUX, reason="no other system tells")


@pytest.fixture(params=["sock_diag", "tables"])
def find(request: pytest.FixtureRequest) -> Iterator[Find]:
    if request.param == "tables":
        yield users._owner_in_tables
        return
    with users._sock_diag() as found:
        if found is None:
            pytest.skip("this sandbox has no NETLINK_SOCK_DIAG")
        yield found


@contextlib.contextmanager
def connection(listens: str, asks: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's and the gateway's end of a connection."""
    with ExitStack() as stack:
        family = socket.AF_INET6 if ":" in listens else socket.AF_INET
        listener = stack.enter_context(socket.socket(family))
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((listens, 0))
        listener.listen()
        port = listener.getsockname()[1]
        client = stack.enter_context(socket.create_connection((asks, port)))
        yield client, stack.enter_context(listener.accept()[0])


@pytest.mark.parametrize(
    ("listens", "asks"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "::1"),
        ("::", "127.0.0.1"),
        ("::", "::ffff:127.0.0.1"),
        ("::", "::1"),
    ],
)
def test_the_owner_of_a_connection_is_known_until_it_is_closed(
    find: Find, listens: str, asks: str
) -> None:
    with connection(listens, asks) as (client, server):
        here, there = server.getpeername()[:2], server.getsockname()[:2]
        assert find(here, there) == os.geteuid()
        client.shutdown(socket.SHUT_WR)
        assert find(here, there) == os.geteuid()
        client.close()
        assert find(here, there) is None


def test_what_listens_at_the_clients_port_is_not_the_client(find: Find) -> None:
    with connection("127.0.0.1", "127.0.0.1") as (_, server):
        there = server.getsockname()
        assert find(there, ("127.0.0.1", 9)) is None
        assert find(("127.0.0.1", 9), there) is None


@pytest.mark.parametrize("address", ["", "unix", "192.0.2.1", "2001:db8::1", "::1"])
def test_an_address_of_nobody_here_has_no_owner(find: Find, address: str) -> None:
    assert find((address, 4711), ("127.0.0.1", 8000)) is None


def test_this_system_tells() -> None:
    with users.finder() as found:
        assert found is not None


def test_one_that_finds_nothing_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_sock_diag", lambda: contextlib.nullcontext(lambda *_: None))
    with users.finder() as found:
        assert found is users._owner_in_tables
    monkeypatch.setattr(users, "_owner_in_tables", lambda *_: None)
    with users.finder() as found:
        assert found is None
