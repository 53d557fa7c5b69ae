"""Slots and what is claimed ahead of them, on a clock that the tests turn."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from skipper.ledger.records import Claim
from skipper.pool.durable.attempt import RunningAttempt
from skipper.pool.durable.slots import AHEAD, AHEAD_S, PATIENCE_S, Slots


def attempt() -> RunningAttempt:
    return RunningAttempt(claim=cast(Claim, None), reply=cast("asyncio.Future[bytes]", None))


def paced(number: int, taken_s: float, now: float) -> Slots:
    """Slots of which one has just been left after ``taken_s``."""
    slots = Slots(number)
    slots.wait(attempt(), now - taken_s)
    assert slots.next() is not None
    slots.leave(taken_s, now)
    return slots


def test_no_more_is_claimed_than_there_are_slots_while_their_pace_is_unknown() -> None:
    slots = Slots(2)
    assert slots.wanted(0.0) == 2
    slots.wait(attempt(), 0.0)
    assert slots.wanted(0.0) == 1
    slots.wait(attempt(), 0.0)
    assert (slots.wanted(0.0), slots.free) == (0, 0)


def test_attempts_get_slots_in_order_and_no_more_than_there_are() -> None:
    slots, given = Slots(2), [attempt() for _ in range(3)]
    for each in given:
        slots.wait(each, 0.0)
    assert [slots.next(), slots.next(), slots.next()] == [given[0], given[1], None]
    slots.leave(1.0, 1.0)
    assert slots.next() is given[2]


@pytest.mark.parametrize(
    ("taken_s", "ahead"), [(0.0001, AHEAD), (0.002, AHEAD), (0.006, 6), (0.015, 2), (0.05, 0)]
)
def test_the_quicker_tasks_are_the_more_is_claimed_ahead(taken_s: float, ahead: int) -> None:
    assert paced(2, taken_s, now=1.0).wanted(1.0) == 2 + ahead


def test_one_slow_task_slows_the_pace_and_quick_ones_mend_it() -> None:
    slots = paced(1, 0.001, now=1.0)
    for now, taken_s, expected in ((2.0, 1.0, 1), (2.1, 0.001, 1)):
        slots.wait(attempt(), now)
        slots.next()
        slots.leave(taken_s, now)
        assert slots.wanted(now) == expected
    for step in range(30):
        slots.wait(attempt(), 3.0 + step / 1000)
        slots.next()
        slots.leave(0.001, 3.0 + step / 1000)
    assert slots.wanted(3.03) > 1


def test_nothing_is_claimed_ahead_of_slots_that_stand_still() -> None:
    slots = paced(1, 0.001, now=1.0)
    slots.wait(attempt(), 1.0)
    slots.next()
    assert slots.wanted(1.0 + AHEAD_S / 2) == AHEAD
    assert slots.wanted(1.0 + AHEAD_S * 2) == 0


def test_what_waits_too_long_for_a_slot_is_given_up() -> None:
    slots, old, young = Slots(1), attempt(), attempt()
    slots.wait(attempt(), 0.0)
    slots.next()
    slots.wait(old, 0.0)
    slots.wait(young, PATIENCE_S)
    assert slots.overdue(PATIENCE_S - 0.01) == []
    assert slots.overdue(PATIENCE_S) == [old]
    slots.leave(1.0, 1.0)
    assert slots.next() is young


def test_what_is_withdrawn_waits_no_more() -> None:
    slots, one, other = Slots(0), attempt(), attempt()
    slots.wait(one, 0.0)
    assert slots.withdraw(one)
    assert not slots.withdraw(one)
    assert not slots.withdraw(other)


def test_a_lent_slot_may_be_used_and_is_owed_afterwards() -> None:
    slots = Slots(1)
    slots.wait(attempt(), 0.0)
    slots.next()
    slots.lend()
    assert slots.wanted(0.0) == 1
    slots.wait(attempt(), 0.0)
    assert slots.next() is not None
    slots.take_back()
    assert slots.wanted(0.0) == -1
