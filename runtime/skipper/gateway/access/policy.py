"""Judges a request by its head: host, page, account, key, in this order. Whoever serves asks it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from skipper import problems
from skipper.gateway.access import pages, users
from skipper.gateway.access.hosts import Hosts
from skipper.gateway.access.keys import Keys
from skipper.gateway.access.pages import Headers, Page, Pages
from skipper.gateway.access.refusals import Reason, Refusals
from skipper.gateway.access.users import Find
from skipper.gateway.http.peer import HttpPeer
from skipper.gateway.problems import Problem
from skipper.gateway.proxies import Proxies, RequestOrigin, plain_address
from skipper.problems import ProblemKind
from skipper.settings.model import GatewaySettings, is_loopback

log = logging.getLogger(__name__)

OPEN = frozenset({"/livez", "/readyz"})
"""What anybody may ask: balancers do so by address, and without a key. Nothing but yes or no."""
_LOOKED_AT = frozenset({b"host", b"origin", b"sec-fetch-site"})
_UID = "uid"
"""The fact about a connection that is looked up for its first request."""


class Asked(Protocol):
    """What a request's head says."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str:
        """Without a prefix that a proxy has put before it."""
        ...

    @property
    def query(self) -> bytes: ...

    @property
    def headers(self) -> Headers:
        """By lower-case names."""
        ...


class Denial(NamedTuple):
    """Why a request is not let in."""

    reason: Reason
    kind: ProblemKind
    detail: str


class AccessDecision(NamedTuple):
    """What the policy decides about one request."""

    problem: Problem | None = None
    """Why it is refused; None for one that is let in."""
    headers: Headers = []  # noqa: RUF012 - never changed
    """What its answer has besides, whatever that is."""
    is_answered: bool = False
    """Whether these headers are all of its answer."""
    key: str = ""
    """What the key is called that has let it in (:attr:`Keys.names`); empty for none."""
    reason: Reason | None = None
    """Why it is refused, in one word."""


def caller_of(key: str, peer: HttpPeer) -> str:
    """Who is written down to have changed something: a key, an account, or an address."""
    if key:
        return f"key {key}"
    if (uid := peer.facts.get(_UID)) is not None:
        return f"uid {uid}"
    has_port = peer.client is not None and peer.client[1] is not None
    return plain_address(peer.client[0]) if peer.client and has_port else "a local socket"


class AccessPolicy:
    """Lets requests in, or says why not, and counts that.

    ``find`` tells accounts of this machine; without it whoever reaches the gateway is let in.
    """

    def __init__(
        self, settings: GatewaySettings, find: Find | None = None, name: str = "gateway"
    ) -> None:
        self.refusals = Refusals(name if settings.workers > 1 else "")
        self._keys = Keys(key.get_secret_value() for key in settings.keys)
        self._hosts = Hosts(settings)
        self._pages = Pages(settings.cors_origins)
        self._proxies = Proxies(settings.trusted_proxies)
        self._find = find
        self._allowed = users.allowed()
        self._in = [
            AccessDecision(headers=self._pages.headers, key=key) for key in self._keys.names
        ]
        """What is decided about those let in, by the number of their key; 0 is none."""

    def admit(self, asked: Asked, peer: HttpPeer) -> AccessDecision:
        """Decide about a request. Quick, because every call pays for it."""
        if asked.path in OPEN and b"verbose" not in asked.query:
            return self._in[0]
        host, hosts, has_page = b"", 0, False
        for name, value in asked.headers:
            if name in _LOOKED_AT:
                if name == b"host":
                    host = value
                    hosts += 1
                else:
                    has_page = True
        page = pages.page_in(asked.headers, asked.method) if has_page else None
        is_named = page is not None and self._pages.is_named(page)
        refusal = (
            self._refusal_of_host(host if hosts == 1 else None)
            or (None if page is None or is_named else self._refusal_of_page(asked, page, peer))
            or (None if self._find is None or self._is_ours(peer) else _OTHER_USER)
        )
        key = 0
        if refusal is None and self._keys:
            key = self._keys.which(asked.headers)
            refusal = None if key else _NO_KEY
        if page is not None and is_named:
            return self._answer_page(asked, peer, page, refusal)._replace(key=self._keys.names[key])
        return self._in[key] if refusal is None else self._refused(asked, peer, refusal)

    def _answer_page(
        self, asked: Asked, peer: HttpPeer, page: Page, refusal: Denial | None
    ) -> AccessDecision:
        """The decision about a page of a named origin, which sees refusals, too."""
        headers = self._pages.headers_for(page)
        if refusal is not None and not (page.is_preflight and refusal is _NO_KEY):
            return self._refused(asked, peer, refusal)._replace(headers=headers)
        if page.is_preflight:  # without a key, since browsers send none with it
            return AccessDecision(headers=self._pages.preflight_for(page), is_answered=True)
        return AccessDecision(headers=headers)

    def _refusal_of_host(self, host: bytes | None) -> Denial | None:
        wrong = None if host is None else self._hosts.problem(host)
        if wrong == "":
            return None
        return _NO_HOST if wrong is None else Denial(Reason.HOST, problems.MISDIRECTED, wrong)

    def _refusal_of_page(self, asked: Asked, page: Page, peer: HttpPeer) -> Denial | None:
        foreign = pages.problem_of(page, self._origin(asked, peer), asked.method)
        if not foreign:
            return None
        return Denial(Reason.ORIGIN, problems.FORBIDDEN, f"{foreign}; see gateway.cors_origins")

    def _is_ours(self, peer: HttpPeer) -> bool:
        """Whether a request is of an account that needs no key, or of a proxy that is trusted."""
        if self._owner(peer) in self._allowed:
            return True
        if peer.client is None:  # who may open a unix socket, its file says; a TCP one has a port
            return peer.server is not None and peer.server[1] is None
        return self._proxies.trusts(plain_address(peer.client[0]))

    def _owner(self, peer: HttpPeer) -> int | None:
        """The account at the other end; None where no process of this machine is there."""
        if _UID not in peer.facts:
            uid = None
            if self._find is not None and peer.client is not None and peer.server is not None:
                uid = self._find(peer.client, peer.server)
            peer.facts[_UID] = uid
        found: int | None = peer.facts[_UID]
        return found

    def _refused(self, asked: Asked, peer: HttpPeer, refusal: Denial) -> AccessDecision:
        """The decision against a request, which is counted."""
        source = self._origin(asked, peer).client
        if refusal.reason is Reason.USER:
            uid = self._owner(peer)
            source = "a caller who has left" if uid is None else f"uid {uid}"
        self.refusals.record(refusal.reason, source)
        problem = Problem(refusal.kind, refusal.detail)
        return AccessDecision(problem, self._in[0].headers, reason=refusal.reason)

    def _origin(self, asked: Asked, peer: HttpPeer) -> RequestOrigin:
        """Where a request comes from, and goes to, as its caller sees it."""
        return self._proxies.origin(
            {"client": peer.client, "scheme": peer.scheme, "headers": asked.headers}
        )


@contextlib.contextmanager
def open_policy(settings: GatewaySettings, name: str = "gateway") -> Iterator[AccessPolicy]:
    """The policy of the gateway process ``name``. What it cannot guard is logged, by the first."""
    tells = name in ("gateway", "gateway-1")
    if tells and settings.keys and _is_in_clear(settings):
        log.warning(
            "gateway.host = %r: keys, inputs and results go over the network in clear; set "
            "gateway.tls_cert and tls_key, or name the proxy with TLS in gateway.trusted_proxies",
            settings.host,
            extra={"event": "clear"},
        )
    if settings.keys or settings.local == "anyone":
        yield AccessPolicy(settings, name=name)
        return
    with users.finder() as find:
        if find is None and tells:
            log.warning(
                "this system does not show which account a request is from: every account of this "
                "machine can call; set gateway.keys where that must not be",
                extra={"event": "open"},
            )
        yield AccessPolicy(settings, find, name)


def _is_in_clear(settings: GatewaySettings) -> bool:
    """Whether others may read what goes to other machines: nothing says that it is encrypted."""
    is_guarded = settings.tls_cert or settings.trusted_proxies or settings.socket
    return not is_loopback(settings.host) and not is_guarded


_NO_HOST = Denial(
    Reason.HOST,
    problems.BAD_REQUEST,
    "send one Host header, with a name or an address and no more than a port",
)
_NO_KEY = Denial(
    Reason.KEY,
    problems.UNAUTHORISED,
    "send Authorization: Bearer <key> or X-API-Key: <key> with one of gateway.keys",
)
_OTHER_USER = Denial(
    Reason.USER,
    problems.OTHER_USER,
    "the request comes from another account of this machine, and this gateway, which has no keys, "
    "serves the one that started it: set gateway.keys; or gateway.trusted_proxies, for a proxy; or "
    'gateway.local = "anyone", for every account',
)
