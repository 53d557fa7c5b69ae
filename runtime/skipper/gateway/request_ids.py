"""The id that every reply carries: the caller's own, or a new one."""

from __future__ import annotations

import itertools
import re
import secrets

HEADER = b"x-request-id"
_ACCEPTED = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_PREFIX, _numbers = secrets.token_hex(4), itertools.count()
"""Distinct from other gateways' ids, and cheap, because every request without an id gets one."""


def new_id() -> str:
    """An id for a request that came with none."""
    return f"{_PREFIX}{next(_numbers):08x}"


def is_own(request_id: str) -> bool:
    """Whether it looks like one of this gateway's making."""
    return request_id.startswith(_PREFIX)


def accepted(value: bytes) -> str:
    """The id that a caller sent; empty where it is not one."""
    return value.decode() if _ACCEPTED.fullmatch(value) else ""
