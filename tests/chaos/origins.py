"""Judges what the driver did not submit: retries, runs and ticks of schedules, deliveries. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.chaos.evidence import Evidence, Violation
from tests.chaos.plan import Order, echoes

DELIVERY = "webhooks._deliver"
RAN_NOW, TICKING = "steady", "minutely"
"""Names of schedules: one is run by the driver and has no tick, the other has one a minute."""
SCHEDULES = {
    RAN_NOW: {"cron": "0 0 29 2 *", "nonce": RAN_NOW},
    TICKING: {"cron": "* * * * *", "nonce": TICKING},
}
WATCHED = ("chaos.once", "chaos.fickle", "chaos.bulk")
"""Functions whose ends the webhook wants."""
_MINUTE = timedelta(minutes=1)

Task = Mapping[str, Any]


def is_ping(task: Task) -> bool:
    """Whether it is the test of a webhook, which is tried once."""
    return bool(task["function"] == DELIVERY and task["parent_id"] is None)


def check(evidence: Evidence) -> Iterator[Violation]:
    """Every broken promise about them."""
    yield from _retries(evidence)
    yield from _runs(evidence)
    yield from _ticks(evidence)
    yield from _events(evidence)
    yield from _deliveries(evidence)


# --- retries and schedules -------------------------------------------------------------------


def _retries(evidence: Evidence) -> Iterator[Violation]:
    """A retry runs the same function on the same input."""
    by_key: dict[str, Order] = {order.key: order for order in evidence.orders}
    orders = {entry["id"]: by_key.get(entry["key"]) for entry in evidence.accepted("submit")}
    for entry in evidence.accepted("retry"):
        order, value = orders[entry["of"]], evidence.look.values.get(entry["id"])
        if order is not None and value is not None and not echoes(value, order):
            text = f"{entry['id']}, a retry of {entry['of']}, answers {str(value)[:300]}"
            yield Violation("crossed", text)


def _runs(evidence: Evidence) -> Iterator[Violation]:
    """What a schedule made is its own, with its own input."""
    for id_, task in evidence.look.tasks.items():
        name = task["schedule"]
        if name is None:
            continue
        value = evidence.look.values.get(id_)
        if value is not None and value != {"nonce": SCHEDULES[name]["nonce"]}:
            yield Violation("crossed", f"{id_} of schedule {name} answers {str(value)[:300]}")
    for entry in evidence.accepted("run"):
        made = evidence.look.tasks.get(entry["id"])
        if made is not None and made["schedule"] != RAN_NOW:
            yield Violation("crossed", f"{entry['id']} is of the schedule {made['schedule']}")


def _ticks(evidence: Evidence) -> Iterator[Violation]:
    """Each minute, from the first that there is a task of to the last, has exactly one."""
    ticks = Counter(
        datetime.fromisoformat(task["request_id"])
        for task in evidence.look.tasks.values()
        if task["schedule"] == TICKING
    )
    for tick, number in ticks.items():
        if number > 1:
            yield Violation("doubled", f"the tick of {tick} made {number} tasks")
    at, last = min(ticks, default=None), max(ticks, default=None)
    while at is not None and last is not None and at < last:
        at += _MINUTE
        if at not in ticks:
            yield Violation("lost", f"the tick of {at} made no task")


# --- webhooks --------------------------------------------------------------------------------


def _events(evidence: Evidence) -> Iterator[Violation]:
    """Every end that the webhook wants has arrived, and as the end that it was."""
    arrived = {entry["task"]: entry for entry in evidence.entries if entry["what"] == "event"}
    for id_, task in evidence.look.tasks.items():
        if task["function"] in WATCHED and task["finished_at"] and id_ not in arrived:
            yield Violation("lost", f"no event of the end of {id_}: {task['state']}")
    for id_, entry in arrived.items():
        known = evidence.look.tasks.get(id_) if id_ else None
        if id_ and (known is None or known["state"] != entry["state"]):
            yield Violation("crossed", f"the event of {id_}: {entry['state']}, it is {known}")
    for entry in evidence.entries:
        if entry["what"] == "forged":
            yield Violation("crossed", f"an event that nobody signed so: {entry}")


def _deliveries(evidence: Evidence) -> Iterator[Violation]:
    """One delivery an end; one that succeeded has arrived."""
    events = [entry for entry in evidence.entries if entry["what"] == "event"]
    arrived, pings = {e["task"] for e in events}, {e["id"] for e in events if e["type"] == "ping"}
    found = [task for task in evidence.look.tasks.items() if task[1]["function"] == DELIVERY]
    parents = Counter(task["parent_id"] for _, task in found if not is_ping(task))
    for parent, number in parents.items():
        if number > 1:
            yield Violation("doubled", f"the end of {parent} has {number} deliveries")
    good = [(id_, task) for id_, task in found if task["state"] == "succeeded"]
    for id_, task in good:
        if not is_ping(task) and task["parent_id"] not in arrived:
            yield Violation("unseen", f"{id_} delivered the end of {task['parent_id']} to nobody")
    sent = sum(is_ping(task) for _, task in good)
    if len(pings) < sent:
        yield Violation("unseen", f"{sent} pings were sent, {len(pings)} have arrived")
