"""Who is let in: API keys, host names, other sites' pages. A plain ASGI layer before the rest."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from skipper import problems
from skipper.gateway.answers import problem_response
from skipper.gateway.problems import Problem
from skipper.gateway.request_ids import with_id
from skipper.settings.model import GatewaySettings, is_loopback

OPEN = frozenset({"/livez", "/readyz"})
"""What needs no key: balancers ask without one."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Access:
    """Refuses what must not come in; everything else goes to ``app`` unchanged."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._keys = [_digest(key.get_secret_value().encode()) for key in settings.keys]
        own = {settings.host.strip("[]")} if settings.host not in ("0.0.0.0", "::", "") else set()  # noqa: S104 - compared, not bound
        named = frozenset(name.lower() for name in settings.allowed_hosts)
        # Another site's page can reach a loopback server under a name of its own (DNS rebinding).
        self._hosts = _LOOPBACK | own | named if is_loopback(settings.host) or named else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._refusal(scope)) is not None:
            await problem_response(problem)(scope, receive, with_id(send, scope["headers"]))
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        host = site = key = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                key = value[7:].strip()
            elif name == b"x-api-key":
                key = value
        if self._hosts is not None and _host_name(host) not in self._hosts:
            return Problem(
                problems.MISDIRECTED,
                f"host {host.decode('latin-1')!r} is not in gateway.allowed_hosts",
            )
        if site == b"cross-site" and scope["method"] not in ("GET", "HEAD"):
            return Problem(problems.FORBIDDEN, "the request comes from a page of another site")
        if self._keys and scope["path"] not in OPEN and not _is_known(key, self._keys):
            detail = "send Authorization: Bearer <key> with one of gateway.keys"
            return Problem(problems.UNAUTHORISED, detail)
        return None


def _host_name(header: bytes) -> str:
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _is_known(key: bytes, keys: Iterable[bytes]) -> bool:
    given = _digest(key)
    return any([hmac.compare_digest(given, known) for known in keys])  # noqa: C419 - a list: every key is compared
