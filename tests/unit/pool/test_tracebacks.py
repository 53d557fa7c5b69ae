"""Tracebacks of functions in the log: each once a minute, or never where callers see them."""

from __future__ import annotations

import logging

import pytest

from skipper.pool.tracebacks import MAX_REMEMBERED, TRACEBACK, Tracebacks


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def written(tracebacks: Tracebacks, text: str | None) -> str | None:
    """What is left of a traceback in a record; the record itself always passes."""
    record = logging.makeLogRecord({"msg": "f.f: ValueError"})
    if text is not None:
        setattr(record, TRACEBACK, text)
    assert tracebacks.filter(record)
    found: str | None = vars(record).get(TRACEBACK)
    return found


def test_the_same_is_written_once_a_minute() -> None:
    clock = Clock()
    tracebacks = Tracebacks(clock=clock)
    assert [written(tracebacks, "a"), written(tracebacks, "a")] == ["a", None]
    assert written(tracebacks, "b") == "b"
    clock.now = 59.9
    assert written(tracebacks, "a") is None
    clock.now = 60.0
    assert [written(tracebacks, "a"), written(tracebacks, "a")] == ["a", None]


def test_none_is_where_callers_see_them() -> None:
    assert written(Tracebacks(are_shown=True), "a") is None


@pytest.mark.parametrize("text", ["", None])
def test_a_record_without_one_is_left_without(text: str | None) -> None:
    assert written(Tracebacks(), text) is None


def test_of_many_different_ones_not_more_are_remembered() -> None:
    tracebacks = Tracebacks()
    for number in range(3 * MAX_REMEMBERED):
        assert written(tracebacks, f"{number}")
    assert len(tracebacks._written) == MAX_REMEMBERED
    assert written(tracebacks, "\ud800") == "\ud800"
