"""Which addresses an event may be sent to: not everything that a name leads to is meant.

A name is resolved once, all its addresses are looked at, and one of these very addresses is
connected to; so a name that leads elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from skipper_webhooks.errors import RefusedError

Address: TypeAlias = IPv4Address | IPv6Address


class Reach(StrEnum):
    """Who lies behind an address."""

    PUBLIC = "public"
    PRIVATE = "private"
    """This machine, or a network of the operator's own."""
    SPECIAL = "special"
    """Nobody that an event can be for: link-local (cloud metadata), multicast, reserved…"""


_PRIVATE = [
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # RFC 6598, behind a carrier's translation
        "::1/128",
        "fc00::/7",
    )
]
_6TO4 = ip_network("2002::/16")  # leads to an IPv4 address by way of strangers; RFC 7526
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the IPv4 address is the last four bytes


def reach_of(address: Address) -> Reach:
    """Who lies behind ``address``, or behind the IPv4 address that it stands for."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return reach_of(address.ipv4_mapped)
        if address in _NAT64:
            return reach_of(IPv4Address(address.packed[-4:]))
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    return Reach.PUBLIC if _is_public(address) else Reach.SPECIAL


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_link_local:
        return False
    if isinstance(address, IPv6Address) and (address.is_site_local or address in _6TO4):
        return False
    return address.is_global


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of ``host``, in the order to try them. Raises OSError where it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = [str(place[0]).partition("%")[0] for *_, place in found]
    return [ip_address(text) for text in dict.fromkeys(texts)]


def check(host: str, addresses: Sequence[Address], *, private: bool, encrypted: bool) -> None:
    """Raise :class:`RefusedError` unless every one of a host's addresses may be sent to.

    Private ones may where ``private`` is set, public ones where the connection is ``encrypted``.
    """
    for address in addresses:
        reach = reach_of(address)
        if reach is Reach.SPECIAL:
            raise RefusedError(f"{host} leads to {address}, where no receiver can be")
        if reach is Reach.PRIVATE and not private:
            raise RefusedError(
                f"{host} leads to {address}, a private address; set allow_private = true if it is "
                "meant"
            )
        if reach is Reach.PUBLIC and not encrypted:
            raise RefusedError(
                f"{host} leads to {address}, a public address: its URL must be https"
            )
