"""Named places at which a fault campaign may kill, stall or fail the process that passes by.

Off unless :func:`enable` is given a folder, and ``$SKIPPER_FAILPOINTS``, which names it, is set by
campaigns alone; a point that is off costs one look at a global. A point is armed by a file of its
name in the folder, whose text is what is to happen: ``kill`` (SIGKILL), ``stall SECONDS`` (the
whole thread stands still) or ``raise`` (an error that nobody expects). The process that passes by
takes it by renaming the file to ``POINT@PROCESS-PID``, because a rename succeeds for one process
alone; whoever armed the point sees which.

No point lies on the path of a direct call.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

POINTS: Mapping[str, str] = MappingProxyType(
    {
        # acceptance: in the gateway, or in the host of a function that starts a task
        "intake.begun": "a submission is to be written; nothing of it is stored",
        "blobs.written": "a blob is on the disk under its temporary name, not in its place",
        "blobs.adopting": "a file of the spool is on the disk for good, and not in the store yet",
        "intake.stored": "a large input is in the store, its task is not in the ledger",
        "ledger.accept.written": "new tasks are written in a transaction that is still open",
        "intake.committed": "the task is in the ledger, its id is not published",
        "intake.published": "the id is on its way to the broker, the caller has no answer",
        "gateway.answering": "the task is accepted, perhaps ended; the answer has not left",
        # the other ways in: retry and run-now in the gateway, ticks and deliveries in the scheduler
        "ledger.requeue.written": "a copy of an ended task is written, not committed",
        "intake.requeued": "the copy of an ended task is in the ledger, its id is not published",
        "ledger.run_now.written": "a schedule's task is written at a user's wish, not committed",
        "intake.scheduled": "that task is in the ledger, its id is not published",
        "ledger.tick.written": "a schedule has moved on with its tick's task, not committed",
        "intake.ticked": "a tick's task is in the ledger, its id is not published",
        "ledger.settle.written": "ends have turned into deliveries, not committed",
        "intake.delivering": "deliveries are in the ledger, their ids are not published",
        # the way to the host: publishers in gateway and scheduler, then the consumer
        "publisher.sending": "ids were taken off the publisher's backlog and are not sent",
        "publisher.sent": "the broker has the ids, the publisher has not recorded it",
        "publisher.lost": "the connection to the broker has just proved dead",
        "consumer.received": "a message has come and the host has not been offered its ids",
        "relay.offered": "the host has been sent the ids and has not answered",
        "tasks.listed": "the host has the ids on its list and has not replied",
        "consumer.taken": "the host has the ids, the message is not acknowledged",
        "consumer.acknowledged": "the message is acknowledged, Celery does not call it done",
        "consumer.cut_off": "the connection is lost, and what was offered is to be forgotten",
        # the claim, and the start of an attempt: in the host
        "tasks.claiming": "ids are off the host's list and not claimed",
        "ledger.claim.written": "claims are written in a transaction that is still open",
        "tasks.claimed": "the ledger has the tasks as this host's, which runs nothing yet",
        "tasks.starting": "the attempt has its input and no instance",
        "template.forking": "a template was asked for an instance and has not forked",
        "instances.forked": "an instance's process is there and has no job",
        "tasks.reported": "an instance has loaded the function, the call is not sent",
        "tasks.dispatching": "the attempt has its instance, the call is not sent",
        "tasks.dispatched": "the call is on its way to the instance",
        # the run: in the instance
        "instance.entered": "the function of a task is about to be called",
        "instance.saved": "a trained model is in the store, its host knows nothing of it",
        "instance.checkpointed": "a checkpoint is in the store, its host knows nothing of it",
        "ledger.checkpoint.written": "a checkpoint is recorded in a transaction that is still open",
        "checkpoints.recorded": "a checkpoint is in the ledger, its function does not know",
        "instance.tried": "a fresh process has loaded a trained model, its host does not know",
        "instance.ran": "the function of a task has ended, the reply has not left",
        # the end: in the host
        "tasks.replied": "the reply has come, nothing of it is recorded",
        "recorder.tried": "a trained model is known to be fit or unfit, which is not recorded",
        "recorder.journaled": "every event of the task is in the event store",
        "ledger.publish.written": "a model's version is written in a transaction still open",
        "recorder.published": "the model is numbered in the ledger, no host knows of it",
        "recorder.announced": "every host knows the model, its task has not ended",
        "recorder.stored": "a large result is in the store, the task has not ended",
        "recorder.ending": "the end is about to be written",
        "ledger.retry.written": "a failed attempt is put down and a retry set, not committed",
        "ledger.finish.written": "the end is written in a transaction that is still open",
        "recorder.ended": "the task has ended in the ledger, nobody is notified",
        "ledger.committed": "a group of writes is committed, none of its callers has an answer",
        # a model's files: in the first instance of a machine that loads it
        "models.laid_out": "its files are copied and checked, and not in their place",
        # the way of calls to another version of a model: in the host
        "swap.warming": "what is to serve is known, nothing of it has been started",
        "swap.warmed": "it is loaded, or has failed to be; calls go where they went",
        "swap.moved": "calls go to it; what is kept of those before is not settled",
        # cancelling
        "ledger.cancel.written": "the wish to cancel is written in a transaction still open",
        "gateway.cancelling": "the wish to cancel is in the ledger, the host knows nothing of it",
        "tasks.cancelling": "the host has decided to cancel, the function runs on",
        # seats, heartbeats, shutdown
        "ledger.register.written": "a host is written down, its predecessors are not looked for",
        "ledger.rescue.written": "a dead host's tasks are taken away, not committed",
        "host.registered": "the host has its seat and serves nobody",
        "host.beating": "the host is about to raise its counter",
        "tasks.draining": "the host takes no more and waits for what runs",
        "tasks.killed": "what still ran is killed and not given back",
        "tasks.released": "what still ran is given back, the host is still written down",
        "host.dropped": "the host has taken leave of the ledger",
        "launcher.draining": "the tree is to end, no part of it has",
        "launcher.drained": "every part but broker and guard has ended",
        # the scheduler's round
        "scheduler.looked": "it has read which hosts live and has not acted on it",
        "scheduler.rescued": "a lost host's tasks are in the queue, their ids are not published",
        "ledger.due.written": "due tasks are moved in a transaction that is still open",
        "ledger.republish.written": "forgotten ids are marked, not committed",
        "scheduler.announcing": "tasks are queued again and their ids are not published",
        "ledger.expire.written": "tasks that waited too long are ended, not committed",
        "scheduler.forgotten": "old checkpoints are forgotten, their blobs are still there",
        "ledger.shelf.cleared": "old versions of a model are removed, not committed",
        "ledger.prune.looked": "old tasks are found, their events are deleted, they are not",
        "scheduler.pruned": "old tasks are forgotten, what they stored is still there",
        # reload: in the host
        "catalogue.read": "a saved file has been read, no instance runs it",
        "catalogue.warmed": "new instances are ready, calls go to the old ones",
        "catalogue.switched": "calls go to the new code, nobody is notified",
    }
)
"""Every point, in the order of a task's life, and what is true of the world there."""


class FailpointError(RuntimeError):
    """An error that nobody expects, out of a point that was armed to raise."""


_folder: Path | None = None
_process = ""


def enable(folder: str, process: str) -> None:
    """Look for armed points in ``folder``, as ``process``; with an empty one, no more."""
    global _folder, _process
    _folder, _process = (Path(folder) if folder else None), process


def failpoint(name: str) -> None:
    """Do what the point ``name``, one of :data:`POINTS`, is armed for, if it is.

    Raises FailpointError where that is to raise; may not return where it is to kill.
    """
    if _folder is not None:
        _pass_by(_folder, name)


def _pass_by(folder: Path, name: str) -> None:
    armed = folder / name
    try:
        action, _, seconds = armed.read_text("utf-8").partition(" ")
        armed.rename(folder / f"{name}@{_process}-{os.getpid()}")
    except FileNotFoundError:  # not armed, or another process was faster
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stall":
        time.sleep(float(seconds))
    else:
        raise FailpointError(f"the point {name} was armed to {action}")
