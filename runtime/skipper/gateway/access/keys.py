"""API keys: which of them a request brings, and whether one is right."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

HEADERS = frozenset({b"authorization", b"x-api-key"})

NAME_LENGTH = 8
"""Characters of a key's digest that are written down."""


class Keys:
    """The keys that let in, as digests: comparing these takes as long whatever was sent."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]
        self.names = ["", *(digest.hex()[:NAME_LENGTH] for digest in self._digests)]
        """What each key is called, by its number: it tells them apart, and opens nothing."""

    def __bool__(self) -> bool:
        return bool(self._digests)

    def which(self, headers: Iterable[tuple[bytes, bytes]]) -> int:
        """The number of the first key that these headers bring, from 1; 0 where none is right.

        Any right one counts, whatever else is sent and in whatever order.
        """
        found = 0
        for name, value in headers:
            if name in HEADERS and (key := _key_in(name, value)):
                given = _digest(key)
                for number, known in enumerate(self._digests, 1):  # every one is compared
                    if hmac.compare_digest(given, known):
                        found = min(found, number) if found else number
        return found


def _key_in(name: bytes, value: bytes) -> bytes:
    """The key of one header; empty for none."""
    if name == b"x-api-key":
        return value.strip()
    scheme, _, key = value.strip().replace(b"\t", b" ").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
