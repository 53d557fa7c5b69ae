"""Which addresses an event may be sent to: not everything that a name leads to is meant.

A name is resolved once, all its addresses are looked at, and one of these very addresses is
connected to; so a name that leads elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
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


def _networks(*texts: str) -> list[IPv4Network | IPv6Network]:
    return [ip_network(text) for text in texts]


_PRIVATE = _networks(
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # RFC 6598, behind a carrier's translation
    "::1/128",
    "fc00::/7",
)
# Written down, because what Python holds to be global differs from release to release.
_SPECIAL = _networks(
    "100.100.100.200/32",  # the metadata of Alibaba's cloud
    "168.63.129.16/32",  # and Azure's
    "192.0.0.0/24",  # RFC 6890, and Oracle's
    "fd00:ec2::254/128",  # Amazon's
    "fd20:ce::254/128",  # Google's
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.2.0/24",  # RFC 5737, with two more
    "198.51.100.0/24",
    "203.0.113.0/24",
    "192.31.196.0/24",  # RFC 7535
    "192.52.193.0/24",  # RFC 7450
    "192.88.99.0/24",  # RFC 7526: relays of 6to4
    "192.175.48.0/24",  # RFC 7534
    "198.18.0.0/15",  # RFC 2544
    "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23",  # RFC 2928: Teredo, benchmarks, identifiers
    "2001:db8::/32",  # RFC 3849
    "2002::/16",  # RFC 7526: leads to an IPv4 address by way of strangers
    "2620:4f:8000::/48",  # RFC 7534
    "3fff::/20",  # RFC 9637
)
_UNICAST = IPv6Network("2000::/3")
"""All that has been given out of IPv6. Beyond it lie link-local, multicast, IPv4 in disguise…"""
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is the last four bytes


def reach_of(address: Address) -> Reach:
    """Who lies behind ``address``, or behind the IPv4 address that it stands for."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return reach_of(address.ipv4_mapped)
        if address in _NAT64:
            return reach_of(IPv4Address(address.packed[-4:]))
    if any(address in network for network in _SPECIAL):
        return Reach.SPECIAL
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return Reach.SPECIAL
    return Reach.PUBLIC if address.is_global else Reach.SPECIAL


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
