"""Calls that instances make: how long they may take, and that they end with who made them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from skipper.instance.link import OWN
from skipper.outcomes import Outcome
from skipper.pool.durable.attempt import RunningAttempts
from skipper.pool.nested import Nested
from skipper.spec import FunctionSpec
from skipper.tasks.intake import Submission
from skipper.tasks.watchers import Watchers
from skipper.values.opening import NO_PLACES
from skipper.values.spool import Spool
from skipper.wire import calls
from skipper.wire.calls import CallHead
from skipper.wire.frames import Frame, FrameKind
from skipper.wire.link import PendingCall
from tests.unit.pool.played import (
    Nobody,
    Played,
    job_of,
    left_in,
    spec_of,
    spooled_reply,
    version_of,
)


class Link:
    """A link over which no answer comes unless a test gives it."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.waiting: list[PendingCall] = []
        self.cancelled: list[PendingCall] = []

    def call(self, payload: bytes, deadline: float) -> PendingCall:
        link: Any = self
        self.calls.append(payload)
        self.waiting.append(PendingCall(link, len(self.calls), deadline, None))
        return self.waiting[-1]

    def cancel(self, waiting: PendingCall) -> None:
        if not waiting.reply.done() or waiting.reply.cancelled():
            self.cancelled.append(waiting)


class Stage(Nobody):
    """What calls meet: a directory of one function, a ledger that fails, a lane that counts."""

    def __init__(self, **spec: Any) -> None:
        self.link, self.spec = Link(), spec_of("g.g", **spec)
        self.lent: list[str] = []
        self.submitted: list[Submission] = []
        self.ledger = self.values = self.files = self
        self.watchers, self.spool = Watchers(), NO_PLACES.spool
        me: Any = self
        self.nested = Nested(me, me, me, RunningAttempts(), wishes=me)
        self.instance: Played[object] = Played(job_of(version_of()), self)

    async def resolve(self, body: bytes) -> bytes:
        return body

    def asks(
        self,
        budget_ms: int = 0,
        flags: int = 0,
        id_: int = OWN | 1,
        *,
        parent: str = "",
        key: str = "",
    ) -> None:
        """The instance makes a call."""
        head = CallHead(budget_ms, flags, 1, "g.g", f"req-1/{parent}", key)
        self.instance.calls[1] = object()
        self.nested.on_frame(
            self.instance, Frame(FrameKind.CALL, id_, calls.call_head(head) + b"{}")
        )

    async def answer(self) -> tuple[Outcome, Any]:
        """What the instance is told, once it is."""
        async with asyncio.timeout(5):
            while not self.instance.transport.frames:  # noqa: ASYNC110 - a kept frame is no event
                await asyncio.sleep(0)
        (frame,) = self.instance.transport.frames
        outcome, _, body = calls.parse_reply(frame.payload)
        return Outcome(outcome), json.loads(body)

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    # --- the parts it plays ---

    def remembered(self, _: str) -> tuple[FunctionSpec, Link]:
        return self.spec, self.link

    async def find(self, name: str, patience_s: float) -> tuple[FunctionSpec, Link]:
        return self.spec, self.link

    async def accept(self, submission: Submission) -> None:
        self.submitted.append(submission)
        raise OSError("No space left on device")

    def lend_slot(self) -> None:
        self.lent.append("lent")

    def take_back_slot(self) -> None:
        self.lent.append("returned")


@pytest.mark.parametrize(
    ("own_s", "budget_ms", "least_ms", "most_ms"),
    [
        (None, 0, 60_000, 60_000),
        (10, 0, 10_000, 10_000),
        (10, 4000, 4001, 4200),
        (1, 4000, 999, 1000),
    ],
)
async def test_a_call_has_its_own_time_or_a_moment_more_than_is_left_of_its_callers(
    own_s: float | None, budget_ms: int, least_ms: int, most_ms: int
) -> None:
    stage = Stage(timeout_s=own_s)
    stage.asks(budget_ms)
    await stage.settle()
    assert least_ms <= calls.call_key(stage.link.calls[0]).budget_ms <= most_ms


async def test_a_call_is_answered_and_its_slot_comes_back() -> None:
    stage = Stage()
    stage.asks()
    await stage.settle()
    stage.link.waiting[0].answer(calls.reply(Outcome.OK, b"c0de", b"7"))
    assert await stage.answer() == (Outcome.OK, 7)
    assert stage.lent == ["lent", "returned"]
    assert stage.link.cancelled == []


async def test_a_call_ends_with_the_instance_that_made_it() -> None:
    stage = Stage()
    stage.asks()
    await stage.settle()
    stage.instance.dies()
    await stage.settle()
    assert stage.link.cancelled == stage.link.waiting
    assert stage.instance.transport.frames == []


async def test_a_call_that_nobody_wants_any_more_is_given_up_and_answered() -> None:
    stage = Stage()
    stage.asks()
    await stage.settle()
    stage.nested.on_frame(stage.instance, Frame(FrameKind.CANCEL, OWN | 1, b""))
    outcome, _ = await stage.answer()
    assert outcome is Outcome.CANCELLED
    assert stage.link.cancelled == stage.link.waiting
    stage.nested.on_frame(stage.instance, Frame(FrameKind.CANCEL, OWN | 1, b""))


async def test_whatever_goes_wrong_in_the_host_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    stage.asks(flags=calls.SPAWN)
    outcome, problem = await stage.answer()
    assert outcome is Outcome.UNAVAILABLE
    assert "No space left on device" in problem["detail"]
    assert stage.lent == ["lent", "returned"]
    assert "could not be answered" in caplog.text


@pytest.mark.parametrize(
    ("flags", "is_detached"), [(calls.SPAWN, False), (calls.SPAWN | calls.DETACH, True)]
)
async def test_a_task_that_a_task_starts_is_its_child_and_detached_where_that_is_asked(
    flags: int, is_detached: bool
) -> None:
    stage = Stage()
    stage.asks(flags=flags, parent="task-1")
    await stage.answer()
    (submission,) = stage.submitted
    assert (submission.parent_id, submission.request_id) == ("task-1", "req-1")
    assert submission.is_detached is is_detached


@pytest.mark.parametrize(
    ("parent", "context", "flags"), [("task-1", "task-1/req-1", calls.CHILD), ("", "req-1", 0)]
)
async def test_a_direct_call_within_a_task_hands_its_id_on(
    parent: str, context: str, flags: int
) -> None:
    stage = Stage()
    stage.asks(parent=parent)
    await stage.settle()
    head, _ = calls.parse_call(stage.link.calls[0])
    assert (head.context, head.flags, head.key) == (context, flags, "")


@pytest.mark.parametrize("parent", ["task-1", ""])
async def test_a_call_within_a_call_is_sent_by_its_callers_key(parent: str) -> None:
    stage = Stage()
    stage.asks(parent=parent, key="customer-17")
    await stage.settle()
    assert calls.sticky_key(stage.link.calls[0]) == "customer-17"


async def test_what_is_answered_to_a_process_that_has_gone_is_removed(tmp_path: Path) -> None:
    stage = Stage()
    spool = stage.spool = Spool(tmp_path)
    stage.asks()
    await stage.settle()
    stage.link.waiting[0].answer(spooled_reply(spool))
    stage.instance.dies()
    await stage.settle()
    assert left_in(spool) == 0
