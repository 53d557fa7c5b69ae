"""The two ends of a connection, and what has been found out about them."""

from __future__ import annotations

import asyncio
from typing import Any

Address = tuple[str, int | None]
"""Host and port; of a unix socket its path, and no port."""


class HttpPeer:
    """Who is at the other end of a connection; one object for all its requests.

    ``facts`` is for whoever finds out more about the connection, once for all of its requests.
    """

    __slots__ = ("client", "facts", "scheme", "server")

    def __init__(
        self, client: Address | None = None, server: Address | None = None, scheme: str = "http"
    ) -> None:
        self.client, self.server, self.scheme = client, server, scheme
        self.facts: dict[str, Any] = {}

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> HttpPeer:
        """The peer of a connection that has just been made."""
        scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        client = _address(transport.get_extra_info("peername"))
        return cls(client, _address(transport.get_extra_info("sockname")), scheme)

    def __str__(self) -> str:
        return f"{self.client[0]}:{self.client[1]}" if self.client else "a local socket"


def _address(name: object) -> Address | None:
    """The address that is a socket's name; None for one without, such as a unix socket's client."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (str(name), None) if name else None
