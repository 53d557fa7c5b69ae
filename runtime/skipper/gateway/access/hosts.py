"""Under which names the gateway answers: the Host header, against DNS rebinding."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from skipper.settings.access import ANY_HOST
from skipper.settings.model import GatewaySettings, is_loopback

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound
_HOST = re.compile(
    rb"(?:(?P<name>[A-Za-z0-9._~!$&'()*+;=%-]{1,253})|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])(?::\d{0,5})?"
)


class Hosts:
    """The names that are served.

    A page of another site can reach a gateway on loopback under a name of its own, which resolves
    to 127.0.0.1: so one on loopback answers to loopback's names alone, and to those allowed.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        own = {settings.host.strip("[]").lower()} - _EVERYWHERE
        allowed = frozenset(settings.allowed_hosts)
        has_any = ANY_HOST in allowed or not (allowed or is_loopback(settings.host))
        self._names = None if has_any else _LOOPBACK | own | allowed
        self._domains = tuple(name[1:] for name in allowed if name.startswith("*."))
        self.problem = lru_cache(maxsize=256)(self._problem)
        """What is wrong with a Host; empty where it is served, None where it is no host."""

    def _problem(self, value: bytes) -> str | None:
        name = name_in(value)
        if name is None:
            return None
        if self._names is None or name in self._names or name.endswith(self._domains):
            return ""
        return f"host {name!r} is not in gateway.allowed_hosts"


def name_in(value: bytes) -> str | None:
    """The name or address in a Host, in its one form; None for what is no host."""
    found = _HOST.fullmatch(value)
    if found is None:
        return None
    if found["name"] is not None:
        return found["name"].decode().lower()
    try:
        return str(ipaddress.IPv6Address(found["v6"].decode()))
    except ValueError:
        return None
