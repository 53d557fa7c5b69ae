"""Calls that an instance has been sent and does not come to: they are asked back."""

from __future__ import annotations

import logging
import signal
import time

from skipper.pool.direct.queue import DirectCall
from skipper.pool.processes.instance import Instance
from skipper.pool.processes.version import FunctionVersion

log = logging.getLogger(__name__)

RECALL_S = 1.0
"""A call that has not begun within this time, or half of its own, goes to another instance."""


def ask(instance: Instance[DirectCall], version: FunctionVersion, now: float) -> None:
    """Ask for the calls back that may not have begun in their time. Those that have, stay."""
    unsure = list(instance.calls.items())
    if not version.spec.is_async:
        # The first runs. Those of a batch run together.
        unsure = unsure[1:] if version.is_in_turn else []
    late = [
        id_ for id_, call in unsure if _is_late(call, now) and _is_due(instance, id_, version, now)
    ]
    if not instance.calls.keys() >= instance.recalled.keys():
        instance.recalled = {k: v for k, v in instance.recalled.items() if k in instance.calls}
    for id_ in reversed(late):  # each goes before those that wait: in the end in their order
        instance.recall(id_, now)
    if late and not version.spec.is_async:
        instance.signal(signal.SIGURG)


def _is_late(call: DirectCall, now: float) -> bool:
    return now - call.started >= min(RECALL_S, (call.deadline - call.started) / 2)


def _is_due(instance: Instance[DirectCall], id_: int, version: FunctionVersion, now: float) -> bool:
    """Whether to ask (again): a plain function may not have been able to hear."""
    asked = instance.recalled.get(id_)
    return asked is None or (not version.spec.is_async and now - asked >= RECALL_S)


def take(instance: Instance[DirectCall], id_: int, held_by: str) -> DirectCall | None:
    """A call comes back; None where it is not known.

    The instance is sent no more until it goes on. The log says what it is at.
    """
    if (call := instance.give_back(id_)) is None:
        return None
    now = time.monotonic()
    if instance.takes_calls:
        name = call.queue.spec.name
        log.warning(
            "%s: its process %d has not begun a call for %.1f s; calls that wait there go to "
            "another. It is held by %s",
            name,
            instance.pid,
            now - call.started,
            held_by or "what cannot be told",
            extra={"function": name},
        )
    instance.hold(now)
    call.queue.longest_s = max(call.queue.longest_s, RECALL_S)  # so that none lies ready elsewhere
    return call
