import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.ledger.records import Beat
from skipper.scheduler.scheduler import BLIND_S, LOST_S, Pulse


class Watch:
    """A pulse on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pulse = Pulse(lambda: self.now)

    def looks(self, **counters: int) -> list[str]:
        return self.pulse.lost(Beat(id_, "cpu", counter) for id_, counter in counters.items())

    def looks_for(self, seconds: float, **counters: int) -> list[str]:
        """Look once a second for so long; what was lost at the last look."""
        lost: list[str] = []
        for _ in range(int(seconds)):
            self.now += 1.0
            lost = self.looks(**counters)
        return lost


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_host_is_lost_when_its_counter_has_stood_still_for_too_long(watch: Watch) -> None:
    watch.looks(a=7)
    assert watch.looks_for(LOST_S, a=7) == []
    assert watch.looks_for(1, a=7) == ["a"]


def test_a_host_that_beats_is_never_lost(watch: Watch) -> None:
    for counter in range(100):
        assert watch.looks_for(5, a=counter) == []


def test_any_change_of_the_counter_is_a_sign_of_life(watch: Watch) -> None:
    """Even a smaller one: the host has registered again."""
    watch.looks(a=7)
    watch.looks_for(LOST_S, a=7)
    assert watch.looks_for(LOST_S, a=3) == []


def test_each_host_is_judged_by_itself(watch: Watch) -> None:
    watch.looks(a=1, b=1)
    for counter in range(20):
        lost = watch.looks_for(1, a=1, b=counter)
    assert lost == ["a"]


def test_a_host_that_appears_is_given_the_whole_time(watch: Watch) -> None:
    watch.looks(a=1)
    watch.looks_for(8, a=1)
    assert watch.looks_for(LOST_S, b=1) == []
    assert watch.looks_for(2, b=1) == ["b"]


def test_a_host_that_went_and_came_back_is_given_the_whole_time(watch: Watch) -> None:
    watch.looks(a=1)
    watch.looks_for(8)
    assert watch.looks_for(LOST_S, a=1) == []


def test_a_new_scheduler_gives_everybody_the_whole_time() -> None:
    assert Watch().looks(a=1, b=99) == []


def test_time_in_which_nobody_looked_does_not_count(watch: Watch) -> None:
    """After the ledger was away, hosts have not been able to beat either."""
    watch.looks(a=1)
    watch.looks_for(8, a=1)
    watch.now += 60.0
    assert watch.looks(a=1) == []
    assert watch.looks_for(LOST_S, a=1) == []
    assert watch.looks_for(1, a=1) == ["a"]


def test_slow_rounds_still_find_a_lost_host(watch: Watch) -> None:
    found: list[str] = watch.looks(a=1)
    for _ in range(4):
        watch.now += BLIND_S
        found = watch.looks(a=1)
    assert found == ["a"]


@given(st.lists(st.tuples(st.floats(0.1, 30.0), st.booleans()), max_size=30))
def test_nobody_is_lost_who_has_beaten_within_the_time(looks: list[tuple[float, bool]]) -> None:
    watch, counter, last = Watch(), itertools.count(), Watch().now
    current = next(counter)
    watch.looks(a=current)
    for pause, beats in looks:
        watch.now += pause
        if beats:
            current, last = next(counter), watch.now
        if watch.looks(a=current):
            assert watch.now - last > LOST_S
