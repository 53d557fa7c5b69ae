"""Which account of this machine is at the other end of a connection.

A TCP address tells a machine, not an account: what listens on loopback without keys would serve
every local user with the rights, the files and the environment of the one who started it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from skipper.gateway.http.peer import Address
from skipper.gateway.proxies import plain_address

Find: TypeAlias = Callable[[Address, Address], int | None]
"""The uid that owns the end of a connection at the first address, whose other end is the second.

None where no process holds it: it has been closed, or is on another machine.
"""

ROOT = 0
"""May do anything on this machine anyway."""
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def allowed() -> frozenset[int]:
    """The accounts whose requests need no key: this one, and root's."""
    return frozenset({os.geteuid(), ROOT})


@contextlib.contextmanager
def finder() -> Iterator[Find | None]:
    """What can tell accounts here; None where nothing can (no Linux, or a sandbox)."""
    with contextlib.ExitStack() as stack:
        kinds = (stack.enter_context(_sock_diag()), _owner_in_tables)
        yield next((find for find in kinds if find is not None and _works(find)), None)


_End: TypeAlias = tuple[str, int]


def _end_at(address: Address) -> _End | None:
    """Address, in its one form, and port; None for what is no end of a TCP connection."""
    host, port = plain_address(address[0]), address[1]
    return (host, port) if host and port else None


def _works(find: Find) -> bool:
    """Whether it finds this very process at both ends of a connection."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = stack.enter_context(socket.create_connection(listener.getsockname(), 1.0))
        return find(client.getsockname(), client.getpeername()) == os.geteuid()
    return False


# --- sock_diag(7): the kernel looks one connection up in its own table ----------------------------

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST = 1  # NLM_F_REQUEST, without NLM_F_DUMP: exactly this one
_ALL_STATES = _NO_COOKIE = 0xFFFFFFFF
_LISTENING = 10  # TCP_LISTEN: found in place of a connection that is gone
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_QUERY = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_PORTS = struct.Struct("!HH")
_REST_OF_ID = struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)  # interface, cookie
_FOUND = struct.Struct("=xBxx48x12xII")  # inet_diag_msg: its state, uid and inode


class _Found(NamedTuple):
    state: int
    uid: int
    inode: int


@contextlib.contextmanager
def _sock_diag() -> Iterator[Find | None]:
    """The finder that asks the kernel; None where that is not to be had."""
    with contextlib.ExitStack() as stack:
        find = None
        with contextlib.suppress(AttributeError, OSError):  # no Linux, no such socket here
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            netlink = stack.enter_context(socket.socket(socket.AF_NETLINK, kind, _SOCK_DIAG))
            find = _SockDiag(netlink).owner
        yield find


class _SockDiag:
    """Asks the kernel, over a socket that stays open. One question takes tens of microseconds."""

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink
        self._sequence = 0

    def owner(self, client: Address, server: Address) -> int | None:
        here, there = _end_at(client), _end_at(server)
        if here is None or there is None or (":" in here[0]) != (":" in there[0]):
            return None
        with contextlib.suppress(OSError):  # the kernel has answered by then, or never will
            found = self._ask(here, there)
            # An end that its process has closed belongs to nobody, and shows as root's.
            if found is not None and found.state != _LISTENING and found.inode:
                return found.uid
        return None

    def _ask(self, client: _End, server: _End) -> _Found | None:
        family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        query = b"".join(
            (
                _QUERY.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES),
                _PORTS.pack(client[1], server[1]),
                socket.inet_pton(family, client[0]).ljust(16, b"\0"),
                socket.inet_pton(family, server[0]).ljust(16, b"\0"),
                _REST_OF_ID,
            )
        )
        size = _HEADER.size + len(query)
        self._netlink.send(_HEADER.pack(size, _BY_FAMILY, _REQUEST, self._sequence, 0) + query)
        while True:  # an answer to an earlier question, which was given up, is passed over
            answer = self._netlink.recv(4096)
            _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
            if sequence == self._sequence:
                break
        if kind != _BY_FAMILY:  # an error: there is no such connection
            return None
        return _Found(*_FOUND.unpack_from(answer, _HEADER.size))


# --- proc(5): the whole table as text, where sock_diag is not to be had ---------------------------


def _owner_in_tables(client: Address, server: Address) -> int | None:
    here, there = _end_at(client), _end_at(server)
    if here is None or there is None:
        return None
    wanted = [(_written(here, mapped), _written(there, mapped)) for mapped in (False, True)]
    for line in _lines():
        fields = line.split()  # slot, local end, other end, state, …, uid, timeout, inode
        if (fields[1], fields[2]) in wanted and fields[9] != "0":
            return int(fields[7])
    return None


def _lines() -> Iterator[str]:
    for table in _TABLES:
        with contextlib.suppress(OSError):
            yield from table.read_text("ascii").splitlines()[1:]


def _written(end: _End, is_mapped: bool) -> str:
    """An end as the tables have it: words in the machine's own order, as hexadecimal digits."""
    host, port = end
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
    else:
        packed = socket.inet_pton(socket.AF_INET, host)
        packed = bytes(10) + b"\xff\xff" + packed if is_mapped else packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    digits = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return f"{digits}:{port:04X}"
