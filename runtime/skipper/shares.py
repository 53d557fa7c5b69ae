"""Which part of the callers something is for: decided by a hash of their key, never by dice.

So whoever asks finds the same, on any machine and at any time, and a larger share has in it all who
were in the smaller one.
"""

from __future__ import annotations

import hashlib

PLACES = 10_000
"""Keys have so many places: a share is a whole number of hundredths of a percent."""


def place(model: str, key: str) -> int:
    """Where the callers with ``key`` stand among all of a model's, from 0."""
    digest = hashlib.sha256(f"{model}\0{key}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest) % PLACES


def is_among(model: str, key: str, percent: float) -> bool:
    """Whether ``key`` is of the first ``percent`` of a model's."""
    return place(model, key) < round(percent * PLACES / 100)
