"""What the payloads of CALL and REPLY frames are: a head of fixed parts, then bytes as they came.

Payloads are never parsed on the way; a host reads the head of a call and no more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from skipper.outcomes import Outcome
from skipper.values.envelope import spooled_in
from skipper.wire.lines import Cause


class CallHead(NamedTuple):
    """The fixed part of a call. ``budget_ms`` is what is left until the deadline, 0 for none.

    ``context`` is the caller's request id; for a task what :func:`task_context` makes, for a direct
    call within one what :func:`child_context` does. ``key`` is by what it is sent to a version of a
    model of which several answer; empty for the request id.
    """

    budget_ms: int
    flags: int
    depth: int
    name: str
    context: str
    key: str = ""


_CALL = struct.Struct("!IBBHH")
_BUDGET = struct.Struct("!I")
_MAX_BUDGET_MS = (1 << 32) - 1
STREAM = 1
"""Flag: the caller wants a generator's items as ITEM frames, not as one array."""
TASK = 2
"""Flag: this call is an attempt of a task."""
SPAWN = 4
"""Flag, instance → host: start it as a task and answer ``{"id"}`` at once."""
DETACH = 16
"""Flag, beside SPAWN: the task is not cancelled with the one that starts it."""
CHILD = 32
"""Flag: this direct call is part of a task's attempt; its context is :func:`child_context`."""
KEYED = 64
"""Flag: a key follows the context, after a byte with its length. :func:`call_head` sets it."""
MOST_KEY = 255
"""Bytes that a key may have."""
WAIT = 8
"""Flag, instance → host: the name is a task's id; answer with its result when it has ended."""


def call_head(head: CallHead) -> bytes:
    """The start of a CALL's payload; the body follows. A budget beyond 49 days is 49 days."""
    name, context = head.name.encode(), head.context.encode()
    budget_ms = min(head.budget_ms, _MAX_BUDGET_MS)
    if head.key:
        return _keyed_head(head, budget_ms, name, context)
    fixed = _CALL.pack(budget_ms, head.flags, head.depth, len(name), len(context))
    return fixed + name + context


def _keyed_head(head: CallHead, budget_ms: int, name: bytes, context: bytes) -> bytes:
    key, flags = head.key.encode()[:MOST_KEY], head.flags | KEYED
    fixed = _CALL.pack(budget_ms, flags, head.depth, len(name), len(context))
    return fixed + name + context + bytes((len(key),)) + key


def parse_call(payload: bytes) -> tuple[CallHead, int]:
    """The head of a CALL payload and the offset at which its body starts."""
    budget, flags, depth, name_size, context_size = _CALL.unpack_from(payload)
    at = _CALL.size + name_size
    end = at + context_size
    # Whatever the bytes are: an instance that raised here would end for a call that is none.
    name = payload[_CALL.size : at].decode("utf-8", "replace")
    context = payload[at:end].decode("utf-8", "replace")
    if not flags & KEYED:
        return CallHead(budget, flags, depth, name, context), end
    at = end + 1
    end = at + int.from_bytes(payload[end:at])
    key = payload[at:end].decode("utf-8", "replace")
    return CallHead(budget, flags & ~KEYED, depth, name, context, key), end


class CallKey(NamedTuple):
    """What a host looks at before it queues a call; its head's, the name as it came."""

    budget_ms: int
    flags: int
    depth: int
    name: bytes


def call_key(payload: bytes) -> CallKey:
    """The key of a CALL payload. One that is too short to be a call names no function."""
    if len(payload) < _CALL.size:
        return CallKey(0, 0, 0, b"")
    budget_ms, flags, depth, name_size, _ = _CALL.unpack_from(payload)
    name = payload[_CALL.size : _CALL.size + name_size]
    return tuple.__new__(CallKey, (budget_ms, flags, depth, name))


def with_budget(payload: bytes, budget_ms: int) -> bytes:
    """The same call with what is left of its time now."""
    return _BUDGET.pack(budget_ms) + payload[4:]


def task_context(task_id: str, attempt: int, request_id: str | None) -> str:
    """The context of a call that is an attempt of a task."""
    return f"{task_id}/{attempt}/{request_id or ''}"


def child_context(parent: str, request_id: str) -> str:
    """The context of a direct call that is part of an attempt of the task ``parent``."""
    return f"{parent}/{request_id}"


def cause_of(payload: bytes) -> Cause:
    """The task and the request of a direct CALL's payload."""
    head, _ = parse_call(payload)
    if head.flags & CHILD:
        parent, _, request_id = head.context.partition("/")
        return Cause(parent, request_id)
    return Cause("", head.context)


_MOST_SERVED = 255


def sticky_key(payload: bytes) -> str:
    """By what a direct CALL is sent to a version: its key, or the id of its request."""
    head, _ = parse_call(payload)
    if head.key:
        return head.key
    return head.context.partition("/")[2] if head.flags & CHILD else head.context


def served_by(code: str, models: Iterable[str] = (), deployments: Iterable[str] = ()) -> bytes:
    """What served a call, for the reply's head: ``code``, ``name@version`` of each model.

    Then ``name/revision`` of each deployment record that these follow. What has no room is left
    out, so that no name and no number is cut short.
    """
    text = " ".join((code, *models, *deployments)).encode()
    if len(text) <= _MOST_SERVED:
        return text
    return text[: _MOST_SERVED + 1].rpartition(b" ")[0]


def reply(outcome: Outcome, served: bytes, body: bytes) -> bytes:
    """The payload of a REPLY. The body is the value's JSON or, unless OK, a problem's members."""
    return bytes((outcome, len(served))) + served + body


def problem(outcome: Outcome, detail: str, served: bytes = b"", **members: Any) -> bytes:
    """The payload of a REPLY with what went wrong."""
    return reply(outcome, served, json.dumps({"detail": detail, **members}).encode())


def parse_reply(payload: bytes) -> tuple[int, bytes, bytes]:
    """Outcome, what served it, body."""
    end = 2 + payload[1]
    return payload[0], payload[2:end], payload[end:]


_OK = bytes((Outcome.OK,))


def spooled_in_reply(payload: bytes) -> tuple[str, ...]:
    """The files in the spool that a reply consists of: for who is sent one and does not want it."""
    if payload[:1] != _OK:
        return ()
    _, _, body = parse_reply(payload)
    return spooled_in(body)
