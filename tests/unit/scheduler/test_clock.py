from hypothesis import given
from hypothesis import strategies as st

from skipper.scheduler.clock import DOUBT_S, JUMP_S, CautiousClock, elapsed

HOUR, DAY = 3600.0, 86400.0


class Times:
    """A wall clock and the time that really passes, both the test's."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0
        self.clock = CautiousClock(lambda: self.wall, lambda: self.steady)

    def passes(self, seconds: float, *, asked_every: float = 1.0) -> float:
        """Let time pass, and ask the clock all the while; what it says at the end."""
        for _ in range(int(seconds / asked_every)):
            self.wall += asked_every
            self.steady += asked_every
            said = self.clock.now()
        return said


def test_it_goes_with_the_wall_clock() -> None:
    times = Times()
    assert times.passes(100) == times.wall
    times.wall += JUMP_S / 2  # as when it is set right
    assert times.clock.now() == times.wall


def test_a_jump_ahead_is_believed_after_an_hour() -> None:
    times = Times()
    true = times.wall
    times.wall += DAY
    assert times.passes(DOUBT_S) == true + DOUBT_S
    assert times.passes(2) == times.wall


def test_a_jump_ahead_that_is_taken_back_was_never_there() -> None:
    times = Times()
    times.wall += DAY
    times.passes(HOUR / 2)
    times.wall -= DAY
    assert times.passes(2 * HOUR, asked_every=10) == times.wall
    times.wall += DAY
    assert times.passes(HOUR - 10) == times.wall - DAY, "the next one is doubted as long"


def test_a_jump_back_is_believed_at_once() -> None:
    times = Times()
    times.wall -= DAY
    assert times.clock.now() == times.wall
    assert times.passes(10) == times.wall


def test_time_in_which_nobody_asks_is_no_jump() -> None:
    times = Times()
    times.wall += DAY
    times.steady += DAY
    assert times.clock.now() == times.wall


@given(st.lists(st.tuples(st.floats(0, 2 * DAY), st.floats(-2 * DAY, 2 * DAY)), max_size=20))
def test_it_is_never_ahead_of_the_wall_clock_by_more_than_a_step(
    steps: list[tuple[float, float]],
) -> None:
    """So nothing is taken away before its time by the clock that everybody sees."""
    times = Times()
    for passed, jump in steps:
        times.steady += passed
        times.wall += passed + jump
        assert times.clock.now() <= times.wall


def test_real_time_passes() -> None:
    assert elapsed() <= elapsed()
