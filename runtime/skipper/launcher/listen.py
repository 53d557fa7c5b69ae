"""The gateway's TCP socket. The launcher owns it: a gateway's restart refuses no connection."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from skipper.errors import StartError
from skipper.exits import Exit

UNSENT_BYTES = 128 << 10
_BACKLOG = 2048
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
_PROC = Path("/proc")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host`` and ``port`` (0: any free one). Raises StartError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartError(f"gateway.host = {host!r}: {error.strerror}.", code=Exit.INVALID) from None
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host.strip("[]") != "::")
        _bound_unsent(sock)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(_refusal(host, port, error), code=Exit.TAKEN) from None
    return sock


def _bound_unsent(sock: socket.socket) -> None:
    """Have the kernel keep little that a connection's window has no room for yet.

    Else it takes megabytes of an answer that nobody reads, for each connection, and whoever writes
    cannot tell. What is on its way is not bounded by this, so no download is slower. Connections
    have it of the socket that they are accepted on.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = owner_of(port)
        by = f" by {owner}" if owner else ""
        return (
            f"Port {port} on {host} is taken{by}; choose another with --port, or 0 for a free one."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} is not for this user; choose one above 1023 with --port."
    return f"Cannot listen on {host}, port {port}: {error.strerror}; see gateway.host."


def owner_of(port: int) -> str | None:
    """Who listens on ``port``: "process 4711 (nginx)". None where the system does not show it."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not wanted:
        return None
    with contextlib.suppress(OSError):
        for folder in _PROC.iterdir():
            if folder.name.isdigit() and _holds(folder, wanted):
                return f"process {folder.name} ({(folder / 'comm').read_text().strip()})"
    return None


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / table).read_text().splitlines()[1:]:
                fields = (
                    line.split()
                )  # see proc_net_tcp: local address, remote address, state, …, inode
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _holds(folder: Path, wanted: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(link) in wanted:  # noqa: PTH115 - it is no path
                    return True
    return False
