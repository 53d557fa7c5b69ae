"""Cron expressions as moments: what is refused, and what changes of clocks, months and years do."""

from datetime import UTC, datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipper.cron import check_cron, check_timezone, next_tick, ticks

VILNIUS = "Europe/Vilnius"


def moment(text: str) -> float:
    """``2026-03-29 02:30`` in UTC, or with an offset of its own."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def first(number: int, cron: str, timezone: str, after: str) -> list[str]:
    """The first ticks, as the clocks of the zone show them, with their offsets."""
    found = islice(ticks(cron, timezone, moment(after)), number)
    return [
        f"{datetime.fromtimestamp(tick, ZoneInfo(timezone)):%Y-%m-%d %H:%M%z}"[:-2]
        for tick in found
    ]


# --- what is refused ---


@pytest.mark.parametrize(
    "cron", ["0 3 * * *", "*/15 9-17 * * MON-FRI", "0 0 L * *", "0 0 * 2 MON#5", "  5  4 * * 7 "]
)
def test_a_cron_expression_is_taken_as_it_is_written(cron: str) -> None:
    assert check_cron(cron) == cron


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("", "write five fields"),
        ("@daily", "write five fields"),
        ("*/5 * * * * *", "write five fields"),
        ("0 3 * *", "such as '0 3 * * *'"),
        ("60 * * * *", "the minute is wrong"),
        ("0 24 * * *", "the hour is wrong"),
        ("0 0 0 * *", "the day of month is wrong"),
        ("0 0 * 13 *", "the month is wrong"),
        ("0 0 * * 9", "the day of week is wrong"),
        ("*/0 * * * *", "the minute is wrong"),
        ("0 0 30 2 *", "the day of month is wrong"),
        ("* * */20 * 1L", "there is no such day"),
        (3, "write five fields"),
    ],
)
def test_what_never_comes_true_is_refused(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"write|wrong|no such") as caught:
        check_cron(cron)
    assert message in str(caught.value)


@given(st.lists(st.text("0123456789*/,-#LW MON", min_size=1, max_size=5), min_size=5, max_size=5))
def test_whatever_is_written_is_taken_or_refused(fields: list[str]) -> None:
    text = " ".join(fields)
    try:
        check_cron(text)
    except ValueError:
        return
    assert next_tick(text, "UTC", 0.0) is not None


@pytest.mark.parametrize("name", ["UTC", VILNIUS, "Etc/GMT+3"])
def test_a_time_zone_is_named_as_iana_does(name: str) -> None:
    assert check_timezone(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Europe/Vilnus", "did you mean 'Europe/Vilnius'?"),
        ("europe/vilnius", "did you mean 'Europe/Vilnius'?"),
        ("", "write one such as"),
        ("Europe", "there is no such time zone"),
        ("../../etc/passwd", "there is no such time zone"),
        (3, "there is no such time zone"),
    ],
)
def test_an_unknown_time_zone_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="there is no such time zone") as caught:
        check_timezone(name)
    assert message in str(caught.value)


# --- when ticks come ---


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "expected"),
    [
        ("0 3 * * *", "UTC", "2026-11-25 02:59:59", ["2026-11-25 03:00+00", "2026-11-26 03:00+00"]),
        ("0 3 * * *", "UTC", "2026-11-25 03:00", ["2026-11-26 03:00+00"]),
        ("0 3 * * *", "UTC", "2026-11-25 03:00:00.5", ["2026-11-26 03:00+00"]),
        ("0 3 * * *", VILNIUS, "2026-11-25 00:00", ["2026-11-25 03:00+02"]),
        ("0 3 * * *", VILNIUS, "2026-07-25 00:00", ["2026-07-26 03:00+03"]),
        # the ends of months, and the day that most years have not
        (
            "0 0 31 * *",
            "UTC",
            "2026-01-31 00:00",
            ["2026-03-31 00:00+00", "2026-05-31 00:00+00", "2026-07-31 00:00+00"],
        ),
        (
            "0 0 L * *",
            "UTC",
            "2026-01-31 00:00",
            ["2026-02-28 00:00+00", "2026-03-31 00:00+00", "2026-04-30 00:00+00"],
        ),
        ("0 0 29 2 *", "UTC", "2026-01-01", ["2028-02-29 00:00+00", "2032-02-29 00:00+00"]),
        ("0 0 1 1 *", "UTC", "2026-12-31 23:59", ["2027-01-01 00:00+00"]),
    ],
)
def test_ticks_come_after_a_moment(
    cron: str, timezone: str, after: str, expected: list[str]
) -> None:
    assert first(len(expected), cron, timezone, after) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # 03:00 to 04:00 is left out on 29 March 2026
        ("30 3 * * *", ["2026-03-28 03:30+02", "2026-03-29 04:00+03", "2026-03-30 03:30+03"]),
        ("30 2 * * *", ["2026-03-28 02:30+02", "2026-03-29 02:30+02", "2026-03-30 02:30+03"]),
        ("0,30 3 * * *", ["2026-03-28 03:00+02", "2026-03-28 03:30+02", "2026-03-29 04:00+03"]),
        ("0 3,4 29 3 *", ["2026-03-29 04:00+03", "2027-03-29 03:00+03"]),
        ("*/30 3 * * *", ["2026-03-28 03:00+02", "2026-03-28 03:30+02", "2026-03-30 03:00+03"]),
    ],
)
def test_what_spring_leaves_out_comes_once_at_the_change(cron: str, expected: list[str]) -> None:
    assert first(len(expected), cron, VILNIUS, "2026-03-28 00:00") == expected


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # 03:00 to 04:00 comes twice on 25 October 2026
        ("30 3 * * *", "2026-10-24 20:00", ["2026-10-25 03:30+03", "2026-10-26 03:30+02"]),
        ("30 3 * * *", "2026-10-25 00:30", ["2026-10-26 03:30+02"]),  # the first time it was 3:30
        ("30 3 * * *", "2026-10-25 01:10", ["2026-10-26 03:30+02"]),  # the second time, at 3:10
        ("30 4 * * *", "2026-10-24 20:00", ["2026-10-25 04:30+02", "2026-10-26 04:30+02"]),
        (
            "*/30 3 * * *",
            "2026-10-24 20:00",
            [
                "2026-10-25 03:00+03",
                "2026-10-25 03:30+03",
                "2026-10-25 03:00+02",
                "2026-10-25 03:30+02",
                "2026-10-26 03:00+02",
            ],
        ),
    ],
)
def test_what_autumn_brings_twice_comes_once_unless_it_follows_the_clock(
    cron: str, after: str, expected: list[str]
) -> None:
    assert first(len(expected), cron, VILNIUS, after) == expected


@pytest.mark.parametrize("zone", [VILNIUS, "America/Havana", "Australia/Lord_Howe", "Asia/Beirut"])
@given(
    minute=st.sampled_from(["0", "30", "0,30", "*/20", "*"]),
    hour=st.sampled_from(["0", "2", "2,3", "*/6", "*"]),
    start=st.integers(1_767_225_600, 1_798_761_600),
)
def test_ticks_rise_and_looking_again_finds_the_same(
    zone: str, minute: str, hour: str, start: int
) -> None:
    cron = f"{minute} {hour} * * *"
    found = list(islice(ticks(cron, zone, start), 8))
    assert all(a < b for a, b in pairwise([float(start), *found]))
    for before, after in pairwise(found):
        assert next_tick(cron, zone, before) == after
        assert next_tick(cron, zone, after - 1) == after
