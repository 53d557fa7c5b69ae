from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

import pytest

from skipper.errors import UnavailableError
from skipper.ledger.connection import Connection
from skipper.ledger.worker import PendingOperation, Reader, Writer
from tests.blocking import submitted
from tests.unit.ledger.fakes import FakeConnection, FakeDatabase, OutageError, RefusalError

LIMIT_S = 10.0


def writes(row: object) -> Callable[[Connection], object]:
    def operation(conn: Connection) -> object:
        assert isinstance(conn, FakeConnection)
        return conn.write(row)

    return operation


def fails(conn: Connection) -> object:
    raise KeyError("guilty")


def writes_all(conn: Connection, rows: Sequence[object]) -> list[object]:
    assert isinstance(conn, FakeConnection)
    return [conn.write(tuple(rows)), *rows[1:]]


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def writer(database: FakeDatabase) -> Iterator[Writer]:
    writer = Writer(database, "test-writer", patience_s=LIMIT_S)
    yield writer
    database.gate.set()
    writer.close()


def ask_together(
    database: FakeDatabase, writer: Writer, jobs: Sequence[PendingOperation[object]]
) -> list[futures.Future[object]]:
    """Submit ``jobs``, all but the first while the writer waits to begin for that one."""
    database.gate.clear()
    database.is_begun.clear()
    asked = [submitted(writer, jobs[0])]
    assert database.is_begun.wait(LIMIT_S)
    asked += [submitted(writer, job) for job in jobs[1:]]
    database.gate.set()
    futures.wait(asked, LIMIT_S)
    return asked


def test_what_waits_together_is_committed_together(database: FakeDatabase, writer: Writer) -> None:
    asked = ask_together(database, writer, [PendingOperation(writes(row)) for row in "abc"])
    assert [each.result() for each in asked] == ["a", "b", "c"]
    assert database.transactions == [["a", "b", "c"]]


def test_items_that_wait_together_are_merged_into_one_call(
    database: FakeDatabase, writer: Writer
) -> None:
    jobs: list[PendingOperation[object]] = [
        PendingOperation(merged=writes_all, item=item) for item in (1, 2, 3)
    ]
    asked = ask_together(database, writer, jobs)
    assert [each.result() for each in asked] == [(1, 2, 3), 2, 3]
    assert database.rows == [(1, 2, 3)]


def test_only_the_guilty_operation_fails(database: FakeDatabase, writer: Writer) -> None:
    jobs = [
        PendingOperation(writes("a")),
        PendingOperation[object](fails),
        PendingOperation(writes("c")),
    ]
    first, guilty, last = ask_together(database, writer, jobs)
    assert (first.result(), last.result()) == ("a", "c")
    with pytest.raises(KeyError, match="guilty"):
        guilty.result()
    assert database.rows == ["a", "c"]


def test_a_group_that_need_not_be_durable_lets_no_durable_operation_in(
    database: FakeDatabase, writer: Writer
) -> None:
    jobs = [PendingOperation(writes("claim"), is_durable=False), PendingOperation(writes("finish"))]
    ask_together(database, writer, jobs)
    assert [mark.is_durable for mark in database.marks] == [False, True]
    jobs = [PendingOperation(writes("finish")), PendingOperation(writes("claim"), is_durable=False)]
    ask_together(database, writer, jobs)
    assert [mark.is_durable for mark in database.marks] == [False, True, True]


def test_the_finisher_runs_last_in_the_transaction(database: FakeDatabase) -> None:
    def finish(conn: Connection) -> None:
        writes("total")(conn)

    writer = Writer(database, "test", patience_s=LIMIT_S, finisher=finish)
    ask_together(database, writer, [PendingOperation(writes(row)) for row in "ab"])
    assert database.transactions == [["a", "b", "total"]]
    writer.close()


async def test_an_event_loop_is_woken_once_per_group(
    database: FakeDatabase, writer: Writer
) -> None:
    running = asyncio.get_running_loop()
    wakes = []
    call_soon = running.call_soon_threadsafe

    def count(*arguments: object) -> asyncio.Handle:
        wakes.append(arguments)
        return call_soon(*arguments)  # type: ignore[arg-type]  # passed on as they came

    running.call_soon_threadsafe = count  # type: ignore[method-assign,assignment]  # there is no hook
    database.gate.clear()
    answers = []
    for row in range(8):
        job = PendingOperation(writes(row))
        job.future = asyncio.get_running_loop().create_future()
        writer.submit(job)
        answers.append(job.future)
    database.gate.set()
    async with asyncio.timeout(LIMIT_S):
        assert await asyncio.gather(*answers) == list(range(8))
    assert len(wakes) == 1


async def test_a_caller_that_goes_away_harms_nobody_and_its_operation_still_runs(
    database: FakeDatabase, writer: Writer
) -> None:
    jobs = [PendingOperation(writes("left")), PendingOperation(writes("stayed"))]
    database.gate.clear()
    for job in jobs:
        job.future = asyncio.get_running_loop().create_future()
        writer.submit(job)
    jobs[0].future.cancel()
    database.gate.set()
    async with asyncio.timeout(LIMIT_S):
        assert await jobs[1].future == "stayed"
    assert database.rows == ["left", "stayed"]


def test_a_loop_that_was_closed_harms_nobody(database: FakeDatabase, writer: Writer) -> None:
    closed = asyncio.new_event_loop()
    job = PendingOperation(writes("a"))
    job.future = closed.create_future()
    closed.close()
    writer.submit(job)
    assert submitted(writer, PendingOperation(writes("b"))).result(LIMIT_S) == "b"
    assert database.rows == ["a", "b"]


def test_an_outage_is_waited_out(database: FakeDatabase, writer: Writer) -> None:
    database.trouble = {
        "connect": [OutageError(), OutageError()],
        "begin": [OutageError()],
        "commit": [OutageError()],
    }
    assert submitted(writer, PendingOperation(writes("a"))).result(LIMIT_S) == "a"
    assert database.rows == ["a"]
    assert database.connections == 3


def test_a_commit_that_went_through_unseen_is_not_run_again(
    database: FakeDatabase, writer: Writer
) -> None:
    database.trouble = {"committed": [OutageError()]}
    asked = ask_together(database, writer, [PendingOperation(writes(row)) for row in "ab"])
    assert [each.result() for each in asked] == ["a", "b"]
    assert database.rows == ["a", "b"]
    assert submitted(writer, PendingOperation(writes("c"))).result(LIMIT_S) == "c"


def test_a_group_given_up_while_unsure_does_not_answer_for_the_next(
    database: FakeDatabase,
) -> None:
    writer = Writer(database, "test", patience_s=0.0)
    database.trouble = {"committed": [OutageError()]}
    with pytest.raises(UnavailableError):
        submitted(writer, PendingOperation(writes("a"))).result(LIMIT_S)
    assert submitted(writer, PendingOperation(writes("b"))).result(LIMIT_S) == "b"
    assert database.rows == ["a", "b"]
    writer.close()


def test_a_long_outage_is_told_and_the_next_caller_does_not_wait_for_it_again(
    database: FakeDatabase,
) -> None:
    writer = Writer(database, "test", patience_s=0.2)
    database.trouble = {"connect": [OutageError("gone")] * 1000}
    for _ in range(2):
        with pytest.raises(UnavailableError, match="gone"):
            submitted(writer, PendingOperation(writes("a"))).result(LIMIT_S)
    used = 1000 - len(database.trouble["connect"])
    with pytest.raises(UnavailableError, match="gone"):
        submitted(writer, PendingOperation(writes("a"))).result(LIMIT_S)
    assert len(database.trouble["connect"]) == 1000 - used - 1
    database.trouble.clear()
    assert submitted(writer, PendingOperation(writes("b"))).result(LIMIT_S) == "b"
    writer.close()


def test_a_full_disk_fails_the_whole_group_at_once(database: FakeDatabase, writer: Writer) -> None:
    database.trouble = {"commit": [RefusalError("disk is full")]}
    for each in ask_together(database, writer, [PendingOperation(writes(row)) for row in "ab"]):
        with pytest.raises(UnavailableError, match="disk is full"):
            each.result()
    assert database.rows == []
    assert submitted(writer, PendingOperation(writes("c"))).result(LIMIT_S) == "c"


def test_close_does_what_is_queued_and_then_refuses(database: FakeDatabase, writer: Writer) -> None:
    database.gate.clear()
    asked = [submitted(writer, PendingOperation(writes(row))) for row in range(600)]
    closing = threading.Thread(target=writer.close)
    closing.start()
    database.gate.set()
    closing.join(LIMIT_S)
    assert [each.result(LIMIT_S) for each in asked] == list(range(600))
    with pytest.raises(UnavailableError):
        submitted(writer, PendingOperation(writes("late")))


def test_no_thread_runs_before_the_first_job(database: FakeDatabase) -> None:
    Writer(database, "unused", patience_s=1.0).close()
    assert database.connections == 0
    assert "unused" not in [thread.name for thread in threading.enumerate()]


def test_one_failing_read_leaves_the_others_alone(database: FakeDatabase) -> None:
    reader = Reader(database, "test-reader", patience_s=1.0)
    asked = [
        submitted(reader, job)
        for job in (
            PendingOperation(writes("a")),
            PendingOperation[object](fails),
            PendingOperation(writes("c")),
        )
    ]
    futures.wait(asked, LIMIT_S)
    assert [asked[0].result(), asked[2].result()] == ["a", "c"]
    assert isinstance(asked[1].exception(), KeyError)
    assert database.transactions == []
    reader.close()
