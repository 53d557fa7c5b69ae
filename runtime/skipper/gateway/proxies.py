"""Whom a request comes from, and where its caller sees the gateway, behind proxies or not. Pure.

A proxy that ``gateway.trusted_proxies`` names is believed what it says of its own caller; from
anybody else the same headers change nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from starlette.types import Scope

from skipper.gateway.http.peer import HttpPeer
from skipper.settings.proxies import PREFIX, UNIX

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

MAX_HOPS = 32
"""Proxies one behind another; what stands before so many is not looked at."""
_FORWARDED = frozenset(
    {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix"}
)
_HOST = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE)
_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestOrigin:
    """Where a request comes from, and the address at which its caller asked."""

    client: str
    """The caller's address: ``203.0.113.7``, ``2001:db8::1``; ``unix`` for one on the socket."""
    scheme: str
    """``http`` or ``https``: what the caller speaks, whatever a proxy speaks to the gateway."""
    host: str
    """As Host has it, with its port where it has one: ``api.example.com``."""
    prefix: str = ""
    """The path that a proxy has taken off, such as ``/ml``; empty for none."""
    is_proxied: bool = False
    """Whether a trusted proxy stands between."""

    @property
    def text(self) -> str:
        """As browsers write an origin: ``https://api.example.com``, without the usual port."""
        return f"{self.scheme}://{self.host.lower().removesuffix(_PORTS[self.scheme])}"


class Proxies:
    """The proxies that are ``trusted``: addresses, networks, ``unix`` for all on the socket.

    ``root_path`` is the prefix under which callers see the gateway, unless a proxy names another.
    """

    def __init__(self, trusted: Iterable[str] = (), root_path: str = "") -> None:
        named = frozenset(trusted)
        self._root_path = root_path
        self.are_named = bool(named or root_path)
        """Whether any request may have another origin than its connection shows."""
        self._has_socket = UNIX in named
        self._networks = tuple(ipaddress.ip_network(each) for each in named - {UNIX})
        self.trusts = lru_cache(maxsize=1024)(self._trusts)
        """Whether this address is a proxy's: of a peer, or of a hop that one has named."""

    def client(self, peer: HttpPeer, headers: Headers) -> str:
        """The caller's address alone. Quick where no proxy is named."""
        found = _named(peer.client)
        if (self._networks or self._has_socket) and self.trusts(found):
            told = b",".join(value for name, value in headers if name == b"x-forwarded-for")
            return self._client(found, told)
        return found

    def origin(self, scope: Scope) -> RequestOrigin:
        """The origin of the request that ``scope`` is of."""
        peer = _named(scope.get("client"))
        scheme = "https" if scope.get("scheme") == "https" else "http"
        if self.trusts(peer):
            return self._told(peer, scheme, scope["headers"])
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return RequestOrigin(
            client=peer, scheme=scheme, host=host.decode("latin-1"), prefix=self._root_path
        )

    def _told(self, peer: str, scheme: str, headers: Headers) -> RequestOrigin:
        """What a trusted proxy tells; what it does not tell, or not in words, is as it is."""
        told: dict[bytes, list[bytes]] = {name: [] for name in _FORWARDED}
        own_host = b""
        for name, value in headers:
            if name in _FORWARDED:
                told[name].append(value)
            elif name == b"host":
                own_host = value
        proto = _nearest(told[b"x-forwarded-proto"]).lower()
        host = _nearest(told[b"x-forwarded-host"])
        prefix = _nearest(told[b"x-forwarded-prefix"]).rstrip("/")
        is_prefix = told[b"x-forwarded-prefix"] and re.fullmatch(PREFIX, prefix)
        return RequestOrigin(
            client=self._client(peer, b",".join(told[b"x-forwarded-for"])),
            scheme=proto if proto in _PORTS else scheme,
            host=host if _HOST.fullmatch(host) else own_host.decode("latin-1"),
            prefix=prefix if is_prefix else self._root_path,
            is_proxied=True,
        )

    def _client(self, peer: str, chain: bytes) -> str:
        """The rightmost hop that is no trusted proxy's: what stands left of it, anybody may say."""
        client = peer
        for hop in reversed(chain.decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            address = plain_address(hop.strip())
            if not address:
                break
            client = address
            if not self.trusts(address):
                break
        return client

    def _trusts(self, address: str) -> bool:
        if address == UNIX:
            return self._has_socket
        found = _parsed(address)
        return found is not None and any(found in network for network in self._networks)


def _named(client: tuple[str, int | None] | None) -> str:
    """Who is at the other end of a connection."""
    return plain_address(client[0]) if client and client[0] else UNIX


@lru_cache(maxsize=1024)  # because a few callers ask again and again
def plain_address(text: str) -> str:
    """An address in its one form, without port, brackets or zone; empty for what is none.

    An IPv4 address in an IPv6 one, as a socket for both shows it, is that IPv4 address.
    """
    found = _parsed(_without_port(text))
    return str(found) if found else ""


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _parsed(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _nearest(values: list[bytes]) -> str:
    """The last of a list of values: that of the proxy which is next to the gateway."""
    return values[-1].rpartition(b",")[2].strip().decode("latin-1") if values else ""
