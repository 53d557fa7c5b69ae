"""What is done with a schedule at a moment, as tables."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.cron import Missed, Overlap, Timetable, next_tick
from skipper.scheduler.ticks import MOST_MISSED, mended, plan

NIGHTLY, HOURLY, MINUTELY = "0 3 * * *", "0 * * * *", "* * * * *"
VILNIUS = "Europe/Vilnius"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(moment: float | None) -> str | None:
    if moment is None:
        return None
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"


def table(cron: str, missed: str = "once", timezone: str = "UTC") -> Timetable:
    return Timetable(cron=cron, timezone=timezone, missed=Missed(missed), overlap=Overlap.ALLOW)


@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize(
    ("due_at", "now", "ticks", "next_at"),
    [
        (None, "2026-11-25 02:00", [], "2026-11-25 03:00"),
        (None, "2026-11-25 03:00", [], "2026-11-26 03:00"),  # what is new has missed nothing
        ("2026-11-25 03:00", "2026-11-25 02:59:59", [], "2026-11-25 03:00"),
        ("2026-11-25 03:00", "2026-11-25 03:00", ["2026-11-25 03:00"], "2026-11-26 03:00"),
        ("2026-11-25 03:00", "2026-11-25 03:00:00.9", ["2026-11-25 03:00"], "2026-11-26 03:00"),
        ("2026-11-25 03:00", "2026-11-25 03:00:59", ["2026-11-25 03:00"], "2026-11-26 03:00"),
    ],
)
def test_a_tick_that_has_just_come_is_run_once_by_every_policy(
    missed: Missed, due_at: str | None, now: str, ticks: list[str], next_at: str
) -> None:
    found = plan(table(NIGHTLY, missed), None if due_at is None else at(due_at), at(now))
    assert [shown(tick) for tick in found.ticks] == ticks
    assert shown(found.next_at) == next_at


@pytest.mark.parametrize(
    ("missed", "cron", "due_at", "now", "ticks"),
    [
        ("once", NIGHTLY, "2026-11-22 03:00", "2026-11-25 09:00", ["2026-11-25 03:00"]),
        ("skip", NIGHTLY, "2026-11-22 03:00", "2026-11-25 09:00", []),
        ("skip", NIGHTLY, "2026-11-22 03:00", "2026-11-25 03:00:30", ["2026-11-25 03:00"]),
        ("skip", MINUTELY, "2026-11-25 08:00", "2026-11-25 09:00:30", ["2026-11-25 09:00"]),
        (
            "all",
            NIGHTLY,
            "2026-11-23 03:00",
            "2026-11-25 09:00",
            ["2026-11-23 03:00", "2026-11-24 03:00", "2026-11-25 03:00"],
        ),
        ("once", "0 0 29 2 *", "2024-02-29 00:00", "2026-11-25 09:00", ["2024-02-29 00:00"]),
        (
            "all",
            "0 0 31 * *",
            "2026-07-31 00:00",
            "2026-11-25 09:00",
            ["2026-07-31 00:00", "2026-08-31 00:00", "2026-10-31 00:00"],
        ),
    ],
)
def test_missed_ticks_are_run_by_policy(
    missed: str, cron: str, due_at: str, now: str, ticks: list[str]
) -> None:
    found = plan(table(cron, missed), at(due_at), at(now))
    assert [shown(tick) for tick in found.ticks] == ticks
    assert found.next_at == next_tick(cron, "UTC", at(now))


@pytest.mark.parametrize(
    ("now", "ticks"),
    [
        # 03:30 is left out on 29 March: it is run at 04:00, which is 01:00 in UTC
        ("2026-03-29 00:59", ["2026-03-28 01:30"]),
        ("2026-03-29 01:00", ["2026-03-28 01:30", "2026-03-29 01:00"]),
        ("2026-03-30 00:30", ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]),
    ],
)
def test_missed_ticks_follow_the_clocks_of_their_zone(now: str, ticks: list[str]) -> None:
    found = plan(table("30 3 * * *", "all", VILNIUS), at("2026-03-28 01:30"), at(now))
    assert [shown(tick) for tick in found.ticks] == ticks


def test_the_hour_that_comes_twice_in_autumn_is_run_once() -> None:
    due_at = at("2026-10-25 00:30")
    during = plan(table("30 3 * * *", "all", VILNIUS), due_at, due_at)
    assert [shown(tick) for tick in during.ticks] == ["2026-10-25 00:30"]
    assert shown(during.next_at) == "2026-10-26 01:30"


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=366), timedelta(days=36525)])
@pytest.mark.parametrize(
    ("missed", "most"), [("once", 1), ("skip", 1), ("all", MOST_MISSED)], ids=str
)
@pytest.mark.parametrize("cron", [MINUTELY, HOURLY, NIGHTLY, "0 0 29 2 *"])
def test_a_clock_that_jumps_ahead_makes_no_storm(
    cron: str, missed: str, most: int, jump: timedelta
) -> None:
    due_at = next_tick(cron, "UTC", at("2026-11-25"))
    assert due_at is not None
    now = due_at + jump.total_seconds() + 0.5
    found = plan(table(cron, missed), due_at, now)
    assert len(found.ticks) <= most
    assert all(due_at <= tick <= now for tick in found.ticks)
    assert found.next_at is not None
    assert found.next_at > now


def test_of_too_many_missed_ticks_the_latest_are_run() -> None:
    found = plan(table(MINUTELY, "all"), at("2025-11-25"), at("2026-11-25 10:00"))
    assert len(found.ticks) == MOST_MISSED
    assert shown(found.ticks[-1]) == "2026-11-25 10:00"
    assert shown(found.ticks[0]) == "2026-11-25 08:21"


@given(st.sampled_from(Missed), st.integers(0, 400_000), st.integers(0, 400_000))
def test_looking_often_or_seldom_runs_the_last_tick_once(
    missed: Missed, late_s: int, later_s: int
) -> None:
    """Whatever was run at the first look is not run again at the second."""
    rule = table("*/17 */5 * * *", missed)
    due_at = next_tick(rule.cron, "UTC", at("2026-11-25"))
    assert due_at is not None
    one = plan(rule, due_at, due_at + late_s)
    assert one.next_at is not None
    two = plan(rule, one.next_at, due_at + late_s + later_s)
    assert not set(one.ticks) & set(two.ticks)
    assert [*one.ticks, *two.ticks] == sorted([*one.ticks, *two.ticks])


@pytest.mark.parametrize(
    ("cron", "due_at", "now", "mend"),
    [
        (NIGHTLY, "2026-11-26 03:00", "2026-11-25 09:00", None),
        (NIGHTLY, "2027-11-26 03:00", "2026-11-25 09:00", "2026-11-26 03:00"),
        (HOURLY, "2026-11-25 11:00", "2026-11-25 09:30", "2026-11-25 10:00"),
        # another scheduler's clock is a little ahead, and it has run the tick
        (MINUTELY, "2026-11-25 09:31", "2026-11-25 09:29:58", None),
        (NIGHTLY, "2026-11-26 03:00", "2026-11-25 02:59:58", None),
        # one that is due is not put off
        (NIGHTLY, "2026-11-25 03:00", "2026-11-25 09:00", None),
        ("0 0 29 2 *", "2028-02-29", "2026-11-25 09:00", None),
    ],
)
def test_what_a_wrong_clock_has_put_off_is_brought_near(
    cron: str, due_at: str, now: str, mend: str | None
) -> None:
    assert shown(mended(table(cron), at(due_at), at(now))) == mend


def test_a_zone_that_is_not_known_here_is_told_of() -> None:
    with pytest.raises(ValueError, match="no such time zone"):
        plan(table(NIGHTLY, timezone="Mars/Olympus"), None, 0.0)


# --- a run that takes longer than the time to the next -----------------------------------------


@pytest.mark.parametrize(
    ("overlap", "missed", "ticks", "next_at"),
    [
        (Overlap.ALLOW, "all", ["2026-11-23 03:00", "2026-11-24 03:00"], "2026-11-25 03:00"),
        (Overlap.QUEUE, "all", ["2026-11-23 03:00"], "2026-11-24 03:00"),
        (Overlap.SKIP, "all", ["2026-11-24 03:00"], "2026-11-25 03:00"),
        (Overlap.CANCEL, "all", ["2026-11-24 03:00"], "2026-11-25 03:00"),
        (Overlap.QUEUE, "once", ["2026-11-24 03:00"], "2026-11-25 03:00"),
        (Overlap.QUEUE, "skip", [], "2026-11-25 03:00"),
    ],
)
def test_ticks_that_come_together_run_beside_each_other_only_where_they_may(
    overlap: Overlap, missed: str, ticks: list[str], next_at: str
) -> None:
    bounded = table(NIGHTLY, missed).model_copy(update={"overlap": overlap})
    found = plan(bounded, at("2026-11-23 03:00"), at("2026-11-24 09:00"))
    assert [shown(tick) for tick in found.ticks] == ticks
    assert shown(found.next_at) == next_at
