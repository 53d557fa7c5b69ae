import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from skipper.errors import UnavailableError
from skipper.ledger import Ledger, events
from skipper.ledger.connection import Connection
from skipper.ledger.records import Event
from skipper.pool.durable.journal import Journal, JournalLimits
from skipper.pool.processes.marked import MarkedLine
from skipper.pool.processes.output import LINES, OVERHEAD, POINTS, Bounds, Printed
from skipper.task import new_id
from skipper.wire.events import EmittedEvent

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
    """A journal, and what it reports as written."""

    def __init__(self, ledger: Ledger, limits: JournalLimits) -> None:
        self._ledger = ledger
        self.shaky = Shaky(ledger)
        self.written: list[set[str]] = []
        self.journal = Journal(self.shaky, self.written.append, limits)
        self.task = new_id()

    def says(self, text: str, attempt: int = 1) -> None:
        data = {"stream": "info", "text": text}
        self.journal.add(self.task, attempt, EmittedEvent("log", data, time.time()))

    async def ends(self, attempt: int = 1) -> None:
        await self.journal.close_attempt(self.task, attempt)

    async def stored(self, task: str | None = None) -> list[Event]:
        return await self._ledger.read_events(
            lambda conn: events.after(conn, task or self.task, 0, 100_000).events
        )

    async def texts(self) -> list[str]:
        return [event.data["text"] for event in await self.stored()]

    async def numbers(self) -> list[int]:
        return [event.number for event in await self.stored()]


LINE = OVERHEAD + 1
"""What a line of one letter takes."""
NARROW = JournalLimits(lines=Bounds(head=3 * LINE, tail=2 * LINE), quota=LINE, slack=0)
"""A few such lines are all that is kept, and one that a flush may write."""


@pytest.fixture
def limits() -> JournalLimits:
    """Of this test's journal: a test's parameter of this name may set others."""
    return JournalLimits()


@pytest.fixture
def desk(ledger: Ledger, limits: JournalLimits) -> Desk:
    return Desk(ledger, limits)


async def test_what_is_added_is_stored_in_order_when_it_is_flushed(desk: Desk) -> None:
    for event in (
        EmittedEvent("progress", {"done": 1}, 10.0),
        EmittedEvent("metric", {"name": "rmse", "value": 0.5}, 11.0),
    ):
        desk.journal.add(desk.task, 1, event)
    desk.says("half way")
    assert await desk.stored() == []
    await desk.journal.flush()
    found = await desk.stored()
    assert [(event.type, event.at) for event in found[:2]] == [("progress", 10.0), ("metric", 11.0)]
    assert found[0].data == {"done": 1}
    assert found[2].data["text"] == "half way"
    assert found[2].at > 1_000_000_000


async def test_lines_and_points_stay_in_the_order_in_which_they_were_written(desk: Desk) -> None:
    for n in range(3):
        desk.says(str(n))
        desk.journal.add(desk.task, 1, EmittedEvent("progress", {"done": n}, 1.0))
    await desk.ends()
    assert [event.type for event in await desk.stored()] == ["log", "progress"] * 3


async def test_lines_and_points_are_numbered_by_attempt(desk: Desk) -> None:
    desk.says("a")
    desk.says("b")
    desk.journal.add(desk.task, 1, EmittedEvent("progress", {}, 1.0))
    desk.says("c", attempt=2)
    await desk.journal.flush()
    found = {(event.attempt, event.is_log, event.number) for event in await desk.stored()}
    assert found == {(1, True, 1), (1, True, 2), (1, False, 1), (2, True, 1)}


async def test_what_is_printed_counts_with_what_was_left_out_of_it(desk: Desk) -> None:
    desk.journal.print(desk.task, 1, Printed("stdout", [MarkedLine("a"), MarkedLine("b")]))
    desk.journal.print(desk.task, 1, Printed("stderr", [MarkedLine("c")], 7))
    await desk.ends()
    assert await desk.numbers() == [1, 2, 10]
    assert [event.data["stream"] for event in await desk.stored()] == ["stdout", "stdout", "stderr"]


async def test_who_watches_hears_of_each_write_and_of_nothing_else(desk: Desk) -> None:
    other = new_id()
    await desk.journal.flush()
    desk.says("a")
    desk.journal.add(other, 1, EmittedEvent("progress", {}, 1.0))
    await desk.journal.flush()
    await desk.journal.flush()
    assert desk.written == [{desk.task, other}]


async def test_what_a_task_has_said_is_stored_before_its_end(desk: Desk) -> None:
    desk.says("last words")
    await desk.ends()
    assert await desk.texts() == ["last words"]


async def test_what_any_task_has_said_is_stored_before_the_hosts_end(desk: Desk) -> None:
    desk.says("last words")
    desk.says("of another attempt", attempt=2)
    await desk.journal.close()
    assert await desk.texts() == ["last words", "of another attempt"]


async def test_a_task_that_said_nothing_ends_without_a_write(desk: Desk) -> None:
    desk.shaky.is_up = False
    await desk.ends()
    assert desk.written == []


@pytest.mark.parametrize("limits", [NARROW])
async def test_of_a_talkative_attempt_the_first_and_the_last_are_kept(desk: Desk) -> None:
    for n in range(9):
        desk.says(str(n))
    await desk.ends()
    assert await desk.texts() == ["0", "1", "2", "7", "8"]
    assert await desk.numbers() == [1, 2, 3, 8, 9]


@pytest.mark.parametrize("limits", [NARROW])
async def test_who_reads_along_sees_the_latest_and_the_middle_is_cut_out(desk: Desk) -> None:
    for n in range(9):
        desk.says(str(n))
        await desk.journal.flush()
    await desk.journal.flush()
    assert await desk.texts() == ["0", "1", "2", "7", "8"]
    await desk.ends()
    await desk.journal.flush()
    assert await desk.texts() == ["0", "1", "2", "7", "8"]


@pytest.mark.parametrize("limits", [NARROW])
async def test_lines_are_no_burden_to_points_nor_one_attempt_to_another(desk: Desk) -> None:
    for n in range(9):
        desk.says(str(n))
        desk.journal.add(desk.task, 1, EmittedEvent("progress", {"done": n}, 1.0))
        desk.says(str(n), attempt=2)
    await desk.ends()
    await desk.ends(attempt=2)
    found = await desk.stored()
    assert [event.data["done"] for event in found if not event.is_log] == list(range(9))
    assert sum(event.is_log and event.attempt == 2 for event in found) == 5


async def test_what_cannot_be_written_is_written_later_in_its_order(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.shaky.is_up = False
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            desk.says(str(n))
            await desk.journal.flush()
        await desk.ends()
    assert len(caplog.records) == 1
    assert desk.written == []
    desk.shaky.is_up = True
    desk.says("3", attempt=2)
    await desk.journal.flush()  # what has waited longest goes first
    assert desk.written == [{desk.task}]
    await desk.journal.flush()
    assert await desk.texts() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("limits", [JournalLimits(waiting=2 * LINE)])
async def test_what_waits_for_the_store_is_bounded(desk: Desk) -> None:
    desk.shaky.is_up = False
    for n in range(5):
        desk.says(str(n), attempt=n)
        await desk.ends(attempt=n)
    desk.shaky.is_up = True
    await desk.journal.flush()
    assert await desk.texts() == ["3", "4"]


@pytest.mark.parametrize("limits", [NARROW])
async def test_an_attempt_that_goes_on_talking_to_a_store_that_is_down_is_bounded(
    desk: Desk,
) -> None:
    desk.shaky.is_up = False
    for n in range(1000):
        desk.says(str(n % 10))
        await desk.journal.flush()
    desk.shaky.is_up = True
    await desk.ends()
    await desk.journal.flush()
    numbers = await desk.numbers()
    assert numbers[0] == 1
    assert numbers[-2:] == [999, 1000]
    assert len(numbers) <= 6


async def test_an_odd_text_is_stored_as_it_is(desk: Desk) -> None:
    odd: list[Any] = ["nul \0", "\u2028", "😀", "[31mred", "", "\udcff"]
    for text in odd:
        desk.says(text)
    await desk.journal.flush()
    assert await desk.texts() == odd


def test_the_bounds_are_those_that_the_pages_tell() -> None:
    assert {LINES.head, LINES.tail} == {512 << 10}
    assert {POINTS.head, POINTS.tail} == {1 << 20}
