"""Pages in browsers: which may call the gateway, and what browsers must hear for it (CORS).

A browser lets any page send requests to any address and only then, by the answer's headers, decides
whether the page may read it: so what would change something has to be refused before it does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from skipper.gateway.proxies import RequestOrigin
from skipper.settings.access import without_usual_port

Headers = list[tuple[bytes, bytes]]

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_FROM_HERE = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of the gateway's own pages, and of what a person typed or bookmarked."""
_TELLING = frozenset(
    {
        b"origin",
        b"sec-fetch-site",
        b"access-control-request-method",
        b"access-control-request-private-network",
    }
)
_VARY = (b"vary", b"Origin")
_EXPOSED = (
    b"Accept-Ranges, Content-Disposition, Content-Location, Content-Range, ETag, Location, "
    b"Preference-Applied, Retry-After, WWW-Authenticate, X-Request-Id, X-Skipper-Code, "
    b"X-Skipper-Deployment, X-Skipper-Model"
)
_TAKEN = (
    b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, "
    b"Last-Event-ID, Prefer, Range, X-API-Key, "
    b"X-Request-Id, X-Skipper-Delay, X-Skipper-Expires, X-Skipper-Priority, X-Skipper-Sticky, "
    b"baggage, traceparent, tracestate"
)
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE"),
    (b"access-control-allow-headers", _TAKEN),
    (b"access-control-max-age", b"600"),
]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a browser tells of the page that makes a request."""

    origins: tuple[str, ...]
    """Its Origin headers; browsers send one at most."""
    sites: tuple[str, ...]
    """Its Sec-Fetch-Site headers."""
    is_preflight: bool = False
    """Whether the browser asks for the page whether it may make another request."""
    is_private: bool = False
    """Whether the page is on a more public network than the gateway."""


class Pages:
    """The pages that may call: the gateway's own, and those of the origins that are named."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)
        self.headers: Headers = [_VARY] if self._origins else []
        """What every answer says, because caches must not give one page's answer to another."""

    def is_named(self, page: Page) -> bool:
        """Whether the page is of an origin that is named. It may read answers, too."""
        return len(page.origins) == 1 and page.origins[0] in self._origins

    def headers_for(self, page: Page) -> Headers:
        """With what a page of a named origin is answered, errors too."""
        allowed = page.origins[0].encode()
        return [
            _VARY,
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def preflight_for(self, page: Page) -> Headers:
        """The answer to the browser's question whether such a page may make a request."""
        private = [(b"access-control-allow-private-network", b"true")] if page.is_private else []
        return [*self.headers_for(page), *_PREFLIGHT, *private]


def problem_of(page: Page, own: RequestOrigin, method: str) -> str:
    """Why a page of no named origin may not do this; empty where it may."""
    if method in READING and not page.is_preflight:
        return ""
    for site in page.sites:
        if site not in _FROM_HERE:
            return f"the request comes from a page of another origin (Sec-Fetch-Site: {site[:20]})"
    for origin in page.origins:
        if not _is_own(origin.lower(), own, page.sites):
            return f"the request comes from a page of another origin, {origin[:100]!r}"
    return ""


def _is_own(origin: str, own: RequestOrigin, sites: Collection[str]) -> bool:
    """Whether a page's origin is the gateway's.

    A browser that says same-origin knows its own scheme better: before a proxy that is not named
    as trusted may stand https.
    """
    if origin == own.text:
        return True
    scheme, _, host = origin.partition("://")
    seen = without_usual_port(f"{scheme}://{own.host.lower()}")
    return bool(sites) and scheme in ("http", "https") and host != "" and origin == seen


def page_in(headers: Iterable[tuple[bytes, bytes]], method: str) -> Page:
    """The page that a request's headers tell of."""
    told: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name in _TELLING:
            told.setdefault(name, []).append(value.decode("latin-1"))
    return Page(
        origins=tuple(told.get(b"origin", ())),
        sites=tuple(told.get(b"sec-fetch-site", ())),
        is_preflight=method == "OPTIONS" and b"access-control-request-method" in told,
        is_private=told.get(b"access-control-request-private-network") == ["true"],
    )
