"""Failures of functions in the log: each with its place, each traceback written once a minute."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from skipper.outcomes import Outcome
from skipper.pool.tracebacks import (
    MAX_REMEMBERED,
    PRINTED,
    TRACEBACK,
    Tracebacks,
    failure,
    place_in,
)

PROJECT = Path("/srv/house")
OWN = f'  File "{PROJECT}/functions/prices.py", line 7, in predict\n    return table[x]\n'
LIBRARY = '  File "/usr/lib/python3.13/json/decoder.py", line 355, in raw_decode\n'
INSTALLED = f'  File "{PROJECT}/.venv/lib/python3.13/site-packages/a.py", line 3, in f\n'


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passed(tracebacks: Tracebacks, **members: Any) -> dict[str, Any]:
    """What is left of a record's members; the record itself always passes."""
    record = logging.makeLogRecord({"msg": "f.f: ValueError"} | members)
    assert tracebacks.filter(record)
    return vars(record)


def written(tracebacks: Tracebacks, text: str | None) -> str | None:
    """What is left of a traceback in a record."""
    found: str | None = passed(tracebacks, **({} if text is None else {TRACEBACK: text})).get(
        TRACEBACK
    )
    return found


def test_the_same_is_written_once_a_minute() -> None:
    clock = Clock()
    tracebacks = Tracebacks(PROJECT, clock=clock)
    assert [written(tracebacks, "a"), written(tracebacks, "a")] == ["a", None]
    assert written(tracebacks, "b") == "b"
    clock.now = 59.9
    assert written(tracebacks, "a") is None
    clock.now = 60.0
    assert [written(tracebacks, "a"), written(tracebacks, "a")] == ["a", None]


@pytest.mark.parametrize(
    ("first", "named"),
    [({"request": "r1"}, "r1"), ({"task": "t1", "request": "r1"}, "t1"), ({}, None)],
)
def test_the_next_one_names_the_record_that_has_it(
    first: dict[str, str], named: str | None
) -> None:
    tracebacks = Tracebacks(PROJECT)
    passed(tracebacks, **first, **{TRACEBACK: "a"})
    assert passed(tracebacks, request="r2", **{TRACEBACK: "a"}).get("same_as") == named


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (OWN, "functions/prices.py:7"),
        (OWN + LIBRARY, "functions/prices.py:7"),
        (OWN + INSTALLED, "functions/prices.py:7"),
        ('  File "functions/prices.py", line 9, in train\n', "functions/prices.py:9"),
        (LIBRARY, "/usr/lib/python3.13/json/decoder.py:355"),
        ("ValueError: no", ""),
    ],
)
def test_the_place_is_the_innermost_line_of_the_projects_own(text: str, place: str) -> None:
    assert place_in(text, PROJECT) == place


def test_where_nothing_was_raised_the_place_is_the_functions() -> None:
    gone = failure(Outcome.DIED, {"detail": "killed"}, f"{PROJECT}/functions/prices.py", 3)
    members = passed(Tracebacks(PROJECT), **gone)
    assert members["at"] == "functions/prices.py:3"
    assert members["outcome"] == "died"
    assert TRACEBACK not in members


def test_a_broken_file_is_named_by_its_message_alone() -> None:
    members = passed(Tracebacks(PROJECT), event="broken", **{TRACEBACK: OWN})
    assert "at" not in members
    assert members[TRACEBACK] == OWN


def test_what_functions_log_themselves_is_left_as_it_is() -> None:
    tracebacks = Tracebacks(PROJECT)
    for _ in range(2):
        members = passed(tracebacks, name=PRINTED, **{TRACEBACK: OWN})
        assert members[TRACEBACK] == OWN
        assert "at" not in members


@pytest.mark.parametrize("text", ["", None])
def test_a_record_without_one_is_left_without(text: str | None) -> None:
    assert written(Tracebacks(PROJECT), text) is None


def test_of_many_different_ones_not_more_are_remembered() -> None:
    tracebacks = Tracebacks(PROJECT)
    for number in range(3 * MAX_REMEMBERED):
        assert written(tracebacks, f"{number}")
    assert len(tracebacks._written) == MAX_REMEMBERED
    assert written(tracebacks, "\ud800") == "\ud800"
