"""By which key a function's tasks are bounded: the value of one member of their bodies. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from skipper.spec import FunctionSpec
from skipper.values.envelope import as_envelope

_LONGEST = 200
"""Bytes of a key as it is; of a longer one the hash is taken."""


def key_of(spec: FunctionSpec, body: bytes) -> str | None:
    """The key of a task with this body; None for a function whose tasks are not bounded.

    Empty where the function has no ``concurrency_key``. A member that is not there counts as its
    default, and text that looks like a number as that number.
    """
    if spec.concurrency is None:
        return None
    if not spec.concurrency_key:
        return ""
    key = _text(_member(spec, body))
    return key if len(key.encode()) <= _LONGEST else hashlib.sha256(key.encode()).hexdigest()


def _member(spec: FunctionSpec, body: bytes) -> Any:
    try:
        members = json.loads(as_envelope(body).json or b"{}")
    except ValueError:  # the function will say so
        return None
    name = spec.concurrency_key
    if isinstance(members, dict) and name in members:
        return members[name]
    return spec.input_schema.get("properties", {}).get(name, {}).get("default")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
