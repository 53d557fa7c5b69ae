"""What a campaign knows of each failpoint: what leads somebody there, what may happen there."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal

from skipper.failpoints import POINTS

Provocation = Literal[
    "work",
    "bulk",
    "relay",
    "once",
    "train",
    "stride",
    "fickle",
    "retry",
    "run",
    "tick",
    "reload",
    "instance",
    "host",
    "scheduler",
    "broker",
    "stop",
    "restart",
]
"""A task of that kind; the next minute's tick; a saved file; a kill of that role; a host that
sleeps; the end of the whole tree."""

PROVOKED_BY: Mapping[str, Provocation] = {
    "blobs.written": "bulk",
    "blobs.adopting": "relay",
    "intake.stored": "bulk",
    "recorder.stored": "bulk",
    "instance.saved": "train",
    "instance.tried": "train",
    "recorder.tried": "train",
    "ledger.publish.written": "train",
    "recorder.published": "train",
    "recorder.announced": "train",
    "instance.checkpointed": "stride",
    "ledger.checkpoint.written": "stride",
    "checkpoints.recorded": "stride",
    "models.laid_out": "train",
    "swap.warming": "train",
    "swap.warmed": "train",
    "swap.moved": "train",
    "ledger.requeue.written": "retry",
    "intake.requeued": "retry",
    "ledger.run_now.written": "run",
    "intake.scheduled": "run",
    "ledger.tick.written": "tick",
    "intake.ticked": "tick",
    "ledger.settle.written": "once",
    "intake.delivering": "once",
    "ledger.cancel.written": "fickle",
    "gateway.cancelling": "fickle",
    "tasks.cancelling": "fickle",
    "catalogue.read": "reload",
    "catalogue.warmed": "reload",
    "catalogue.switched": "reload",
    "tasks.starting": "instance",
    "template.forking": "instance",
    "instances.forked": "instance",
    "tasks.reported": "instance",
    "ledger.retry.written": "instance",
    "scheduler.announcing": "instance",
    "ledger.register.written": "host",
    "ledger.rescue.written": "host",
    "host.registered": "host",
    "ledger.prune.looked": "scheduler",
    "scheduler.pruned": "scheduler",
    "scheduler.forgotten": "scheduler",
    "publisher.lost": "broker",
    "consumer.cut_off": "broker",
    "scheduler.rescued": "stop",
    "tasks.draining": "restart",
    "tasks.killed": "restart",
    "tasks.released": "restart",
    "host.dropped": "restart",
    "launcher.draining": "restart",
    "launcher.drained": "restart",
}

_NEVER_RAISE = (
    "instance.",  # there it is the function's own failure
    "template.",  # the same as a kill
    "launcher.",  # the one process that nobody restarts
    "instances.forked",  # descriptors would stay open
    "tasks.cancelling",  # the asker would hear nothing
    "ledger.committed",  # a database does not commit and then fail
    "publisher.lost",  # on the way out of the very handler of errors
    "models.laid_out",  # it would be the model that fails, and with it its training
)
REACHED = tuple(point for point in POINTS if point != "ledger.shelf.cleared")
"""The points that the work of campaigns comes to: they remove no old version of a model."""
_STALL_S = (0.5, 2.0)


def provocation(point: str) -> Provocation:
    """What brings a process to ``point``."""
    return PROVOKED_BY.get(point, "work")


def may_raise(point: str) -> bool:
    """Whether an unexpected error is something that may happen at ``point``."""
    return not point.startswith(_NEVER_RAISE)


def action(point: str, kill_share: float, rng: random.Random) -> str:
    """What is to happen there, as skipper.failpoints reads it."""
    stall = f"stall {rng.uniform(*_STALL_S):.1f}"
    other = rng.choice((stall, "raise")) if may_raise(point) else stall
    return "kill" if rng.random() < kill_share else other


def every(times: int = 1, *, with_stops: bool = False) -> tuple[str, ...]:
    """Every point so many times; those that take a host asleep only ``with_stops``."""
    wanted = (point for point in REACHED if with_stops or provocation(point) != "stop")
    return tuple(wanted) * times
