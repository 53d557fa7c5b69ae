"""A task's life in one order: its changes of state, and its attempts' events in between. Pure.

The changes come from the ledger, whose task and attempts have the time of each, so none is written
down a second time; the events come from the event store. Both only ever grow at their end, so a
position in the timeline is a position in each, and stays right when a gateway is started again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from skipper.ledger.records import Event
from skipper.task import LOST, RELEASED, Attempt, State, Task
from skipper.tasks.documents import timestamp

Explain = Callable[[dict[str, Any]], dict[str, Any]]
GIVEN_BACK = (LOST, RELEASED)
"""Outcomes of attempts that were their host's, not their function's."""


class Cursor(NamedTuple):
    """How far somebody has read: the last event's ``seq``, and how many changes of state."""

    seq: int = 0
    changes: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor that an id of the stream stands for; the beginning for any other text."""
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,9}))?", text, re.ASCII)
        return cls(int(match[1]), int(match[2] or 0)) if match else cls()

    def __str__(self) -> str:
        return f"{self.seq}-{self.changes}"


BEGINNING = Cursor()


@dataclass(frozen=True, kw_only=True)
class Change:
    """The task came into a state. ``outcome`` is that of the attempt which ended with it."""

    state: State
    at: float
    attempt: int
    outcome: str | None = None
    error: dict[str, Any] | None = None


def changes(task: Task, ended: Sequence[Attempt]) -> list[Change]:
    """Every change of state so far; ``ended`` as :func:`~skipper.ledger.tasks.history` gives it.

    A task that is tried again is *retrying* until its next attempt runs.
    """
    found = [Change(state=State.QUEUED, at=task.created_at, attempt=0)]
    for each in ended:
        found.append(Change(state=State.RUNNING, at=each.started_at, attempt=each.number))
        # An end at the task's own time is no change of its own, because it ended the task, too.
        if not (task.state.is_terminal and task.finished_at == each.ended_at):
            found.append(_followed(each))
    last = ended[-1].number if ended else 0
    if task.started_at is not None and task.attempt > last:
        found.append(Change(state=State.RUNNING, at=task.started_at, attempt=task.attempt))
    if task.state.is_terminal and task.finished_at is not None:
        found.append(
            Change(state=task.state, at=task.finished_at, attempt=task.attempt, error=task.error)
        )
    return found


def _followed(attempt: Attempt) -> Change:
    is_given_back = attempt.outcome in GIVEN_BACK
    return Change(
        state=State.QUEUED if is_given_back else State.RETRYING,
        at=attempt.ended_at or attempt.started_at,
        attempt=attempt.number,
        outcome=attempt.outcome,
        error=attempt.error,
    )


class Gaps:
    """Finds what is missing among an attempt's numbered lines and points."""

    def __init__(self, numbers: dict[tuple[int, bool], int] | None = None) -> None:
        self._last = dict(numbers or {})

    def before(self, event: Event) -> int:
        """How many are not kept between this event and the one of its kind before it."""
        key = event.attempt, event.is_log
        gap = event.number - self._last.get(key, 0) - 1
        self._last[key] = event.number
        return max(0, gap)


class TimelineEvent(NamedTuple):
    """One event of the timeline, with the cursor to resume after it."""

    type: str
    data: dict[str, Any]
    id: Cursor


class Timeline:
    """A task's life from a cursor on, made of its record and of the events after the cursor.

    ``explain`` makes the problem document of an attempt's error.
    """

    def __init__(self, cursor: Cursor, gaps: Gaps, explain: Explain) -> None:
        self.cursor = cursor
        self._gaps, self._explain = gaps, explain
        self._changes: list[Change] = []

    def update(self, task: Task, ended: Sequence[Attempt]) -> None:
        """Take up the record as it is now; ``ended`` as for :func:`changes`."""
        self._changes = changes(task, ended)
        if not task.state.is_terminal and self.cursor.changes > len(self._changes):
            # A cursor that is none of this timeline's must not hide what is to come.
            self.cursor = self.cursor._replace(changes=len(self._changes))

    @property
    def is_over(self) -> bool:
        """Whether the end is behind the cursor, too."""
        return self._has_ended and self.cursor.changes > len(self._changes)

    @property
    def _has_ended(self) -> bool:
        return bool(self._changes) and self._changes[-1].state.is_terminal

    def is_ahead(self, events: Iterable[Event]) -> bool:
        """Whether one of these is of an attempt that the record does not have yet."""
        return any(event.attempt > self._changes[-1].attempt for event in events)

    def merge(self, events: Iterable[Event]) -> Iterator[TimelineEvent]:
        """The next events, each after the change of state that began its attempt."""
        for event in events:
            yield from self._begin(event.attempt)
            self.cursor = self.cursor._replace(seq=event.seq)
            data = event_document(event, self._gaps.before(event))
            yield TimelineEvent(event.type, data, self.cursor)

    def _begin(self, attempt: int) -> Iterator[TimelineEvent]:
        until = next(
            (
                place
                for place, change in enumerate(self._changes, 1)
                if change.attempt == attempt and change.state in (State.QUEUED, State.RUNNING)
            ),
            0,
        )
        yield from self._up_to(until)

    def rest(self) -> Iterator[TimelineEvent]:
        """The changes that are left, once there are no events before them any more."""
        yield from self._up_to(len(self._changes))

    def _up_to(self, place: int) -> Iterator[TimelineEvent]:
        for change in self._changes[self.cursor.changes : place]:
            self.cursor = self.cursor._replace(changes=self.cursor.changes + 1)
            yield TimelineEvent("state", self._document(change), self.cursor)

    def _document(self, change: Change) -> dict[str, Any]:
        document: dict[str, Any] = {
            "at": timestamp(change.at),
            "attempt": change.attempt,
            "state": change.state,
        }
        if change.outcome is not None:
            document["outcome"] = change.outcome
        if change.error is not None:
            document["error"] = self._explain(change.error)
        return document

    def done(self, document: dict[str, Any]) -> TimelineEvent:
        """The last event: the task as it has ended."""
        self.cursor = self.cursor._replace(changes=len(self._changes) + 1)
        return TimelineEvent("done", document, self.cursor)


def event_document(event: Event, dropped: int) -> dict[str, Any]:
    """An event as callers see it; ``dropped`` is how many before it are not kept."""
    data = {"at": timestamp(event.at), "attempt": event.attempt, **event.data}
    if event.is_log:
        data["line"] = event.number
    if dropped:
        data["dropped"] = dropped
    return data
