"""Settings about what stands before the gateway: which proxies are believed, and their prefix."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

UNIX = "unix"
"""Stands for whoever connects over the unix socket, where others have an address."""
PREFIX = r"(?:/[A-Za-z0-9._~-]{1,100}){0,8}"
"""A path under which a proxy shows the gateway; none of its characters means anything in a link."""
_OWN = ("/v1", "/docs", "/livez", "/readyz", "/metrics", "/openapi.json")


def _check_proxy(text: str) -> str:
    if text == UNIX:
        return text
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"write an address (127.0.0.1), a network (10.0.0.0/8) or {UNIX!r}"
        ) from None
    if network.prefixlen == 0:
        raise ValueError("everybody would be believed: name your proxies' addresses alone")
    address, slash, _ = text.partition("/")
    if slash and ipaddress.ip_address(address) != network.network_address:
        raise ValueError(f"the network is written {network}, one address without /")
    return text


def _check_prefix(text: str) -> str:
    if text == "/" or (text and not re.fullmatch(PREFIX, text)):
        raise ValueError("write a path such as /ml, without a slash at its end; empty for none")
    if re.search(r"/\.{1,2}(?:/|$)", text):
        raise ValueError("write the path itself, without . and ..")
    if f"{text}/".startswith(tuple(f"{path}/" for path in _OWN)):
        raise ValueError(f"/{text.split('/')[1]} is a path of the gateway's own: choose another")
    return text


TrustedProxy = Annotated[str, AfterValidator(_check_proxy)]
"""An address, a network, or :data:`UNIX`."""
PathPrefix = Annotated[str, AfterValidator(_check_prefix)]
"""A path before all paths of the gateway: ``/ml``."""
