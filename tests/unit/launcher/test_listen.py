"""The gateway's socket."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from skipper.errors import StartError
from skipper.launcher.listen import listen, owner_of


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "0.0.0.0", "::"])
def test_listens_and_can_be_reached(host: str) -> None:
    with listen(host, 0) as sock:
        local = "::1" if "::" in host else "127.0.0.1"
        if host == "localhost":
            local = sock.getsockname()[0]
        socket.create_connection((local, sock.getsockname()[1]), 5).close()


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="no such option here")
def test_the_kernel_keeps_little_of_what_nobody_reads() -> None:
    with listen("127.0.0.1", 0) as sock, socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(sock.getsockname())
        accepted, _ = sock.accept()
        with accepted:
            accepted.setblocking(False)
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < 8 << 20:
                    taken += accepted.send(bytes(1 << 16))
        assert taken < 1 << 20


def test_a_taken_port_names_its_owner() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"Port {port} on 127.0.0.1 is taken") as seen:
            listen("127.0.0.1", port)
        if Path("/proc/net/tcp").exists():
            assert f"by process {os.getpid()} (" in str(seen.value)
    assert seen.value.code == 7


def test_a_port_that_was_just_left_can_be_had_again() -> None:
    first = listen("127.0.0.1", 0)
    address = first.getsockname()
    with socket.create_connection(address, 5) as client:
        first.accept()[0].close()  # leaves the port in TIME_WAIT
        assert client.recv(1) == b""
    first.close()
    listen(*address).close()


def test_an_unknown_host_is_a_wrong_setting() -> None:
    with pytest.raises(StartError, match=r"gateway\.host = 'no\.such\.invalid'") as seen:
        listen("no.such.invalid", 0)
    assert seen.value.code == 3


def test_a_foreign_address_cannot_be_had() -> None:
    with pytest.raises(StartError, match=r"Cannot listen on 192\.0\.2\.1") as seen:
        listen("192.0.2.1", 0)
    assert seen.value.code == 7


def test_nobody_owns_a_free_port() -> None:
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    assert owner_of(port) is None
