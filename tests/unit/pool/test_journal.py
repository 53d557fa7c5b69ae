import logging
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from skipper.errors import UnavailableError
from skipper.ledger import Ledger, events
from skipper.ledger.connection import Connection
from skipper.ledger.records import Event
from skipper.pool import journal as journals
from skipper.pool.journal import Journal
from skipper.task import new_id

T = TypeVar("T")


class Shaky(Ledger):
    """The ledger, as long as it is up."""

    def __init__(self, ledger: Ledger) -> None:
        self._real, self.is_up = ledger, True

    async def record(self, op: Callable[[Connection], T]) -> T:
        if not self.is_up:
            raise UnavailableError("the event store is down")
        return await self._real.record(op)


class Desk:
    """A journal, and who hears of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.shaky = Shaky(ledger)
        self.heard: list[set[str]] = []
        self.journal = Journal(self.shaky, self.heard.append)
        self.task = new_id()

    def says(self, text: str) -> None:
        self.journal.add(self.task, "log", {"stream": "info", "text": text})

    async def stored(self, task: str | None = None) -> list[Event]:
        return await self._ledger.read_events(
            lambda conn: events.after(conn, task or self.task, 0, 100_000)
        )

    async def texts(self) -> list[str]:
        return [event.data["text"] for event in await self.stored()]


@pytest.fixture
def desk(ledger: Ledger) -> Desk:
    return Desk(ledger)


async def test_what_is_added_is_stored_in_order_when_it_is_flushed(desk: Desk) -> None:
    desk.journal.add(desk.task, "progress", {"done": 1}, at=10.0)
    desk.journal.add(desk.task, "metric", {"name": "rmse", "value": 0.5}, at=11.0)
    desk.says("half way")
    assert await desk.stored() == []
    await desk.journal.flush()
    found = await desk.stored()
    assert [(event.type, event.at) for event in found[:2]] == [("progress", 10.0), ("metric", 11.0)]
    assert found[0].data == {"done": 1}
    assert found[2].data["text"] == "half way"
    assert found[2].at > 1_000_000_000


async def test_who_watches_hears_of_each_write_and_of_nothing_else(desk: Desk) -> None:
    other = new_id()
    await desk.journal.flush()
    desk.says("a")
    desk.journal.add(other, "progress", {})
    await desk.journal.flush()
    await desk.journal.flush()
    assert desk.heard == [{desk.task, other}]


async def test_what_a_task_has_said_is_stored_before_its_end(desk: Desk) -> None:
    desk.says("last words")
    await desk.journal.close_task(desk.task)
    assert await desk.texts() == ["last words"]


async def test_a_task_that_said_nothing_ends_without_a_write(desk: Desk) -> None:
    desk.shaky.is_up = False
    await desk.journal.close_task(desk.task)
    assert desk.heard == []


async def test_beyond_their_number_events_are_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_EVENTS", 5)
    for n in range(8):
        desk.says(str(n))
    await desk.journal.close_task(desk.task)
    *kept, dropped = await desk.stored()
    assert [event.data["text"] for event in kept] == ["0", "1", "2", "3", "4"]
    assert (dropped.type, dropped.data["count"]) == ("dropped", 3)


async def test_beyond_their_size_lines_are_counted_and_other_events_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_TEXT", 10)
    desk.says("12345")
    desk.says("67890")
    desk.says("!")
    await desk.journal.close_task(desk.task)
    *kept, dropped = await desk.stored()
    assert [event.data["text"] for event in kept] == ["12345", "67890"]
    assert dropped.data["count"] == 1


async def test_one_tasks_talk_costs_another_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_EVENTS", 2)
    other = new_id()
    for n in range(9):
        desk.says(str(n))
    desk.journal.add(other, "progress", {"done": 1})
    await desk.journal.flush()
    assert len(await desk.stored(other)) == 1


@pytest.mark.parametrize(("bound", "most"), [("MAX_EVENTS", 1), ("MAX_TEXT", 5)])
async def test_every_attempt_has_its_own_bounds(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(journals, bound, most)
    for _ in range(2):
        desk.says("12345")
        await desk.journal.close_task(desk.task)
    assert await desk.texts() == ["12345", "12345"]


async def test_what_cannot_be_written_is_written_later_in_its_order(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.shaky.is_up = False
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            desk.says(str(n))
            await desk.journal.flush()
    assert len(caplog.records) == 1
    assert desk.heard == []
    desk.shaky.is_up = True
    desk.says("3")
    await desk.journal.flush()
    assert await desk.texts() == ["0", "1", "2", "3"]
    assert desk.heard == [{desk.task}]


async def test_what_waits_for_the_store_is_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_WAITING", 2)
    desk.shaky.is_up = False
    for n in range(5):
        desk.says(str(n))
        await desk.journal.flush()
    desk.shaky.is_up = True
    await desk.journal.flush()
    assert await desk.texts() == ["3", "4"]


async def test_an_odd_text_is_stored_as_it_is(desk: Desk) -> None:
    odd: list[Any] = ["nul \0", "\u2028", "😀", "\x1b[31mred", ""]
    for text in odd:
        desk.says(text)
    await desk.journal.flush()
    assert await desk.texts() == odd
