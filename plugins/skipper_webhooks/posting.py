"""One event to one receiver: a signed request to an address that was looked at first."""

from __future__ import annotations

import functools
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import httpx

import skipper
from skipper_webhooks import addresses
from skipper_webhooks.addresses import Address
from skipper_webhooks.endpoint import Endpoint
from skipper_webhooks.errors import DeliveryError, RefusedError
from skipper_webhooks.signing import sign

_PORTS = {"https": 443, "http": 80}
# They log whole addresses, which may hold secrets; what comes of a delivery is told without.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


Resolve = Callable[[str, int], list[Address]]
"""Finds the addresses of a name, for a port."""


def post(endpoint: Endpoint, id_: str, body: bytes, *, resolve: Resolve = addresses.resolve) -> int:
    """Send an event; the status, a 2xx, that the receiver answers.

    Raises :class:`DeliveryError` or, where trying again is of no use, :class:`RefusedError`. What
    the receiver sends beside its status is not read, and a redirection is not followed.
    """
    url = _url(endpoint)
    host, is_encrypted = url.raw_host.decode(), url.scheme == "https"
    request = _SignedRequest(url=url, headers=_headers(url, endpoint, id_, body), body=body)
    try:
        found = resolve(host, url.port or _PORTS[url.scheme])
        addresses.check(host, found, private=endpoint.allow_private, encrypted=is_encrypted)
        status = _send(request, found, endpoint.timeout_s)
    except UnicodeError:
        raise RefusedError(_NO_HOST) from None
    except httpx.TimeoutException:
        raise DeliveryError(f"{host} did not answer within {endpoint.timeout_s:g} s") from None
    except (httpx.TransportError, OSError) as error:
        raise DeliveryError(f"{host} cannot be reached: {error}") from None
    if status == HTTPStatus.GONE:
        raise RefusedError(f"{host} answered 410: it wants no more events; remove the webhook")
    if not 200 <= status < 300:
        raise DeliveryError(f"{host} answered {status}")
    return status


_NO_HOST = (
    "the host of its URL is no name; write it in plain letters, of at most 63 between two dots"
)


def _url(endpoint: Endpoint) -> httpx.URL:
    try:
        return httpx.URL(endpoint.url.get_secret_value())
    except httpx.InvalidURL:  # such as circled digits, which others read as plain ones
        raise RefusedError(_NO_HOST) from None


def _headers(url: httpx.URL, endpoint: Endpoint, id_: str, body: bytes) -> dict[str, str]:
    return {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "User-Agent": f"skipper-webhooks/{skipper.__version__}",
    } | sign(body, endpoint.secret.get_secret_value(), id_=id_, at=time.time())


@dataclass(frozen=True, kw_only=True)
class _SignedRequest:
    """What is sent, whichever address takes it."""

    url: httpx.URL
    headers: dict[str, str]
    body: bytes


def _send(request: _SignedRequest, found: Sequence[Address], timeout_s: float) -> int:
    """The status that is answered at the first of these addresses which can be connected to."""
    # Nothing of the environment: a proxy would look the name up again, and .netrc adds passwords.
    with httpx.Client(verify=_trust(), timeout=timeout_s, trust_env=False) as client:
        for address in found[:-1]:
            try:
                return _status(client, request, address)
            except httpx.ConnectError:
                continue
        return _status(client, request, found[-1])


def _status(client: httpx.Client, request: _SignedRequest, address: Address) -> int:
    with client.stream(
        "POST",
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        content=request.body,
        follow_redirects=False,
        # The certificate must be the name's, though it is an address that is connected to.
        extensions={"sni_hostname": request.url.raw_host.decode()},
    ) as response:
        return response.status_code


@functools.cache
def _trust() -> ssl.SSLContext:
    """Whose certificates are believed: httpx's list of authorities, and the machine's own."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context
