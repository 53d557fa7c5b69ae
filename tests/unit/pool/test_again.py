"""When files that did not load are read again."""

import pytest

from skipper.pool.again import ASKED_S, STALE_S, Again


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def again(clock: Clock) -> Again:
    again = Again(clock)
    again.tried("a", 3)
    return again


def test_what_nobody_wants_is_never_read_again(again: Again, clock: Clock) -> None:
    clock.now += 1e6
    assert not again.is_due("a", 3)


@pytest.mark.parametrize(("since_s", "is_due"), [(ASKED_S / 2, False), (ASKED_S, True)])
def test_a_refused_caller_has_it_read_again_soon_but_not_all_the_time(
    again: Again, clock: Clock, since_s: float, is_due: bool
) -> None:
    again.want("a")
    clock.now += since_s
    assert again.is_due("a", 3) is is_due


@pytest.mark.parametrize(("since_s", "is_due"), [(ASKED_S, False), (STALE_S, True)])
def test_calls_that_an_old_version_answers_have_it_read_again_too(
    again: Again, clock: Clock, since_s: float, is_due: bool
) -> None:
    clock.now += since_s
    assert again.is_due("a", 4) is is_due


def test_a_try_answers_those_who_wanted_it(again: Again, clock: Clock) -> None:
    again.want("a")
    again.tried("a", 4)
    clock.now += STALE_S
    assert not again.is_due("a", 4)


def test_what_loads_is_forgotten(again: Again, clock: Clock) -> None:
    again.want("a")
    again.loaded("a")
    assert not again.is_due("a", 0)
    assert again.is_due("a", 1), "as one that has never been tried"


def test_both_come_within_ten_seconds_of_a_call() -> None:
    assert max(ASKED_S, STALE_S) + 1 < 10
