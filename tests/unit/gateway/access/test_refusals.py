"""Refusals: each is counted, the log has few lines of them, and little is kept of whom."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from skipper.gateway.access.refusals import MAX_SOURCES, Gathered, Reason, Refusals

Logged = pytest.LogCaptureFixture


class Clock:
    """Has things done once a minute has passed."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        assert seconds == 60
        self._waiting.append(do)

    def pass_a_minute(self) -> None:
        due, self._waiting = self._waiting, []
        for do in due:
            do()


def test_the_first_is_logged_at_once_and_the_rest_by_the_minute(caplog: Logged) -> None:
    clock = Clock()
    refusals = Refusals(later=clock.later)
    for minute in range(3):
        for number in range(999 + (minute == 0)):
            refusals.record(Reason.KEY, f"10.0.0.{number % 3}")
        clock.pass_a_minute()
    first, *rest = (record.getMessage() for record in caplog.records)
    assert first == "refused a request without a right key, from 10.0.0.0"
    assert len(rest) == 3
    for told in rest:
        assert told.startswith("refused 999 more requests without a right key within 60 s, from ")
        assert all(f"10.0.0.{number} (333)" in told for number in range(3))
    assert refusals.totals()[Reason.KEY] == 2998


def test_after_a_silence_the_next_is_logged_at_once_again(caplog: Logged) -> None:
    clock = Clock()
    refusals = Refusals(later=clock.later)
    refusals.record(Reason.HOST, "10.0.0.1")
    clock.pass_a_minute()
    assert len(caplog.records) == 1
    refusals.record(Reason.HOST, "10.0.0.2")
    assert "10.0.0.2" in caplog.records[1].getMessage()


async def test_each_reason_has_lines_and_counts_of_its_own(caplog: Logged) -> None:
    refusals = Refusals()
    for reason in Reason:
        refusals.record(reason, "10.0.0.1")
    assert [each.__dict__["reason"] for each in caplog.records] == list(Reason)
    assert refusals.totals() == dict.fromkeys(Reason, 1)


def test_of_a_flood_from_everywhere_a_line_and_no_more_is_kept() -> None:
    gathered = Gathered()
    for number in range(100_000):
        gathered.add(f"2001:db8::{number:x}")
    gathered.add("2001:db8::0")
    assert sys.getsizeof(gathered._sources) + sum(map(sys.getsizeof, gathered._sources)) < 4096
    text = str(gathered)
    assert text.startswith("2001:db8::0 (2), ")
    assert text.endswith(f"others ({100_000 - MAX_SOURCES})")
    assert len(text) < 500


@pytest.mark.parametrize(("process", "labels"), [("", {}), ("gateway-2", {"gateway": "gateway-2"})])
def test_of_several_processes_each_counts_under_its_name(
    process: str, labels: dict[str, str]
) -> None:
    samples = Refusals(process).samples()
    assert samples == [(labels | {"reason": str(reason)}, 0) for reason in Reason]
