"""When what died is started again."""

from __future__ import annotations

import pytest

from skipper.launcher.restarts import BUDGET, FINAL_CODES, STEADY_S, History


def test_deaths_in_service_are_answered_at_once_then_with_pauses_up_to_a_second() -> None:
    history = History()
    pauses = []
    for _ in range(13):
        history.became_ready()
        pauses.append(round(history.died(served_s=0.1), 1))
    assert pauses == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0]


def test_a_long_service_forgives_earlier_deaths() -> None:
    history = History()
    for _ in range(5):
        history.died(served_s=0.1)
    assert history.died(served_s=STEADY_S) == 0.0


def test_starts_that_never_got_ready_use_up_the_budget() -> None:
    history = History()
    pauses = [history.failed(1) for _ in range(BUDGET)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, None]


def test_what_was_ready_once_is_started_again_for_ever() -> None:
    history = History()
    history.became_ready()
    pauses = [history.failed(1) for _ in range(100)]
    assert pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert set(pauses[5:]) == {2.0}
    assert history.failed(9) == 2.0


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_a_code_that_says_what_is_wrong_outside_ends_it_at_once(code: int) -> None:
    assert History().failed(code) is None


@pytest.mark.parametrize("code", [None, 0, 1, -9, 70])
def test_any_other_end_is_tried_again(code: int | None) -> None:
    assert History().failed(code) == 0.1


def test_readiness_starts_the_count_anew() -> None:
    history = History()
    for _ in range(BUDGET - 1):
        history.failed(1)
    history.became_ready()
    assert history.failed(1) == 0.1
