"""Calls that an instance does not come to go to another.

kserve/kserve#3950: one blocked loop took 15 others to their deadline. ray-project/ray#61263: a
caller one by one got 15 of 15 failures, with slots free.
"""

import logging
import signal
from typing import Any

import pytest

from skipper.outcomes import Outcome
from skipper.pool.direct.lane import CANCEL_GRACE_S, OWED_S
from skipper.pool.direct.recalls import RECALL_S
from skipper.pool.processes.process import InstanceState
from skipper.wire.frames import FrameKind
from tests.unit.pool.direct.test_lane import Pool, warmed
from tests.unit.pool.played import Played, body_of, version_of


def recalled(instance: Played[Any]) -> list[int]:
    """The ids that it was asked to give back."""
    return [frame.id for frame in instance.transport.frames if frame.kind == FrameKind.RECALL]


async def beside(calls: int, **settings: Any) -> Pool:
    """A pool with one instance of an ``async def``, which has so many calls."""
    pool = await warmed(Pool(version_of(is_async=True), **settings))
    for _ in range(calls):
        pool.submit()
    return pool


async def in_turn(calls: int) -> Pool:
    """A pool with one instance of a quick plain function: one call runs, the others lie ready."""
    pool = await warmed(Pool())
    pool.queue.longest_s = 0.001
    for _ in range(2):
        pool.lane.slots.take()  # so that no second instance is free for them
    pool.lane.slots.leave()
    for _ in range(calls):
        pool.submit()
    assert len(pool.started[0].given) == calls
    return pool


@pytest.mark.parametrize("make", [beside, in_turn])
async def test_what_has_not_begun_within_a_second_goes_to_another_in_its_order(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pool = await make(3)
    (held,) = pool.started
    pool.later(RECALL_S / 2)
    assert recalled(held) == []
    pool.later(RECALL_S + 0.1)
    asked = recalled(held)
    assert asked in ([3, 2, 1], [3, 2])
    with caplog.at_level(logging.WARNING):
        for id_ in (3, 2):
            held.says(FrameKind.RECALL, id_, b"spin, functions/f.py:7")
    (line,) = [each.getMessage() for each in caplog.records if "spin" in each.getMessage()]
    assert "functions/f.py:7" in line
    if make is in_turn:
        pool.lane.slots.leave()
    pool.later(RECALL_S + 0.2)
    await pool.settle()
    other = pool.started[1]
    assert other.given[0] == b"2"
    for _ in range(2):
        other.replies("fine")
    held.replies("late")
    assert set(pool.outcomes.values()) == {Outcome.OK}
    assert len(pool.outcomes) == 3
    assert other.given == [b"2", b"3"]


async def test_a_call_with_little_time_is_asked_back_while_it_still_has_half() -> None:
    pool = await beside(0)
    pool.submit(budget_ms=400)
    pool.later(0.1)
    assert recalled(pool.started[0]) == []
    pool.later(0.25)
    assert recalled(pool.started[0]) == [1]


async def test_an_async_call_is_asked_for_once_and_a_plain_one_again() -> None:
    """The thread that reads beside a loop always hears; a signal may come where nobody can."""
    both = await beside(2), await in_turn(2)
    for pool in both:
        for after in (1.1, 1.2, 2.3):
            pool.later(after)
    beside_, turn = (pool.started[0] for pool in both)
    assert recalled(beside_) == [2, 1]
    assert recalled(turn) == [2, 2]
    assert turn.signals == [signal.SIGURG] * 2
    assert beside_.signals == []


async def test_the_calls_of_a_batch_run_together_and_stay() -> None:
    pool = Pool(version_of(batch=4), slots=1)
    for _ in range(3):
        pool.submit()
    await pool.settle()
    pool.later(5)
    assert recalled(pool.started[0]) == []


async def test_an_instance_that_is_held_is_sent_no_more_until_it_goes_on() -> None:
    pool = await beside(2)
    (held,) = pool.started
    pool.later(1.1)
    held.says(FrameKind.RECALL, 2)
    assert held.state is InstanceState.HELD
    pool.submit()
    assert held.given == [b"1", b"2"]
    held.says(FrameKind.RECALL, 0)
    assert held.given[:2] == [b"1", b"2"]
    assert sorted(held.given[2:]) == [b"2", b"3"]


async def test_a_call_that_nobody_waits_for_is_run_by_no_other() -> None:
    pool = await beside(1)
    pool._ids += 1
    left = pool.call()
    assert left is not None
    pool.later(1.1)
    pool.lane.cancel(left)
    pool.started[0].says(FrameKind.RECALL, 2)
    assert pool.lane.queued == 0


async def test_a_call_that_is_given_back_twice_or_is_not_known_runs_once() -> None:
    pool = await beside(2)
    (held,) = pool.started
    pool.later(1.1)
    for id_ in (2, 2, 77):
        held.says(FrameKind.RECALL, id_)
    assert pool.lane.queued == 1


async def test_all_calls_given_back_free_the_slot() -> None:
    pool = await beside(1, slots=1)
    pool.later(1.1)
    pool.started[0].says(FrameKind.RECALL, 1)
    assert pool.lane.slots.busy == 0
    assert pool.lane.queued == 1


async def test_an_instance_that_is_held_by_what_is_no_call_is_ended() -> None:
    pool = await beside(1, slots=1)
    (held,) = pool.started
    pool.later(1.1)
    held.says(FrameKind.RECALL, 1)
    pool.later(CANCEL_GRACE_S - 0.5)
    assert not held.is_stopped
    pool.later(CANCEL_GRACE_S + 1)
    assert held.is_stopped
    held.dies()
    await pool.settle()
    pool.later(CANCEL_GRACE_S + 2)
    await pool.settle()
    assert pool.started[1].given == [b"1"]


async def test_one_that_owes_an_answer_past_its_deadline_gets_no_more_and_is_replaced() -> None:
    pool = await beside(0)
    (owing,) = pool.started
    late = pool.submit(budget_ms=2000)
    pool.submit(budget_ms=600_000)
    pool.later(2.1)
    assert pool.outcomes == {late: Outcome.TIMED_OUT}
    fresh = pool.submit()
    assert owing.given == [b"1", b"2"]
    pool.later(2 + OWED_S + 0.1)
    await pool.settle()
    pool.later(2 + OWED_S + 0.2)
    await pool.settle()
    assert pool.started[1].given == [str(fresh).encode()]
    owing.replies("late", 1)
    assert not owing.is_stopped
    owing.replies("fine", 2)
    assert owing.is_stopped
    assert pool.outcomes[2] is Outcome.OK


async def test_one_that_answers_soon_after_a_deadline_serves_on() -> None:
    pool = await beside(0)
    pool.submit(budget_ms=1000)
    pool.later(1.1)
    (instance,) = pool.started
    instance.replies("late")
    pool.submit()
    assert instance.given == [b"1", b"2"]
    assert len(pool.started) == 1


async def test_a_call_that_came_back_has_what_is_left_of_its_time() -> None:
    pool = await beside(2)
    (held,) = pool.started
    pool.later(1.1)
    held.says(FrameKind.RECALL, 2)
    held.says(FrameKind.RECALL, 0)
    assert body_of(held.transport.frames[-1].payload) == b"2"
    held.replies("one", 1)
    held.replies("two", 3)
    assert [answer.value for answer in pool.caller.answers] == ["one", "two"]
