"""``skipper schedules``: times in words, a task's id for scripts, and what a pause answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from skipper.cli.output import span
from skipper.cli.schedules import _in_words
from tests.unit.cli.stand_in import StandIn

Run = Callable[..., Any]
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_schedules_are_listed_with_next_and_last_in_words(run: Run) -> None:
    result = run("schedules")
    lines = result.stdout.splitlines()
    assert "odd waits: no pool serves train.gone." in result.stderr
    assert lines[0].split() == ["NAME", "FUNCTION", "CRON", "TIMEZONE", "STATE", "NEXT", "LAST"]
    assert " ".join(lines[1].split()) == (
        "train.ok train.ok 0 3 * * * Europe/Vilnius active in 3 h 2 d ago"
    )
    assert lines[2].split()[-3:] == ["paused", "-", "-"]
    assert lines[3].split()[-3:] == ["unserved", "-", "-"]


def test_a_schedule_is_shown_with_its_tasks(run: Run) -> None:
    run("schedules", "run", "train.ok")
    text = run("schedules", "show", "train.ok").stdout
    assert "cron      0 3 * * *" in text
    assert "epochs=5" in text
    assert ", in 3 h" in text
    assert ", 2 d ago" in text
    assert "\nTASK " in text


def test_run_prints_the_id_of_a_task_alone(run: Run, gateway: StandIn) -> None:
    result = run("schedules", "run", "weekly")
    assert result.exit_code == 0
    assert result.stdout.strip() in gateway.tasks
    assert result.stderr == ""


def test_pause_and_resume_say_what_follows(run: Run) -> None:
    result = run("schedules", "pause", "train.ok")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "`skipper schedules resume train.ok`" in result.stderr
    assert json.loads(run("schedules", "show", "train.ok", "--json").stdout)["state"] == "paused"
    result = run("schedules", "resume", "train.ok")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "train.ok is active: 0 3 * * * (Europe/Vilnius)" in result.stderr


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (None, None),
        ("2026-11-25T12:00:45Z", "in 45 s"),
        ("2026-11-25T12:02:30Z", "in 2 min"),
        ("2026-11-25T11:00:00Z", "60 min ago"),
        ("2026-11-25T09:00:00Z", "3 h ago"),
        ("2027-11-25T12:00:00Z", "in 365 d"),
        ("2026-11-25T12:00:00Z", "0 s ago"),
    ],
)
def test_a_time_is_told_by_how_far_away_it_is(time: str | None, words: str | None) -> None:
    assert _in_words(time, NOON) == words


def test_a_span_is_never_negative() -> None:
    assert span(-3.0) == "0 s"
