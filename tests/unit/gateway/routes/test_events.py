"""One reader's stream, on a real ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.gateway.context import Context
from skipper.gateway.task_reader import POLL_S, TaskReader
from skipper.gateway.task_stream import BYTES_AT_ONCE, EVENTS_AT_ONCE, TaskStream
from skipper.gateway.timeline import Cursor
from skipper.ledger import events as stored_events
from skipper.ledger import tasks
from skipper.ledger.connection import Connection
from skipper.ledger.records import Ending, NewEvent, NewTask
from skipper.settings.model import Settings
from skipper.task import State, new_id
from skipper.tasks.watchers import Watchers
from skipper.values.store import ValueStore
from skipper.values.value import Value
from tests.blocking import BlockingLedger

T = TypeVar("T")
LIMIT_S = 20.0


class Counting(BlockingLedger):
    """A ledger that counts reads, and may be away."""

    reads = 0
    events_read = 0
    is_away = False

    async def read(self, op: Callable[[Connection], T]) -> T:
        if self.is_away:
            raise UnavailableError("The database cannot be reached.")
        self.reads += 1
        return await super().read(op)

    async def read_events(self, op: Callable[[Connection], T]) -> T:
        self.events_read += 1
        return await super().read_events(op)


class Office:
    """A gateway's context, a task, and a reader of its stream."""

    def __init__(self, ledger: Counting, folder: Path) -> None:
        self.ledger, self.watchers = ledger, Watchers()
        self.context = Context(
            settings=Settings(project_dir=folder),
            ledger=ledger,
            values=ValueStore(BlobStore(str(folder / "blobs")), 1024),
            files=cast(Any, None),
            inputs=cast(Any, None),
            directory=cast(Any, None),
            intake=cast(Any, None),
            publisher=cast(Any, None),
            watchers=self.watchers,
            tasks=TaskReader(ledger, self.watchers, cast(Any, None), shows_tracebacks=True),
            calls=cast(Any, None),
            budget=cast(Any, None),
            shows_tracebacks=True,
        )
        new = NewTask(
            id=new_id(),
            function="f.f",
            kind="data",
            pool="cpu",
            input=Value(inline=b"{}"),
            created_at=1.0,
            available_at=1.0,
        )
        self.id = new.id
        self._logged = 0
        ledger.write_now(lambda conn: tasks.accept(conn, new))

    def claim(self) -> None:
        self.ledger.write_now(lambda conn: tasks.claim(conn, [self.id], "host", 2.0))
        self.watchers.changed([self.id])

    def log(self, lines: int = 1, size: int = 1) -> None:
        rows = [
            NewEvent(
                task_id=self.id,
                attempt=1,
                number=self._logged + number,
                at=3.0,
                type="log",
                data={"text": "x" * size},
            )
            for number in range(1, lines + 1)
        ]
        self._logged += lines
        self.ledger.record_now(lambda conn: stored_events.append(conn, rows))
        self.watchers.emitted([self.id])

    def end(self) -> None:
        ending = Ending(state=State.SUCCEEDED, result=Value(inline=b"1"))
        self.ledger.write_now(lambda conn: tasks.finish(conn, self.id, 1, "host", ending, 4.0))
        self.watchers.changed([self.id])

    async def stream(self, **intervals: float) -> AsyncGenerator[bytes, None]:
        stream = await TaskStream.open(self.context, self.id, Cursor(), **intervals)
        return stream.run()


@pytest.fixture
def office(ledger_url: str, tmp_path: Path) -> Iterator[Office]:
    with Counting.open(ledger_url) as ledger:
        yield Office(ledger, tmp_path)


async def following(stream: AsyncGenerator[bytes, None]) -> str:
    """The next block of the stream."""
    return (await asyncio.wait_for(anext(stream), LIMIT_S)).decode()


def kind_of(block: str) -> str:
    fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
    data = json.loads(fields["data"])
    return str(data["state"] if fields["event"] == "state" else fields["event"])


async def test_what_happens_is_sent_as_it_happens(office: Office) -> None:
    stream = await office.stream()
    assert await following(stream) == "retry: 2000\n\n"
    assert kind_of(await following(stream)) == "queued"
    office.claim()
    assert kind_of(await following(stream)) == "running"
    office.log()
    assert kind_of(await following(stream)) == "log"
    office.end()
    assert [kind_of(block.decode()) async for block in stream] == ["succeeded", "done"]


async def test_events_alone_do_not_have_the_record_read(office: Office) -> None:
    office.claim()
    stream = await office.stream()
    for _ in range(3):
        await following(stream)
    office.ledger.reads = office.ledger.events_read = 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(50):
        office.log()
        assert kind_of(await following(stream)) == "log"
    assert office.ledger.events_read >= 50
    assert office.ledger.reads <= 1 + (loop.time() - began) / POLL_S


async def test_a_reader_that_does_not_read_holds_one_batch(office: Office) -> None:
    office.claim()
    office.log(20 * EVENTS_AT_ONCE)
    stream = await office.stream()
    office.ledger.events_read = 0
    for _ in range(4):
        await following(stream)
    assert office.ledger.events_read == 1
    for _ in range(EVENTS_AT_ONCE):
        await following(stream)
    assert office.ledger.events_read == 2


@pytest.mark.parametrize("size", [BYTES_AT_ONCE // 4, BYTES_AT_ONCE])
async def test_a_reader_that_does_not_read_holds_few_large_events(
    office: Office, size: int
) -> None:
    office.claim()
    office.log(20, size)
    office.end()
    stream = await office.stream()
    office.ledger.events_read = 0
    blocks = [await following(stream)]
    while "event: log" not in blocks[-1]:
        blocks.append(await following(stream))
    assert office.ledger.events_read == 1
    blocks += [await following(stream) for _ in range(BYTES_AT_ONCE // size)]
    assert office.ledger.events_read == 2
    blocks += [block.decode() async for block in stream]
    kinds = [kind_of(block) for block in blocks if "event:" in block]
    assert kinds.count("log") == 20
    assert kinds[-1] == "done"


async def test_silence_is_broken_by_a_ping(office: Office) -> None:
    stream = await office.stream(poll_s=0.05, ping_s=0.05)
    blocks = [await following(stream) for _ in range(4)]
    assert blocks[2:] == [": ping\n\n"] * 2


async def test_a_gateway_that_ends_lets_its_readers_go(office: Office) -> None:
    stream = await office.stream()
    await following(stream)
    await following(stream)
    office.watchers.close()
    with pytest.raises(StopAsyncIteration):
        await following(stream)


async def test_while_the_ledger_is_away_the_stream_breaks_off(office: Office) -> None:
    stream = await office.stream()
    await following(stream)
    await following(stream)
    office.ledger.is_away = True
    office.claim()
    with pytest.raises(StopAsyncIteration):
        await following(stream)


async def test_who_leaves_is_forgotten(office: Office) -> None:
    stream = await office.stream()
    await following(stream)
    assert office.watchers._following
    await stream.aclose()
    assert not office.watchers._following
    assert not office.watchers._watching
