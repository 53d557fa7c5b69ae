"""Signatures of events, as Standard Webhooks 1.0.0 has them: https://www.standardwebhooks.com.

``webhook-signature`` is ``v1,`` and the base64 of an HMAC-SHA256 over ``{id}.{timestamp}.{body}``,
or several such, parted by spaces. A key is written as ``whsec_`` and its base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX = "whsec_"
TOLERANCE_S = 300.0
"""How far a receiver's clock may be from the sender's; the standard's own libraries have it so."""


class SignatureError(ValueError):
    """A request that does not come from the expected sender, or not now."""


def sign(body: bytes, secret: str, *, id_: str, at: float) -> dict[str, str]:
    """The headers that go with ``body``, sent at ``at`` (seconds since the epoch)."""
    timestamp = str(int(at))
    signature = f"v1,{_signature(body, secret, id_, timestamp)}"
    return {ID: id_, TIMESTAMP: timestamp, SIGNATURE: signature}


def verify(
    body: bytes,
    headers: Mapping[str, str],
    *secrets: str,
    tolerance_s: float = TOLERANCE_S,
    clock: Callable[[], float] = time.time,
) -> str:
    """The id of the event in a request, which is the same each time the event is sent.

    ``body`` is the request's body as it came, ``headers`` are its headers in any case of letters,
    and ``secrets`` those it may be signed with: while one takes another's place, both. Raises
    :class:`SignatureError` where it is signed with none of them, or was sent longer than
    ``tolerance_s`` seconds before or after now.
    """
    received = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if name not in received]
    if missing:
        raise SignatureError(f"the request has no header {missing[0]}")
    id_, timestamp = received[ID], received[TIMESTAMP]
    _check_time(timestamp, clock(), tolerance_s)
    given = [part.removeprefix("v1,") for part in received[SIGNATURE].split() if part[:3] == "v1,"]
    expected = [_signature(body, secret, id_, timestamp) for secret in secrets]
    matches = [
        hmac.compare_digest(each.encode(), other.encode()) for each in given for other in expected
    ]
    if not any(matches):
        raise SignatureError("the request is signed with another secret, or was changed")
    return id_


def _check_time(timestamp: str, now: float, tolerance_s: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise SignatureError(f"{TIMESTAMP} is no time: {timestamp[:40]!r}")
    if abs(now - int(timestamp)) > tolerance_s:
        raise SignatureError(f"the request was not sent within {tolerance_s:g} s of now")


def _signature(body: bytes, secret: str, id_: str, timestamp: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{id_}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
