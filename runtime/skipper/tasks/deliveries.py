"""The events of webhooks, and the tasks that deliver them: one per event and webhook.

An event is a text from here on: what is signed and sent is what was made here, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skipper.ledger.records import NewTask, Result
from skipper.settings.webhooks import ATTEMPTS, DELIVER, Webhook, audience
from skipper.spec import DEFAULT_POOL, Kind
from skipper.task import new_id
from skipper.tasks.documents import task_document, timestamp
from skipper.values.value import JSON, Value

GRACE_S = 5.0
"""An attempt that has not ended this long after the receiver's time was up is stopped."""
PRIORITY = 10
"""A delivery computes nothing and somebody waits for it: it has the next slot that comes free."""
VALUE_BYTES = 8192
"""A larger value is not in the event, but fetched by who wants it."""


@dataclass(frozen=True, kw_only=True)
class WebhookEvent:
    """Something that has happened. ``id`` is the same for every attempt to deliver it."""

    id: str
    text: str


def ping(now: float) -> WebhookEvent:
    """Nothing, to see whether it arrives."""
    return WebhookEvent(id=new_id(), text=_text("ping", now, b"{}"))


def ending(result: Result, progress: dict[str, Any] | None) -> WebhookEvent:
    """How a task has ended: its document and, if that is small, its value."""
    task = result.task
    data = b'{"task":' + _json(task_document(task, progress, with_traceback=False))
    if (value := _small(result.value)) is not None:
        data += b',"value":' + value
    return WebhookEvent(id=task.id, text=_text(f"task.{task.state}", task.finished_at, data + b"}"))


def _small(value: Value | None) -> bytes | None:
    """The JSON of a value that is short enough to be in an event."""
    if value is None or value.inline is None or value.media_type != JSON:
        return None
    return value.inline if len(value.inline) <= VALUE_BYTES else None


def _text(type_: str, at: float | None, data: bytes) -> str:
    head = _json({"type": type_, "timestamp": timestamp(at)})
    return (head[:-1] + b',"data":' + data + b"}").decode()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def delivery(name: str, webhook: Webhook, event: WebhookEvent, now: float) -> NewTask:
    """The task that delivers an event to the webhook ``name``."""
    # Two webhooks may lead to one receiver, which knows by its id what it has seen before.
    body = {"webhook": name, "id": f"{event.id}-{name}", "event": event.text}
    return NewTask(
        id=new_id(),
        function=DELIVER,
        kind=Kind.DATA,
        pool=DEFAULT_POOL,
        input=Value(inline=_json(body)),  # whatever storage.inline_kb is: it is never large
        max_attempts=ATTEMPTS,
        priority=PRIORITY,
        timeout_s=webhook.timeout_s + GRACE_S,
        created_at=now,
        available_at=now,
    )


def trial(name: str, webhook: Webhook, now: float) -> NewTask:
    """The task that sends the webhook ``name`` a ping, once."""
    return replace(delivery(name, webhook, ping(now), now), max_attempts=1)


def deliveries(
    webhooks: Mapping[str, Webhook], result: Result, progress: dict[str, Any] | None, now: float
) -> list[NewTask]:
    """The deliveries of a task's end to all webhooks that want it; they are its children."""
    task = result.task
    event = ending(result, progress)
    made = (
        delivery(name, webhooks[name], event, now)
        for name in audience(webhooks, task.function, task.state)
    )
    # Detached, because who is to hear of a cancelled task must.
    return [replace(new, parent_id=task.id, request_id=task.request_id, detached=1) for new in made]
