"""A task's life in one order; tests/integration/test_task_history has the ledger's part."""

from __future__ import annotations

from typing import Any

import pytest

from skipper.gateway.timeline import Cursor, Gaps, Timeline, TimelineEvent, changes
from skipper.ledger.records import Event
from skipper.task import Attempt, State, Task


def task(state: State, attempt: int = 0, **values: Any) -> Task:
    known: dict[str, Any] = {
        "id": "a",
        "function": "f.f",
        "kind": "training",
        "pool": "cpu",
        "created_at": 1.0,
        "available_at": 1.0,
        "started_at": 10.0 * attempt or None,
        "finished_at": 100.0 if state.is_terminal else None,
    }
    return Task(state=state, attempt=attempt, **(known | values))


def ended(number: int, outcome: str = "failed", ended_at: float | None = None) -> Attempt:
    return Attempt(
        number=number,
        host="h",
        started_at=10.0 * number,
        ended_at=ended_at or 10.0 * number + 5,
        outcome=outcome,
        error={"detail": "boom", "outcome": "failed"} if outcome == "failed" else None,
    )


def event(seq: int, attempt: int = 1, type_: str = "log", number: int | None = None) -> Event:
    data = {"text": str(seq)} if type_ == "log" else {"done": seq}
    return Event(seq=seq, at=1.0, type=type_, data=data, attempt=attempt, number=number or seq)


class Recorded:
    """A timeline whose events are kept."""

    def __init__(self, cursor: str = "", gaps: Gaps | None = None) -> None:
        self.timeline = Timeline(Cursor.parse(cursor), gaps or Gaps(), lambda error: error)
        self.events: list[TimelineEvent] = []

    def update(self, task: Task, *attempts: Attempt) -> Recorded:
        self.timeline.update(task, attempts)
        return self

    def merge(self, *events: Event) -> Recorded:
        self.events += self.timeline.merge(events)
        return self

    def rest(self) -> Recorded:
        self.events += self.timeline.rest()
        return self

    @property
    def summary(self) -> list[str]:
        return [
            f"{each.data['state']} {each.data['attempt']}"
            if each.type == "state"
            else f"{each.type} {each.data['attempt']}"
            for each in self.events
        ]

    @property
    def ids(self) -> list[str]:
        return [str(each.id) for each in self.events]


SUCCEEDED = task(State.SUCCEEDED, 2)
EVENTS = [event(3), event(4, type_="progress"), event(7, attempt=2), event(9, attempt=2)]


def whole() -> Recorded:
    return Recorded().update(SUCCEEDED, ended(1)).merge(*EVENTS).rest()


def test_an_attempts_events_stand_between_its_start_and_its_end() -> None:
    assert whole().summary == [
        *("queued 0", "running 1", "log 1", "progress 1"),
        *("retrying 1", "running 2", "log 2", "log 2", "succeeded 2"),
    ]


def test_every_event_has_an_id_of_its_own() -> None:
    ids = whole().ids
    assert ids == ["0-1", "0-2", "3-2", "4-2", "4-3", "4-4", "7-4", "9-4", "9-5"]


@pytest.mark.parametrize("seen", range(10))
def test_after_any_id_comes_exactly_the_rest(seen: int) -> None:
    events = whole().events
    cursor = str(events[seen - 1].id) if seen else ""
    seq = Cursor.parse(cursor).seq
    numbers = {(each.attempt, each.is_log): each.number for each in EVENTS if each.seq <= seq}
    again = Recorded(cursor, Gaps(numbers)).update(SUCCEEDED, ended(1))
    again.merge(*(each for each in EVENTS if each.seq > seq)).rest()
    assert again.events == events[seen:]


def test_the_events_are_the_same_however_often_the_record_is_read() -> None:
    live = Recorded().update(task(State.QUEUED)).rest()
    live.update(task(State.RUNNING, 1)).merge(EVENTS[0]).rest()
    live.update(task(State.RUNNING, 1)).merge(EVENTS[1]).rest()
    live.update(task(State.RETRYING, 1), ended(1)).rest()
    live.update(task(State.QUEUED, 1), ended(1)).rest()
    live.update(task(State.RUNNING, 2), ended(1)).merge(EVENTS[2]).rest()
    live.update(SUCCEEDED, ended(1)).merge(EVENTS[3]).rest()
    assert live.events == whole().events


def test_an_event_of_an_attempt_that_the_record_does_not_have_yet_wants_another_read() -> None:
    timeline = Recorded().update(task(State.RUNNING, 1)).timeline
    assert not timeline.is_ahead([event(1)])
    assert timeline.is_ahead([event(1), event(2, attempt=2)])


def test_a_late_event_of_a_lost_attempt_has_its_own_number() -> None:
    late = Recorded().update(task(State.RUNNING, 2), ended(1, "lost")).rest().merge(event(3)).rest()
    assert late.summary == ["queued 0", "running 1", "queued 1", "running 2", "log 1"]


def test_events_from_before_attempts_were_recorded_are_there_too() -> None:
    old = Event(seq=5, at=1.0, type="log", data={"text": "x"})
    recorded = Recorded().update(task(State.SUCCEEDED, 1)).merge(old).rest()
    assert recorded.summary == ["queued 0", "log 0", "running 1", "succeeded 1"]
    assert "dropped" not in recorded.events[1].data


def test_a_retry_has_its_reason() -> None:
    data = whole().events[4].data
    assert (data["outcome"], data["error"]["detail"]) == ("failed", "boom")
    assert data["at"] == "1970-01-01T00:00:15.000Z"


# --- gaps ---


def test_what_is_not_kept_is_counted_with_the_next_that_is() -> None:
    recorded = Recorded().update(task(State.RUNNING, 1))
    recorded.merge(event(1, number=1), event(2, number=50), event(3, type_="progress", number=2))
    lines = [each for each in recorded.events if each.type != "state"]
    assert [each.data.get("dropped") for each in lines] == [None, 48, 1]
    assert [each.data.get("line") for each in lines] == [1, 50, None]


def test_a_gap_that_began_before_the_cursor_is_counted_from_there() -> None:
    recorded = Recorded("2-2", Gaps({(1, True): 40})).update(task(State.RUNNING, 1))
    recorded.merge(event(3, number=50))
    assert recorded.events[0].data["dropped"] == 9


# --- cursors ---


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("12-3", Cursor(12, 3)),
        ("12", Cursor(12, 0)),
        ("", Cursor()),
        ("x", Cursor()),
        ("-1", Cursor()),
        ("1-2-3", Cursor()),
        ("1" * 40, Cursor()),
        ("١٢", Cursor()),
    ],
)
def test_an_id_is_a_place_and_anything_else_the_beginning(text: str, cursor: Cursor) -> None:
    assert Cursor.parse(text) == cursor
    assert Cursor.parse(str(cursor)) == cursor


def test_after_the_end_there_is_nothing_more() -> None:
    recorded = whole()
    assert not recorded.timeline.is_over
    done = recorded.timeline.done({"state": "succeeded"})
    assert recorded.timeline.is_over
    assert Recorded(str(done.id)).update(SUCCEEDED, ended(1)).timeline.is_over


def test_an_id_from_elsewhere_does_not_hide_what_is_to_come() -> None:
    recorded = Recorded("0-99").update(task(State.RUNNING, 1)).rest()
    assert not recorded.timeline.is_over
    recorded.update(task(State.SUCCEEDED, 1)).rest()
    assert recorded.summary == ["succeeded 1"]


def test_a_task_that_its_hosts_loss_has_ended_was_not_queued_again() -> None:
    crashed = task(State.CRASHED, 1, finished_at=15.0)
    states = [change.state for change in changes(crashed, [ended(1, "lost", 15.0)])]
    assert states == [State.QUEUED, State.RUNNING, State.CRASHED]
