import asyncio
import json
import logging
import signal
import time
from typing import Any

import pytest

from skipper.errors import UnavailableError
from skipper.instance.jobs import CALLS_AT_ONCE, Report
from skipper.outcomes import Outcome
from skipper.pool.direct import fleet, lane
from skipper.pool.direct.lane import DirectLane, DirectLimits
from skipper.pool.direct.queue import AHEAD, AHEAD_BYTES, DirectCall, EditionQueue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes.version import Edition, FunctionVersion
from skipper.pool.slots import Slots
from skipper.settings.pools import PoolSettings
from skipper.spec import BrokenFile
from skipper.wire.calls import call_key, problem
from skipper.wire.frames import FrameKind
from tests.unit.pool.played import (
    Caller,
    Played,
    PlayedServing,
    body_of,
    call_of,
    counted,
    version_of,
)

BROKEN = Report(broken=(BrokenFile(file="f.py", line=3, error="NameError: np"),))


class Pool(PlayedServing):
    """A direct lane, its callers and the instances that it has started, all in hand."""

    def __init__(
        self,
        *versions: FunctionVersion,
        slots: int = 2,
        limits: DirectLimits | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.caller = Caller()
        self.metrics = PoolMetrics()
        self.lane = DirectLane(
            PoolSettings(**settings), Slots(slots), self, self.metrics, limits or DirectLimits()
        )
        for version in versions or (version_of(),):
            self.lane.assign(version)
        self._ids = 0

    @property
    def queue(self) -> EditionQueue:
        return next(iter(self.lane.versions.assigned.values()))

    @property
    def version(self) -> FunctionVersion:
        return self.queue.version

    def submit(self, name: str = "f.f", **call: Any) -> int:
        """Send a call; its id. Its body is its id."""
        self._ids += 1
        self.call(name, **call)
        return self._ids

    def call(self, name: str = "f.f", **call: Any) -> DirectCall | None:
        body = str(self._ids).encode()
        return self.lane.submit(self.caller, self._ids, call_of(name, body, **call))

    def sized(self, name: str, body: bytes) -> DirectCall | None:
        """Send a call with this body."""
        self._ids += 1
        return self.lane.submit(self.caller, self._ids, call_of(name, body))

    async def settle(self) -> None:
        """Let everything happen that is about to."""
        for _ in range(10):
            await asyncio.sleep(0)

    def later(self, seconds: float) -> None:
        """Look at the lane as if so much time had passed."""
        self.lane.sweep(time.monotonic() + seconds)

    @property
    def outcomes(self) -> dict[int, Outcome]:
        return self.caller.outcomes

    @property
    def running(self) -> dict[int, bytes]:
        """What each instance runs now, by its place in the order of starts."""
        return {
            n: body_of(call.payload)
            for n, instance in enumerate(self.started)
            for call in instance.calls.values()
        }


async def warmed(pool: Pool, instances: int = 1, name: str = "f.f") -> Pool:
    """The pool with this many idle instances of a function."""
    queue = pool.lane.versions.assigned[name.encode()]
    for _ in range(instances):
        assert await pool.lane.fleet.warm(queue) is None
    return pool


# --- one call --------------------------------------------------------------------------------


async def test_a_first_call_starts_an_instance_and_is_answered_by_it() -> None:
    pool = Pool()
    id_ = pool.submit()
    assert pool.caller.answers == []
    await pool.settle()
    (instance,) = pool.started
    assert instance.given == [b"1"]
    instance.replies("done")
    assert pool.caller.answers == [(id_, Outcome.OK, "done")]
    assert pool.lane.slots.busy == 0


async def test_a_warm_instance_is_given_the_call_at_once() -> None:
    pool = await warmed(Pool())
    pool.submit()
    assert pool.started[0].given == [b"1"]


async def test_a_function_that_ends_as_cancelled_by_itself_has_failed() -> None:
    pool = await warmed(Pool())
    id_ = pool.submit()
    (instance,) = pool.started
    instance.says(FrameKind.REPLY, 1, problem(Outcome.CANCELLED, "the run was cancelled"))
    (answer,) = pool.caller.answers
    assert (answer.id, answer.outcome) == (id_, Outcome.FAILED)
    assert "nobody cancelled it" in answer.value


async def test_a_function_that_is_not_served_is_not_found() -> None:
    pool = Pool()
    id_ = pool.submit("no.such")
    assert pool.caller.answers == [(id_, Outcome.NOT_FOUND, "no.such is no longer served")]


async def test_each_caller_gets_its_own_answer_and_items() -> None:
    pool = await warmed(Pool(), 2)
    other = Caller()
    pool.submit()
    pool.lane.submit(other, 1, call_of(body=b"other"))
    mine, theirs = sorted(pool.started, key=lambda instance: instance.given)
    theirs.says(FrameKind.ITEM, 1, b"theirs")
    mine.says(FrameKind.ITEM, 1, b"mine")
    theirs.replies("theirs")
    mine.replies("mine")
    assert (pool.caller.items, other.items) == ([b"mine"], [b"theirs"])
    assert pool.caller.answers == [(1, Outcome.OK, "mine")]
    assert other.answers == [(1, Outcome.OK, "theirs")]


async def test_an_instance_is_told_what_is_left_of_the_time() -> None:
    pool = Pool()
    pool.starts = asyncio.Semaphore(0)
    pool.submit(budget_ms=60_000)
    call = pool.queue.calls[0]
    call.received, call.deadline = call.received - 20, call.deadline - 20
    pool.starts.release()
    await pool.settle()
    (frame,) = pool.started[0].transport.frames
    assert 39_000 < call_key(frame.payload).budget_ms <= 40_000


async def test_a_call_without_a_deadline_stays_without() -> None:
    pool = await warmed(Pool())
    pool.submit(budget_ms=0)
    pool.later(1e6)
    (frame,) = pool.started[0].transport.frames
    assert call_key(frame.payload).budget_ms == 0
    assert pool.outcomes == {}


async def test_room_for_more_items_is_told_to_the_call_it_is_for() -> None:
    pool = await warmed(Pool(version_of(is_async=True)))
    pool._ids = 1
    pool.call()
    pool._ids = 2
    second = pool.call()
    assert second is not None
    pool.lane.credit(second, b"so much")
    told = [
        (frame.id, frame.payload)
        for frame in pool.started[0].transport.frames
        if frame.kind == FrameKind.CREDIT
    ]
    assert told == [(2, b"so much")]


# --- capacity --------------------------------------------------------------------------------


async def test_an_instance_runs_one_call_at_a_time_in_the_order_they_came() -> None:
    pool = await warmed(Pool(slots=1))
    ids = [pool.submit() for _ in range(3)]
    assert pool.started[0].given == [b"1"]
    for _ in ids:
        pool.started[0].replies()
    assert pool.started[0].given == [b"1", b"2", b"3"]
    assert list(pool.outcomes) == ids


async def test_an_async_instance_runs_many_in_one_slot() -> None:
    pool = await warmed(Pool(version_of(is_async=True), slots=1))
    for _ in range(CALLS_AT_ONCE + 1):
        pool.submit()
    assert len(pool.started[0].given) == CALLS_AT_ONCE
    assert pool.lane.slots.busy == 1
    for _ in range(CALLS_AT_ONCE + 1):
        pool.started[0].replies()
    assert pool.lane.slots.busy == 0


async def test_no_more_calls_run_than_there_are_slots() -> None:
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=2)
    await warmed(await warmed(pool, 2, "a.f"), 2, "b.f")
    for name in ("a.f", "b.f", "a.f", "b.f"):
        pool.submit(name)
    assert len(pool.running) == pool.lane.slots.busy == 2
    assert pool.lane.queued == 2


async def test_slots_go_round_the_functions_that_wait() -> None:
    """One function's long queue holds up another's call for one call at most."""
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=1)
    await warmed(await warmed(pool, 1, "a.f"), 1, "b.f")
    for _ in range(5):
        pool.submit("a.f")
    last = pool.submit("b.f")
    for _ in range(2):
        next(instance for instance in pool.started if instance.calls).replies()
    assert pool.running == {1: str(last).encode()}


async def test_calls_within_calls_go_before_others() -> None:
    pool = await warmed(Pool(slots=1))
    for depth in (0, 0, 1):
        pool.submit(depth=depth)
    pool.started[0].replies()
    assert pool.started[0].given == [b"1", b"3"]


async def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    pool = await warmed(Pool(slots=1, queue=2))
    ids = [pool.submit() for _ in range(5)]
    assert pool.outcomes == dict.fromkeys(ids[3:], Outcome.BUSY)
    for _ in range(3):
        pool.started[0].replies()
    assert [id_ for id_, outcome in pool.outcomes.items() if outcome is Outcome.OK] == ids[:3]


async def test_the_queues_of_a_pool_are_bounded_together() -> None:
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=1, queue=5, queue_total=3)
    pool.starts = asyncio.Semaphore(0)
    ids = [pool.submit(name) for name in ("a.f", "a.f", "b.f", "b.f")]
    assert pool.outcomes == {ids[3]: Outcome.BUSY}
    assert pool.lane.queued == 3


async def test_the_bytes_that_wait_in_a_pool_are_bounded() -> None:
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=1, queue_mb=1)
    pool.starts = asyncio.Semaphore(0)
    large = b"x" * (400 << 10)
    calls_ = [pool.sized(name, large) for name in ("a.f", "b.f", "a.f")]
    assert pool.outcomes == {3: Outcome.BUSY}
    assert "(pools.cpu.queue_mb)" in pool.caller.answers[0].value
    pool.sized("a.f", b"small")
    assert pool.lane.queued == 3
    assert calls_[1] is not None
    pool.lane.cancel(calls_[1])
    pool.sized("b.f", large)
    assert pool.outcomes == {3: Outcome.BUSY}
    pool.later(31)
    pool.sized("a.f", b"x" * (2 << 20))
    assert pool.lane.queued == 1


async def test_places_in_the_queue_are_given_back() -> None:
    pool = await warmed(Pool(slots=1, queue=1))
    for _ in range(4):
        pool.submit()
        waiting = pool.call()
        assert waiting is not None
        pool.lane.cancel(waiting)
        pool.started[0].replies()
    assert pool.lane.queued == 0
    assert set(pool.outcomes.values()) == {Outcome.OK}


# --- time ------------------------------------------------------------------------------------


async def test_a_deadline_that_passes_in_the_queue_is_told_and_the_call_never_runs() -> None:
    pool = await warmed(Pool(slots=1))
    pool.submit()
    late = pool.submit(budget_ms=1000)
    pool.later(2)
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    assert "waited for a free instance" in pool.caller.answers[0].value
    pool.started[0].replies()
    assert pool.started[0].given == [b"1"]


async def test_a_deadline_that_passes_while_it_runs_ends_the_process() -> None:
    pool = await warmed(Pool())
    late = pool.submit(budget_ms=1000)
    pool.later(0.5)
    assert pool.outcomes == {}
    pool.later(1.1)
    (instance,) = pool.started
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    assert instance.is_stopped
    instance.dies()
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    assert pool.lane.slots.busy == 0


async def test_an_answer_that_comes_late_is_not_told_and_frees_the_slot() -> None:
    pool = await warmed(Pool(slots=1))
    late = pool.submit(budget_ms=1000)
    pool.later(2)
    pool.started[0].replies("too late")
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    assert pool.lane.slots.busy == 0
    pool.submit()
    await pool.settle()
    assert pool.started[0].given == [b"1"]
    assert pool.started[1].given == [b"2"]


async def test_a_late_async_call_is_asked_to_stop_before_its_process_is_made_to() -> None:
    pool = await warmed(Pool(version_of(is_async=True)))
    late = pool.submit(budget_ms=1000)
    pool.later(2)
    (instance,) = pool.started
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    assert instance.cancelled == [1]
    assert not instance.is_stopped
    pool.later(1 + lane.CANCEL_GRACE_S + 1)
    assert instance.is_stopped


async def test_a_late_async_call_does_not_end_those_beside_it() -> None:
    pool = await warmed(Pool(version_of(is_async=True)))
    pool.submit(budget_ms=1000)
    good = pool.submit(budget_ms=600_000)
    pool.later(100)
    (instance,) = pool.started
    assert not instance.is_stopped
    instance.replies("fine", 2)
    assert pool.outcomes[good] is Outcome.OK


@pytest.mark.parametrize("leaves", ["reload", "removal", "recycling"])
async def test_a_deadline_holds_for_what_runs_where_no_more_calls_are_sent(leaves: str) -> None:
    pool = await warmed(Pool(version_of(recycle=1) if leaves == "recycling" else version_of()))
    pool.submit(budget_ms=1000)
    (instance,) = pool.started
    if leaves == "reload":
        exchange(pool)
    elif leaves == "removal":
        pool.lane.retire(pool.version)
    else:
        pool.lane.fleet.replace(instance)
        await pool.settle()
    pool.later(0.5)
    assert not instance.is_stopped
    pool.later(1.1)
    assert pool.outcomes == {1: Outcome.TIMED_OUT}
    assert instance.is_stopped
    instance.dies()
    assert pool.lane.slots.busy == 0


async def test_a_late_call_has_its_process_told_to_stop_once() -> None:
    pool = await warmed(Pool())
    pool.submit(budget_ms=1000)
    for _ in range(3):
        pool.later(2)
    assert pool.started[0].signals == [signal.SIGTERM]


async def test_nobody_waits_longer_than_the_pool_lets_them() -> None:
    pool = await warmed(Pool(slots=1, queue_wait_s=5))
    pool.submit(budget_ms=600_000)
    waiting = pool.submit(budget_ms=600_000)
    pool.later(4)
    assert pool.outcomes == {}
    pool.later(6)
    assert pool.outcomes == {waiting: Outcome.BUSY}


async def test_the_body_of_a_call_is_held_no_longer_than_the_call() -> None:
    pool = await warmed(Pool(slots=1))
    pool._ids = 1
    answered, left = pool.call(), pool.call()
    assert answered is not None
    assert left is not None
    pool.lane.cancel(left)
    pool.started[0].replies()
    assert (answered.payload, left.payload) == (b"", b"")


# --- callers that leave, instances that die --------------------------------------------------


async def test_a_caller_that_leaves_frees_its_place_and_its_call_never_runs() -> None:
    pool = await warmed(Pool(slots=1))
    pool.submit()
    left = pool.call()
    assert left is not None
    pool.lane.cancel(left)
    last = pool.submit()
    pool.started[0].replies()
    assert pool.started[0].given == [b"1", str(last).encode()]


async def test_a_caller_that_leaves_has_its_function_told_and_gets_no_answer() -> None:
    pool = await warmed(Pool(slots=1))
    left = pool.call()
    assert left is not None
    pool.lane.cancel(left)
    pool.lane.cancel(left)
    assert pool.started[0].cancelled == [1]
    pool.started[0].replies()
    assert pool.caller.answers == []
    assert pool.lane.slots.busy == 0
    assert counted(pool.metrics) == {"cancelled": 1}


async def test_a_reply_that_comes_too_late_is_given_back_to_be_discarded() -> None:
    pool = await warmed(Pool(slots=1))
    left = pool.call()
    assert left is not None
    pool.lane.cancel(left)
    pool.started[0].replies()
    late = pool.submit(budget_ms=1)
    pool.lane.sweep(time.monotonic() + 1)
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    pool.started[0].replies()
    assert [payload[0] for payload in pool.caller.discarded] == [Outcome.OK, Outcome.OK]


async def test_a_death_is_told_to_what_was_running_alone() -> None:
    pool = await warmed(Pool(slots=2), 2)
    first, second = pool.submit(), pool.submit()
    dying = next(instance for instance in pool.started if instance.given == [b"1"])
    dying.dies("it was killed by SIGSEGV")
    assert pool.outcomes == {first: Outcome.DIED}
    assert "it was killed by SIGSEGV" in pool.caller.answers[0].value
    next(instance for instance in pool.started if instance.calls).replies()
    assert pool.outcomes[second] is Outcome.OK
    assert pool.lane.slots.busy == 0


async def test_after_a_death_waiting_calls_are_served_by_another_instance() -> None:
    pool = await warmed(Pool(slots=1))
    died, waiting = pool.submit(), pool.submit()
    pool.started[0].dies()
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    pool.started[1].replies()
    assert pool.outcomes == {died: Outcome.DIED, waiting: Outcome.OK}


async def test_a_death_gives_its_slot_to_whoever_waits() -> None:
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=1)
    await warmed(await warmed(pool, 1, "a.f"), 1, "b.f")
    pool.submit("a.f")
    pool.submit("b.f")
    pool.started[0].dies()
    assert pool.running == {1: b"2"}


async def test_every_call_of_an_async_instance_that_dies_is_answered_and_one_slot_freed() -> None:
    pool = await warmed(Pool(version_of(is_async=True), slots=1))
    ids = [pool.submit() for _ in range(3)]
    pool.started[0].dies()
    assert pool.outcomes == dict.fromkeys(ids, Outcome.DIED)
    assert pool.lane.slots.busy == 0


# --- starting --------------------------------------------------------------------------------


async def test_one_instance_is_started_for_calls_that_come_together() -> None:
    pool = Pool(slots=4)
    pool.starts = asyncio.Semaphore(0)
    for _ in range(4):
        pool.submit()
    await pool.settle()
    pool.starts.release()
    await pool.settle()
    assert len(pool.started) == 1


@pytest.mark.parametrize(("max_instances", "slots", "most"), [(None, 3, 3), (2, 3, 2), (9, 3, 3)])
async def test_calls_that_wait_are_given_instances_up_to_the_most(
    max_instances: int | None, slots: int, most: int
) -> None:
    pool = Pool(version_of(max_instances=max_instances), slots=slots)
    for _ in range(9):
        pool.submit()
    for _ in range(9):
        pool.later(fleet.PATIENCE_S * 2)
        await pool.settle()
    assert len(pool.started) == most


async def test_a_call_that_has_just_come_starts_no_further_instance() -> None:
    pool = await warmed(Pool(slots=3))
    pool.submit()
    pool.submit()
    pool.lane.sweep(pool.queue.calls[0].received)
    await pool.settle()
    assert len(pool.started) == 1


def held_up(pool: Pool, calls: int, *, run_s: float, running_s: float = 0.0) -> float:
    """Have ``calls`` wait beside one that runs, longer than patience lasts; the time then.

    Calls of the function took ``run_s`` so far; the one that runs has taken ``running_s``.
    """
    pool.queue.run_s = run_s
    for _ in range(calls + 1):
        pool.submit()
    now = time.monotonic() + 10
    (running,) = pool.started[0].calls.values()
    running.started = now - running_s
    return now


@pytest.mark.parametrize(
    ("calls", "batch", "run_s", "running_s", "grows"),
    [
        (9, 1, 0.0002, 0.0, False),  # a busy machine held them up; they are through in no time
        (9, 1, 0.01, 0.0, True),
        (9, 10, 0.01, 0.0, False),  # all of them go at once
        (11, 10, 0.02, 0.0, True),
        (1, 1, 0.0002, fleet.PATIENCE_S * 2, True),  # this one takes longer than they did so far
    ],
)
async def test_an_instance_is_added_where_calls_would_wait_for_long_without(
    calls: int, batch: int, run_s: float, running_s: float, grows: bool
) -> None:
    pool = await warmed(Pool(version_of(batch=batch), slots=3))
    pool.lane.sweep(held_up(pool, calls, run_s=run_s, running_s=running_s))
    await pool.settle()
    assert len(pool.started) == 1 + grows


async def test_no_instance_is_added_where_it_is_slots_that_are_wanting() -> None:
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=1)
    await warmed(await warmed(pool, 1, "a.f"), 1, "b.f")
    pool.submit("a.f")
    pool.submit("b.f")
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    assert len(pool.started) == 2


async def test_a_batch_that_is_not_due_adds_no_instance() -> None:
    pool = await warmed(Pool(version_of(batch=2, batch_wait_s=1000.0)))
    pool.submit()
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    assert len(pool.started) == 1


async def test_how_long_calls_run_is_learned_from_those_that_end() -> None:
    pool = await warmed(Pool())
    for _ in range(100):
        pool.submit()
        (running,) = pool.started[0].calls.values()
        running.started -= 0.5
        pool.started[0].idle_since -= 0.5
        pool.started[0].replies()
    assert 0.45 < pool.queue.run_s < 0.55


async def test_what_dies_as_soon_as_it_has_loaded_is_a_start_that_failed() -> None:
    pool = Pool(version_of(min_instances=1))
    pool.dies_at_once = True
    for _ in range(50):
        pool.later(0)
        await pool.settle()
    assert len(pool.started) == 1
    refused = pool.submit()
    assert pool.outcomes == {refused: Outcome.BROKEN}
    assert "killed by SIGKILL" in pool.caller.answers[0].value


async def test_what_keeps_dying_before_its_first_call_is_started_again_after_a_pause() -> None:
    pool = Pool(version_of(min_instances=1))
    for _ in range(50):
        pool.later(0)
        await pool.settle()
        for instance in pool.started:
            if not instance.is_stopped:
                instance.dies()
    assert len(pool.started) == 2
    again = pool.submit()
    assert pool.outcomes == {}, "calls wait for the next one"
    pool.queue.retry_at = 0.0
    pool.later(0)
    await pool.settle()
    pool.started[-1].replies()
    assert pool.outcomes == {again: Outcome.OK}


async def test_what_fails_to_start_fails_all_that_wait_and_refuses_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = Pool()
    pool.report = BROKEN
    ids = [pool.submit() for _ in range(3)]
    with caplog.at_level(logging.ERROR):
        await pool.settle()
    assert pool.outcomes == dict.fromkeys(ids, Outcome.BROKEN)
    assert "NameError: np" in pool.caller.answers[0].value
    assert pool.started[0].is_stopped
    pool.queue.retry_at = time.monotonic() + 29.5
    refused = pool.submit()
    await pool.settle()
    assert pool.outcomes[refused] is Outcome.BROKEN
    assert len(pool.started) == 1
    assert json.loads(pool.caller.transport.frames[-1].payload[2:])["retry_after_s"] == 30


async def test_after_the_pause_it_is_tried_again_and_a_success_ends_the_trouble() -> None:
    pool = Pool()
    pool.error = UnavailableError("no room")
    pool.submit()
    await pool.settle()
    first_pause = pool.queue.retry_at - time.monotonic()
    pool.queue.retry_at = 0.0
    pool.submit()
    await pool.settle()
    assert pool.queue.retry_at - time.monotonic() > first_pause
    pool.error, pool.queue.retry_at = None, 0.0
    again = pool.submit()
    await pool.settle()
    pool.started[0].replies()
    assert pool.outcomes[again] is Outcome.OK
    pool.later(0)
    assert (pool.queue.load_error, pool.queue.failures) == (None, 0)


async def test_a_version_says_why_it_has_no_instance_until_it_has_one() -> None:
    pool = Pool()
    pool.report = BROKEN
    pool.submit()
    await pool.settle()
    assert BROKEN.broken[0].is_as(pool.version.problem)
    pool.report, pool.queue.retry_at = Report(), 0.0
    pool.submit()
    await pool.settle()
    assert pool.version.problem is None


async def test_a_version_has_no_problem_while_an_instance_of_it_serves() -> None:
    pool = await warmed(Pool())
    pool.report = BROKEN
    pool.lane.on_worn(pool.started[0])
    await pool.settle()
    assert BROKEN.broken[0].is_as(pool.queue.load_error)
    assert pool.version.problem is None
    pool.started[0].dies()
    assert BROKEN.broken[0].is_as(pool.version.problem)


async def test_a_failed_growth_does_not_fail_calls_that_an_instance_serves() -> None:
    pool = await warmed(Pool())
    pool.submit()
    waiting = pool.submit()
    pool.report = BROKEN
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    assert pool.outcomes == {}
    pool.started[0].replies()
    pool.started[0].replies()
    assert pool.outcomes[waiting] is Outcome.OK


async def test_without_a_model_calls_are_told_what_to_do_and_nothing_is_started() -> None:
    pool = Pool()
    pool.untrained_detail = "model 'boston' has no version yet; call boston.train first"
    id_ = pool.submit()
    await pool.settle()
    assert pool.caller.answers == [(id_, Outcome.UNAVAILABLE, pool.untrained_detail)]
    assert pool.started == []


# --- retries ---------------------------------------------------------------------------------
SOON = 0.001


def retried(**given: Any) -> FunctionVersion:
    return version_of(retries=2, backoff_s=SOON, **given)


async def run_by(pool: Pool) -> Played[DirectCall]:
    """The instance that runs the only call, once one does."""
    async with asyncio.timeout(10.0):
        while not pool.running:
            pool.later(0.0)
            await asyncio.sleep(SOON)
    return next(instance for instance in pool.started if instance.calls)


@pytest.mark.parametrize("how", ["raises", "dies", "both"])
async def test_a_direct_call_is_tried_again_as_its_function_wants(how: str) -> None:
    pool = await warmed(Pool(retried()))
    id_ = pool.submit()
    for attempt in range(2):
        instance = await run_by(pool)
        if how == "dies" or (how == "both" and attempt):
            instance.dies()
        else:
            instance.ends(problem(Outcome.FAILED, "ValueError: no"))
        assert pool.outcomes == {}
        assert not pool.lane.slots.busy
    (await run_by(pool)).replies()
    assert pool.outcomes == {id_: Outcome.OK}
    assert counted(pool.metrics) == {"ok": 1}


def runs(metrics: PoolMetrics) -> dict[str, int]:
    """How often runs have ended how."""
    found = metrics.snapshot(queued=0, instances=()).attempts
    return {each.outcome: each.count for each in found if each.lane == "direct"}


async def test_every_run_of_a_call_is_counted_and_the_call_once() -> None:
    """https://github.com/mlflow/mlflow/issues/14149"""
    pool = await warmed(Pool(retried()))
    pool.submit()
    (await run_by(pool)).ends(problem(Outcome.FAILED, "ValueError: no"))
    (await run_by(pool)).dies()
    (await run_by(pool)).replies()
    assert runs(pool.metrics) == {"failed": 1, "died": 1, "ok": 1}
    assert counted(pool.metrics) == {"ok": 1}
    left = pool.call()
    assert left is not None
    pool.lane.cancel(left)
    assert runs(pool.metrics)["cancelled"] == 1


async def test_a_call_that_never_ran_counts_as_no_run() -> None:
    pool = Pool(slots=1)
    pool.submit()
    pool.lane.sweep(time.monotonic() + 3600)
    assert sum(counted(pool.metrics).values()) == 1
    assert runs(pool.metrics) == {}


@pytest.mark.parametrize(
    ("batch", "queue", "is_told"), [(64, 10, True), (11, 10, True), (10, 10, False), (1, 1, False)]
)
async def test_a_batch_above_the_queue_is_told_when_the_function_is_assigned(
    caplog: pytest.LogCaptureFixture, batch: int, queue: int, is_told: bool
) -> None:
    """https://github.com/ray-project/ray/issues/47681"""
    Pool(version_of(batch=batch), queue=queue)
    text = f"f.f: batch={batch} is more than pools.cpu.queue = {queue}"
    assert [text in record.message for record in caplog.records] == ([True] if is_told else [])


async def test_the_last_failure_is_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    pool = await warmed(Pool(retried()))
    id_ = pool.submit()
    with caplog.at_level(logging.INFO, "skipper"):
        for n in range(3):
            (await run_by(pool)).ends(problem(Outcome.FAILED, f"ValueError: {n}"))
    assert pool.caller.answers == [(id_, Outcome.FAILED, "ValueError: 2")]
    told = [record.message for record in caplog.records]
    assert told[0].startswith("f.f: run 1 of 3 failed, again in 0.0 s: ValueError: 0")
    assert told[1:]
    assert told[-1] == "f.f: ValueError: 2"


@pytest.mark.parametrize(
    "reply",
    [
        problem(Outcome.FAILED, "KeyError: no", retryable=False),
        problem(Outcome.INVALID, "/x: no"),
        problem(Outcome.UNAVAILABLE, "no model"),
    ],
)
async def test_what_is_not_to_be_tried_again_is_answered_at_once(reply: bytes) -> None:
    pool = await warmed(Pool(retried()))
    id_ = pool.submit()
    (await run_by(pool)).ends(reply)
    assert pool.outcomes == {id_: Outcome(reply[0])}


async def test_a_call_without_the_time_for_another_pause_is_answered() -> None:
    pool = await warmed(Pool(version_of(retries=2, backoff_s=30.0)))
    id_ = pool.submit(budget_ms=10_000)
    (await run_by(pool)).ends(problem(Outcome.FAILED, "no"))
    assert pool.outcomes == {id_: Outcome.FAILED}


@pytest.mark.parametrize(("failures", "budget_s"), [(4, 301), (10, 301), (2000, 3600)])
async def test_a_pause_takes_no_more_of_a_calls_time_than_it_may_last(
    failures: int, budget_s: int
) -> None:
    pool = await warmed(Pool(version_of(retries=failures + 1, backoff_s=300.0)))
    pool.submit(budget_ms=budget_s * 1000)
    instance = await run_by(pool)
    (call,) = instance.calls.values()
    call.failures = failures
    instance.ends(problem(Outcome.FAILED, "no"))
    assert pool.outcomes == {}


async def test_a_stream_that_has_begun_is_not_begun_again() -> None:
    pool = await warmed(Pool(retried(streams=True)))
    id_ = pool.submit()
    instance = await run_by(pool)
    instance.says(FrameKind.ITEM, None, b"1")
    instance.ends(problem(Outcome.FAILED, "no"))
    assert pool.outcomes == {id_: Outcome.FAILED}


async def test_a_caller_that_leaves_between_two_tries_ends_them() -> None:
    pool = await warmed(Pool(retried()))
    pool._ids += 1
    call = pool.call()
    assert call is not None
    (await run_by(pool)).ends(problem(Outcome.FAILED, "no"))
    pool.lane.cancel(call)
    await pool.lane.close(1.0)
    assert (pool.outcomes, pool.lane.queued, pool.running) == ({}, 0, {})


async def test_only_as_many_pause_as_may_wait() -> None:
    pool = await warmed(Pool(retried(), queue_total=1), 2)
    both = {pool.submit(), pool.submit()}
    for instance in pool.started:
        instance.ends(problem(Outcome.FAILED, "no"))
    (refused,) = pool.outcomes
    (await run_by(pool)).replies()
    assert pool.outcomes == {refused: Outcome.FAILED, (both - {refused}).pop(): Outcome.OK}


# --- versions --------------------------------------------------------------------------------


def exchange(pool: Pool) -> FunctionVersion:
    """Have new code served in place of what was; the old version."""
    old = pool.version
    pool.lane.assign(version_of(code="beef"))
    pool.lane.retire(old)
    return old


async def test_what_waits_is_run_by_new_code_of_which_nothing_is_known_yet() -> None:
    pool = Pool()
    pool.starts = asyncio.Semaphore(0)
    pool.submit()
    queue = pool.queue
    trouble = {"load_error": BROKEN.broken[0], "failures": 3, "retry_at": float("inf")}
    vars(queue).update(trouble, longest_s=0.001, run_s=0.5)
    assert queue.ahead > 0
    exchange(pool)
    assert queue.is_retired
    assert not queue.calls
    fresh = pool.queue
    assert (len(fresh.calls), fresh.spec.code, fresh.ahead) == (1, "beef", 0)
    assert [vars(fresh)[name] for name in trouble] == [None, 0, 0.0]
    assert fresh.run_s == 0.5, "as many instances are worth while as of the old code"


@pytest.mark.parametrize("warm", [0, 2])
async def test_a_version_that_takes_over_has_as_many_instances_as_the_one_it_replaces(
    warm: int,
) -> None:
    pool = await warmed(Pool(), warm)
    new = version_of(code="beef")
    assert await pool.lane.warm(new) is None
    assert len(pool.started) == 2 * warm
    old = pool.version
    pool.lane.assign(new)
    pool.lane.retire(old)
    assert [instance.is_stopped for instance in pool.started] == [True] * warm + [False] * warm


async def test_a_version_that_was_warmed_and_is_not_to_serve_leaves_no_instance() -> None:
    pool = await warmed(Pool())
    new = version_of(code="beef")
    assert await pool.lane.warm(new) is None
    pool.lane.retire(new)
    assert [instance.is_stopped for instance in pool.started] == [False, True]


async def test_two_versions_of_a_function_serve_side_by_side() -> None:
    pool = await warmed(Pool(slots=4))
    old, new = pool.version, version_of(code="beef")
    assert await pool.lane.warm(new) is None
    for version in (old, new):
        pool.lane.assign(version)
        pool.submit()
    codes = [instance.job.source.code for instance in pool.started if instance.job.source]
    assert codes == ["c0de", "beef"]
    assert pool.running == {0: b"1", 1: b"2"}
    pool.started[0].replies("old")
    pool.lane.assign(old)
    pool.submit()
    assert pool.running == {0: b"3", 1: b"2"}, "calls go back at once, and nothing is started"
    pool.started[1].replies("new")
    pool.started[0].replies("old")
    values = {answer.id: answer.value for answer in pool.caller.answers}
    assert values == {1: "old", 2: "new", 3: "old"}
    assert len(pool.started) == 2


async def test_a_call_is_run_by_the_version_that_it_waits_for() -> None:
    pool = Pool(slots=4)
    pool.starts = asyncio.Semaphore(0)
    pool.submit()
    pool.lane.assign(version_of(code="beef"))
    pool.submit()
    for _ in range(2):
        pool.starts.release()
        await pool.settle()
    given = {each.job.source.code: each.given for each in pool.started if each.job.source}
    assert given == {"c0de": [b"1"], "beef": [b"2"]}


async def test_what_waits_for_a_version_that_is_retired_goes_before_what_came_to_the_next() -> None:
    pool = Pool(version_of(max_instances=1))
    old, new = pool.version, version_of(code="beef", max_instances=1)
    pool.starts = asyncio.Semaphore(0)
    first, second = pool.submit(), pool.submit()
    pool.lane.assign(new)
    third = pool.submit()
    pool.lane.retire(old)
    assert pool.lane.queued == 3
    for _ in range(2):
        pool.starts.release()
        await pool.settle()
    (serving,) = [each for each in pool.started if not each.is_stopped]
    for _ in range(3):
        serving.replies()
    assert [answer.id for answer in pool.caller.answers] == [first, second, third]
    assert pool.lane.queued == 0


async def test_a_version_beside_the_assigned_one_is_kept_and_not_made_more() -> None:
    pool = Pool(version_of(min_instances=1))
    for code in ("c0de", "beef"):
        if code != pool.version.spec.code:
            pool.lane.assign(version_of(code=code, min_instances=1))
        pool.later(0)
        await pool.settle()
    old, new = pool.started
    pool.later(10 * fleet.IDLE_S)
    assert not old.is_stopped
    for instance in (old, new):
        instance.dies()
    pool.later(fleet.RETRY_S[-1])
    await pool.settle()
    codes = [each.job.source.code for each in pool.started[2:] if each.job.source]
    assert codes == ["beef"]


async def test_an_old_version_answers_what_it_runs_and_then_ends() -> None:
    pool = await warmed(Pool(slots=4), 2)
    running = pool.submit()
    busy, idle = sorted(pool.started, key=lambda instance: not instance.calls)
    exchange(pool)
    assert idle.is_stopped
    assert not busy.is_stopped
    fresh = pool.submit()
    await pool.settle()
    busy.replies()
    assert busy.is_stopped
    pool.started[-1].replies()
    assert pool.outcomes == {running: Outcome.OK, fresh: Outcome.OK}
    assert pool.started[-1].job.source.code == "beef"


async def test_a_version_is_warmed_with_as_many_instances_as_it_is_to_replace() -> None:
    pool = Pool(slots=4)
    assert await pool.lane.fleet.warm(pool.queue, 3) is None
    assert len(pool.queue.instances) == 3
    pool.report = BROKEN
    assert (
        await pool.lane.fleet.warm(EditionQueue(Edition(version_of(code="beef"))), 3)
        == BROKEN.broken[0]
    )


async def test_an_old_version_that_fails_to_start_does_not_fail_the_new_one() -> None:
    pool = Pool()
    pool.starts, pool.report = asyncio.Semaphore(0), BROKEN
    waiting = pool.submit()
    await pool.settle()
    exchange(pool)
    pool.report = Report()
    pool.starts.release()
    await pool.settle()
    assert pool.outcomes == {}
    pool.starts.release()
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    pool.started[-1].replies()
    assert pool.outcomes == {waiting: Outcome.OK}


async def test_an_instance_that_becomes_ready_for_an_old_version_is_stopped() -> None:
    pool = Pool()
    pool.starts = asyncio.Semaphore(0)
    pool.submit()
    await pool.settle()
    exchange(pool)
    pool.starts.release()
    await pool.settle()
    assert pool.started[0].is_stopped
    assert pool.started[0].given == []


async def test_a_function_that_is_removed_answers_what_waits_and_leaves_no_instance() -> None:
    pool = Pool()
    pool.starts = asyncio.Semaphore(0)
    waiting = pool.submit()
    await pool.settle()
    pool.lane.retire(pool.version)
    assert pool.outcomes == {waiting: Outcome.NOT_FOUND}
    pool.starts.release()
    await pool.settle()
    assert pool.started[0].is_stopped
    assert pool.lane.queued == 0


async def test_a_removed_function_finishes_what_it_runs() -> None:
    pool = await warmed(Pool())
    running = pool.submit()
    pool.lane.retire(pool.version)
    assert not pool.started[0].is_stopped
    pool.started[0].replies()
    assert pool.outcomes == {running: Outcome.OK}
    assert pool.started[0].is_stopped


# --- a long life -----------------------------------------------------------------------------


async def test_what_is_idle_for_long_is_stopped_down_to_the_least() -> None:
    pool = await warmed(Pool(version_of(idle_s=30, min_instances=1), slots=3), 3)
    pool.later(29)
    assert not any(instance.is_stopped for instance in pool.started)
    pool.later(31)
    assert sum(instance.is_stopped for instance in pool.started) == 2


async def test_of_many_idle_functions_the_longest_idle_give_way() -> None:
    pool = Pool(*(version_of(f"f{n}.f") for n in range(5)), slots=4, idle_instances=2)
    for n in range(5):
        await warmed(pool, 1, f"f{n}.f")
        pool.started[-1].idle_since -= n
    pool.submit("f4.f")
    pool.later(0)
    assert [instance.is_stopped for instance in pool.started] == [False, False, True, True, False]


async def test_what_is_kept_ready_gives_way_to_nobody() -> None:
    pool = Pool(version_of(min_instances=1), slots=4, idle_instances=0)
    await warmed(pool)
    pool.later(0)
    assert not pool.started[0].is_stopped


async def test_a_busy_instance_is_not_idle() -> None:
    pool = await warmed(Pool(version_of(idle_s=30)))
    pool.submit(budget_ms=0)
    pool.later(1000)
    assert not pool.started[0].is_stopped


async def test_the_least_are_kept_ready_without_a_call() -> None:
    pool = Pool(version_of(min_instances=2), slots=4)
    for _ in range(4):
        pool.later(0)
        await pool.settle()
    assert len(pool.started) == 2
    pool.started[0].dies()
    pool.later(0)
    await pool.settle()
    assert len(pool.started) == 3


async def test_an_instance_is_replaced_after_its_calls_and_serves_until_then() -> None:
    pool = await warmed(Pool(version_of(recycle=2), slots=1))
    pool.starts = asyncio.Semaphore(0)
    worn = pool.started[0]
    for _ in range(3):
        pool.submit()
        worn.replies()
    await pool.settle()
    assert not worn.is_stopped
    pool.starts.release()
    await pool.settle()
    assert worn.is_stopped
    pool.submit()
    assert pool.started[1].given == [b"4"]


async def test_instances_that_wear_out_together_are_all_replaced() -> None:
    pool = await warmed(Pool(version_of(recycle=1), slots=2), 2)
    worn = list(pool.started)
    for _ in range(2):
        pool.submit()
    for instance in worn:
        instance.replies()
    await pool.settle()
    for _ in range(2):  # the one that could not be replaced at once is, after its next call
        pool.submit()
    for instance in pool.started:
        if instance.calls:
            instance.replies()
    await pool.settle()
    assert all(instance.is_stopped for instance in worn)


# --- calls within calls ----------------------------------------------------------------------


async def test_a_call_that_waits_for_another_lends_its_slot() -> None:
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=1)
    await warmed(await warmed(pool, 1, "a.f"), 1, "b.f")
    outer = pool.submit("a.f")
    inner = pool.submit("b.f", depth=1)
    assert pool.running == {0: b"1"}
    pool.started[0].begin_wait()
    assert pool.running == {0: b"1", 1: b"2"}
    pool.started[1].replies()
    pool.started[0].end_wait()
    pool.started[0].replies()
    assert pool.outcomes == {inner: Outcome.OK, outer: Outcome.OK}
    assert pool.lane.slots.busy == 0


async def test_an_instance_has_one_slot_to_lend_however_many_of_its_calls_wait() -> None:
    pool = await warmed(Pool(version_of(is_async=True), slots=1))
    for _ in range(3):
        pool.submit()
        pool.started[0].begin_wait()
    assert pool.lane.slots.busy == 0
    for _ in range(3):
        pool.started[0].end_wait()
    assert pool.lane.slots.busy == 1


async def test_an_instance_that_dies_while_its_slot_is_lent_leaves_the_count_right() -> None:
    pool = await warmed(Pool(slots=1))
    pool.submit()
    pool.started[0].begin_wait()
    pool.started[0].dies()
    assert pool.lane.slots.busy == 0, "a slot that was free already is not freed again"
    pool.started[0].end_wait()
    assert pool.lane.slots.busy == 0


async def test_what_waits_after_its_call_has_ended_has_no_slot_to_lend() -> None:
    pool = await warmed(Pool(slots=1))
    pool.submit()
    pool.started[0].begin_wait()  # by a thread that the function leaves behind
    pool.started[0].replies()
    assert pool.lane.slots.busy == 0
    pool.started[0].end_wait()
    assert pool.lane.slots.busy == 0
    pool.started[0].begin_wait()
    assert pool.lane.slots.busy == 0


async def test_a_function_that_calls_itself_gets_an_instance_above_its_most() -> None:
    pool = await warmed(Pool(version_of(max_instances=1), slots=2))
    outer = pool.submit()
    pool.started[0].begin_wait()
    inner = pool.submit(depth=1)
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    pool.started[1].replies()
    pool.started[0].end_wait()
    pool.started[0].replies()
    assert pool.outcomes == {inner: Outcome.OK, outer: Outcome.OK}
    both = [pool.submit() for _ in range(2)]
    assert len(pool.running) == 1, "beyond nested calls the most holds"
    assert both[1] not in pool.outcomes


# --- batches ---------------------------------------------------------------------------------


async def test_calls_that_wait_go_together_up_to_the_size_of_a_batch() -> None:
    pool = await warmed(Pool(version_of(batch=3), slots=1))
    ids = [pool.submit() for _ in range(6)]
    (instance,) = pool.started
    instance.replies()
    assert (instance.given, instance.batches) == ([b"1"], [[b"2", b"3", b"4"]])
    for _ in range(3):
        instance.replies()
    assert instance.batches[1:] == [[b"5", b"6"]]
    for _ in range(2):
        instance.replies()
    assert pool.outcomes == dict.fromkeys(ids, Outcome.OK)
    assert pool.lane.slots.busy == 0


async def test_an_instance_is_free_again_only_when_its_whole_batch_is_answered() -> None:
    pool = await warmed(Pool(version_of(batch=2), slots=1))
    for _ in range(4):
        pool.submit()
    (instance,) = pool.started
    instance.replies()
    instance.replies()
    assert pool.lane.slots.busy == 1
    assert len(instance.batches) == 1


async def test_the_death_of_a_batch_is_told_to_all_of_it() -> None:
    pool = await warmed(Pool(version_of(batch=3), slots=1))
    first, *together, last = [pool.submit() for _ in range(5)]
    pool.started[0].replies()
    pool.started[0].dies()
    assert pool.outcomes == {first: Outcome.OK} | dict.fromkeys(together, Outcome.DIED)
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    pool.started[1].replies()
    assert pool.outcomes[last] is Outcome.OK
    assert pool.lane.slots.busy == 0


async def test_who_has_left_is_not_part_of_a_batch() -> None:
    pool = await warmed(Pool(version_of(batch=3), slots=1))
    pool.submit()
    pool._ids = 2
    left = pool.call()
    assert left is not None
    for _ in range(2):
        pool.submit()
    pool.lane.cancel(left)
    pool.started[0].replies()
    assert pool.started[0].batches == [[b"3", b"4"]]


async def test_a_batch_is_bounded_in_bytes_too() -> None:
    limits = DirectLimits(batch_bytes=2 * len(call_of(body=b"2")))
    pool = await warmed(Pool(version_of(batch=9), slots=1, limits=limits))
    for _ in range(4):
        pool.submit()
    pool.started[0].replies()
    assert pool.started[0].batches == [[b"2", b"3"]]


async def test_a_batch_that_may_wait_goes_when_it_is_full() -> None:
    pool = await warmed(Pool(version_of(batch=2, batch_wait_s=1000.0)))
    pool.submit()
    assert pool.running == {}
    pool.submit()
    assert pool.started[0].batches == [[b"1", b"2"]]


async def test_a_batch_that_may_wait_goes_when_its_time_is_over() -> None:
    pool = await warmed(Pool(version_of(batch=8, batch_wait_s=0.001)))
    pool.submit()
    pool.sent.clear()
    await asyncio.wait_for(pool.sent.wait(), 5)
    assert pool.started[0].given == [b"1"]


async def test_the_sizes_of_batches_are_counted() -> None:
    pool = await warmed(Pool(version_of(batch=8)))
    pool.submit()
    pool.started[0].says(FrameKind.SIZE, 5)
    assert pool.metrics.snapshot(queued=0, instances=()).batch_size["f.f"].sum == 5.0


# --- what is told ----------------------------------------------------------------------------


async def test_every_call_is_counted_once_by_how_it_ended() -> None:
    pool = await warmed(Pool(slots=1, queue=1))
    for _ in range(3):
        pool.submit()
    pool.started[0].replies()
    pool.started[0].dies()
    assert counted(pool.metrics) == {"ok": 1, "busy": 1, "died": 1}


async def test_what_a_function_did_wrong_is_logged_and_what_a_caller_did_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = await warmed(Pool())
    with caplog.at_level(logging.INFO, "skipper"):
        for outcome in (Outcome.FAILED, Outcome.INVALID):
            pool.submit()
            pool.started[0].says(
                FrameKind.REPLY,
                next(iter(pool.started[0].calls)),
                problem(outcome, outcome.name),
            )
    assert [record.message for record in caplog.records] == ["f.f: FAILED"]


async def test_closing_waits_for_what_runs() -> None:
    pool = await warmed(Pool(slots=1))
    ids = [pool.submit() for _ in range(2)]
    closing = asyncio.create_task(pool.lane.close(60))
    await pool.settle()
    assert not closing.done()
    for _ in ids:
        pool.started[0].replies()
    await asyncio.wait_for(closing, 5)
    assert pool.outcomes == dict.fromkeys(ids, Outcome.OK)


async def test_closing_waits_no_longer_than_it_may() -> None:
    pool = await warmed(Pool())
    pool.submit()
    await asyncio.wait_for(pool.lane.close(0.0), 5)
    assert pool.lane.slots.busy == 1


# --- calls that lie ready --------------------------------------------------------------------


def quick(pool: Pool, longest_s: float = 0.002) -> Pool:
    """The pool, whose functions have not taken longer than this lately."""
    for queue in pool.lane.versions.assigned.values():
        queue.longest_s = longest_s
    return pool


async def test_a_busy_instance_of_a_quick_function_has_its_next_calls_at_hand() -> None:
    pool = quick(await warmed(Pool(slots=1)), longest_s=0.004)
    ids = [pool.submit() for _ in range(5)]
    assert pool.started[0].given == [b"1", b"2", b"3"]
    assert (pool.lane.slots.busy, pool.lane.queued) == (1, 2)
    for _ in ids:
        pool.started[0].replies()
    assert pool.started[0].given == [b"1", b"2", b"3", b"4", b"5"]
    assert list(pool.outcomes) == ids
    assert pool.lane.slots.busy == pool.lane.queued == 0


async def test_a_free_instance_comes_first_and_then_the_one_with_the_fewest_calls() -> None:
    pool = quick(await warmed(Pool(slots=2), 2))
    for _ in range(4):
        pool.submit()
    assert sorted(len(instance.given) for instance in pool.started) == [2, 2]


@pytest.mark.parametrize(
    "options",
    [{"is_async": True}, {"batch": 4}, {"streams": True}],
    ids=["async", "batch", "stream"],
)
def test_only_calls_that_run_in_turn_and_end_at_once_lie_ready(options: dict[str, Any]) -> None:
    queue = EditionQueue(Edition(version_of(**options)))
    queue.longest_s = 0.0001
    assert queue.ahead == 0


def test_whether_a_function_is_quick_is_learned_and_forgotten_again() -> None:
    queue = EditionQueue(Edition(version_of()))
    assert queue.ahead == 0, "until it is known"
    for _ in range(200):
        queue.ran(0.0005)
    assert queue.ahead == AHEAD
    queue.ran(0.004)
    assert queue.ahead == 2
    queue.ran(1.0)
    assert queue.ahead == 0
    for _ in range(50):
        queue.ran(0.0005)
    assert queue.ahead == 0, "a long one may come again"


async def test_a_call_within_a_call_never_lies_ready() -> None:
    """Its caller may be the one that runs there."""
    pool = quick(await warmed(Pool(slots=1)))
    pool.submit()
    pool.submit(depth=1)
    assert pool.started[0].given == [b"1"]


async def test_a_large_call_never_lies_ready() -> None:
    """Where it waits instead its bytes are counted."""
    pool = quick(await warmed(Pool(slots=1)))
    pool.submit()
    pool.sized("f.f", b"x" * (AHEAD_BYTES + 1))
    assert pool.started[0].given == [b"1"]
    assert pool.lane.queued == 1
    pool.started[0].replies()
    assert len(pool.started[0].given) == 2


async def test_nothing_lies_ready_behind_a_call_that_waits_for_another() -> None:
    pool = quick(await warmed(Pool(slots=1)))
    pool.submit()
    pool.started[0].begin_wait()
    pool.submit()
    assert pool.started[0].given == [b"1"]


async def test_an_instance_that_always_has_calls_leaves_its_slot_to_others() -> None:
    pool = Pool(version_of("a.f"), version_of("b.f"), slots=1)
    quick(await warmed(await warmed(pool, 1, "a.f"), 1, "b.f"))
    for name in ("a.f", "a.f", "b.f", "a.f", "a.f"):
        pool.submit(name)
    first, second = pool.started
    assert (first.given, second.given) == ([b"1", b"2"], [])
    first.replies()
    first.replies()
    assert (first.given, second.given) == ([b"1", b"2"], [b"3"])


async def test_what_lay_ready_where_an_instance_died_is_run_by_another() -> None:
    pool = quick(await warmed(Pool(slots=1)))
    ids = [pool.submit() for _ in range(3)]
    pool.started[0].dies()
    assert pool.outcomes == {ids[0]: Outcome.DIED}
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    assert pool.started[1].given == [b"2", b"3"]
    for _ in range(2):
        pool.started[1].replies()
    assert pool.outcomes == dict(zip(ids, (Outcome.DIED, Outcome.OK, Outcome.OK), strict=True))
    assert pool.lane.slots.busy == pool.lane.queued == 0


async def test_a_caller_who_left_does_not_wait_again() -> None:
    pool = quick(await warmed(Pool(slots=1)))
    pool.submit()
    pool._ids += 1
    left = pool.call()
    assert left is not None
    pool.lane.cancel(left)
    pool.started[0].dies()
    assert pool.lane.queued == 0


async def test_what_lay_ready_of_a_function_that_was_removed_is_not_found() -> None:
    pool = quick(await warmed(Pool(slots=1)))
    ids = [pool.submit() for _ in range(2)]
    pool.lane.retire(pool.version)
    pool.started[0].dies()
    assert pool.outcomes == {ids[0]: Outcome.DIED, ids[1]: Outcome.NOT_FOUND}


async def test_what_lay_ready_in_an_old_version_that_dies_is_run_by_the_new_one() -> None:
    pool = quick(await warmed(Pool(slots=2)))
    ids = [pool.submit() for _ in range(2)]
    assert pool.started[0].given == [b"1", b"2"]
    new = version_of(code="beef")
    assert await pool.lane.warm(new) is None
    old = pool.version
    pool.lane.assign(new)
    pool.lane.retire(old)
    pool.started[0].dies()
    assert pool.started[1].given == [b"2"]
    pool.started[1].replies()
    assert pool.outcomes == {ids[0]: Outcome.DIED, ids[1]: Outcome.OK}
    assert not pool.started[1].is_stopped


async def test_a_call_whose_time_is_over_takes_only_itself_with_its_process() -> None:
    pool = quick(await warmed(Pool(slots=1)))
    late, other = pool.submit(budget_ms=1000), pool.submit(budget_ms=60_000)
    pool.later(1.5)
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    assert pool.caller.answers[0].value.startswith("the deadline passed while it ran")
    assert pool.started[0].signals == [signal.SIGTERM]
    pool.started[0].dies()
    pool.later(fleet.PATIENCE_S * 2)
    await pool.settle()
    pool.started[1].replies()
    assert pool.outcomes[other] is Outcome.OK


async def test_the_end_of_a_call_that_lies_ready_ends_no_process() -> None:
    pool = quick(await warmed(Pool(slots=1)))
    pool.submit(budget_ms=60_000)
    late = pool.submit(budget_ms=1000)
    pool.later(1.5)
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    assert "while it waited" in pool.caller.answers[0].value
    assert not pool.started[0].is_stopped
    assert pool.started[0].cancelled == [2]
