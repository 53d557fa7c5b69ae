"""Slots and what is claimed ahead of them, on a clock that the tests turn."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from skipper.ledger.records import Claim
from skipper.pool.durable.ahead import AHEAD, AHEAD_S, PATIENCE_S, ClaimedAhead
from skipper.pool.durable.attempt import RunningAttempt
from skipper.pool.slots import Slots


def attempt() -> RunningAttempt:
    return RunningAttempt(claim=cast(Claim, None), reply=cast("asyncio.Future[bytes]", None))


def paced(number: int, taken_s: float, now: float) -> ClaimedAhead:
    """Slots of which one has just been left after ``taken_s``."""
    ahead = ClaimedAhead(Slots(number))
    ahead.wait(attempt(), now - taken_s)
    assert ahead.next() is not None
    ahead.leave(taken_s, now)
    return ahead


def test_no_more_is_claimed_than_there_are_slots_while_their_pace_is_unknown() -> None:
    ahead = ClaimedAhead(Slots(2))
    assert ahead.wanted(0.0) == 2
    ahead.wait(attempt(), 0.0)
    assert ahead.wanted(0.0) == 1
    ahead.wait(attempt(), 0.0)
    assert (ahead.wanted(0.0), ahead.free) == (0, 0)


def test_attempts_get_slots_in_order_and_no_more_than_there_are() -> None:
    ahead, given = ClaimedAhead(Slots(2)), [attempt() for _ in range(3)]
    for each in given:
        ahead.wait(each, 0.0)
    assert [ahead.next(), ahead.next(), ahead.next()] == [given[0], given[1], None]
    ahead.leave(1.0, 1.0)
    assert ahead.next() is given[2]


@pytest.mark.parametrize(
    ("taken_s", "ahead"), [(0.0001, AHEAD), (0.002, AHEAD), (0.006, 6), (0.015, 2), (0.05, 0)]
)
def test_the_quicker_tasks_are_the_more_is_claimed_ahead(taken_s: float, ahead: int) -> None:
    assert paced(2, taken_s, now=1.0).wanted(1.0) == 2 + ahead


def test_one_slow_task_slows_the_pace_and_quick_ones_mend_it() -> None:
    ahead = paced(1, 0.001, now=1.0)
    for now, taken_s, expected in ((2.0, 1.0, 1), (2.1, 0.001, 1)):
        ahead.wait(attempt(), now)
        ahead.next()
        ahead.leave(taken_s, now)
        assert ahead.wanted(now) == expected
    for step in range(30):
        ahead.wait(attempt(), 3.0 + step / 1000)
        ahead.next()
        ahead.leave(0.001, 3.0 + step / 1000)
    assert ahead.wanted(3.03) > 1


def test_nothing_is_claimed_ahead_of_slots_that_stand_still() -> None:
    ahead = paced(1, 0.001, now=1.0)
    ahead.wait(attempt(), 1.0)
    ahead.next()
    assert ahead.wanted(1.0 + AHEAD_S / 2) == AHEAD
    assert ahead.wanted(1.0 + AHEAD_S * 2) == 0


def test_what_waits_too_long_for_a_slot_is_given_up() -> None:
    ahead, old, young = ClaimedAhead(Slots(1)), attempt(), attempt()
    ahead.wait(attempt(), 0.0)
    ahead.next()
    ahead.wait(old, 0.0)
    ahead.wait(young, PATIENCE_S)
    assert ahead.overdue(PATIENCE_S - 0.01) == []
    assert ahead.overdue(PATIENCE_S) == [old]
    ahead.leave(1.0, 1.0)
    assert ahead.next() is young


def test_what_is_withdrawn_waits_no_more() -> None:
    ahead, one, other = ClaimedAhead(Slots(0)), attempt(), attempt()
    ahead.wait(one, 0.0)
    assert ahead.withdraw(one)
    assert not ahead.withdraw(one)
    assert not ahead.withdraw(other)


def test_a_lent_slot_may_be_used_and_is_owed_afterwards() -> None:
    ahead = ClaimedAhead(Slots(1))
    ahead.wait(attempt(), 0.0)
    ahead.next()
    ahead.slots.lend()
    assert ahead.wanted(0.0) == 1
    ahead.wait(attempt(), 0.0)
    assert ahead.next() is not None
    ahead.slots.take_back()
    assert ahead.wanted(0.0) == -1
