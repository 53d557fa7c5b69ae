import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.ledger import hosts, tasks
from skipper.ledger.connection import Connection
from skipper.ledger.records import Claiming, Ending, Finishing, HostRecord, NewTask
from skipper.scheduler import scheduler as schedulers
from skipper.scheduler.clock import CautiousClock
from skipper.scheduler.presence import SchedulerPresence
from skipper.scheduler.scheduler import REPUBLISH_S, Scheduler
from skipper.task import State, first_id
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.intakes import Desk


class Disk:
    """A ledger's, which may be full: nothing can be written then, and all be read."""

    def __init__(self, ledger: BlockingLedger) -> None:
        self._ledger = ledger
        self.is_full = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def write(self, *operation: Any, **how: Any) -> Any:
        if self.is_full:
            raise UnavailableError("The database takes no work: database or disk is full.")
        return await self._ledger.write(*operation, **how)


class Office(Desk):
    """A scheduler with a real ledger; what it announces is kept."""

    def __init__(self, ledger: BlockingLedger, blobs: BlobStore) -> None:
        super().__init__(ledger, blobs)
        self.ahead_s = 0.0
        """How far the wall clock that things expire by is ahead."""
        self.disk = Disk(ledger)
        self.presence = SchedulerPresence(cast(BlockingLedger, self.disk), Path("/project"))
        self.scheduler = Scheduler(
            ledger,
            self.intake,
            self.announcer,
            beat=self.presence.beat,
            clock=CautiousClock(lambda: time.time() + self.ahead_s),
        )

    def accept(
        self, *, pool: str = "cpu", age_s: float = 0.0, expires_in_s: float | None = None
    ) -> str:
        then = time.time() - age_s
        id_ = first_id(then)  # an id tells when its task was made
        new = NewTask(
            id=id_,
            function="f.f",
            kind="data",
            pool=pool,
            input=Value(inline=b"{}"),
            max_attempts=2,
            timeout_s=None,
            created_at=then,
            available_at=then,
            parent_id=None,
            depth=0,
            request_id=None,
            idempotency_key=None,
            idempotency_hash=None,
            expires_at=None if expires_in_s is None else then + expires_in_s,
        )
        self.ledger.write_now(lambda conn: tasks.accept_all(conn, [new]))
        return id_

    def claim(self, id_: str, host: str) -> None:
        claiming = Claiming(ids=(id_,), host=host, now=time.time())
        self.ledger.write_now(lambda conn: tasks.claim_all(conn, [claiming]))

    def finish(self, id_: str, host: str, ending: Ending, age_s: float = 0.0) -> None:
        done = Finishing(id=id_, attempt=1, host=host, ending=ending, now=time.time() - age_s)
        self.ledger.write_now(lambda conn: tasks.finish_all(conn, [done]))

    def register(self, host: str, pool: str = "cpu") -> None:
        record = HostRecord(id=host, pool=pool, machine="m", seat=host, started_at=time.time())
        self.ledger.write_now(lambda conn: hosts.register(conn, record))

    def state(self, id_: str) -> State:
        task = self.ledger.read_now(lambda conn: tasks.get(conn, id_))
        assert task is not None
        return task.state

    @property
    def ids(self) -> set[str]:
        """Everything that was published."""
        return {id_ for _, ids in self.published for id_ in ids}


@pytest.fixture
def office(ledger_url: str, tmp_path: Path) -> Iterator[Office]:
    with BlockingLedger.open(ledger_url) as ledger:
        yield Office(ledger, BlobStore(str(tmp_path / "blobs")))


async def test_only_what_nobody_has_claimed_for_a_while_is_published_again(office: Office) -> None:
    old, older = (office.accept(age_s=REPUBLISH_S + n) for n in (1, 2))
    fresh = office.accept()
    gpu = office.accept(pool="gpu", age_s=REPUBLISH_S + 1)
    await office.scheduler.round()
    assert office.ids == {old, older, gpu}
    assert fresh not in office.ids
    assert dict(office.published)["gpu"] == [gpu]
    assert set(office.nudged) == {older, gpu}  # one of each pool


async def test_it_is_not_published_again_in_the_next_round(office: Office) -> None:
    office.accept(age_s=REPUBLISH_S + 1)
    await office.scheduler.round()
    await office.scheduler.round()
    assert len(office.published) == 1


async def test_a_retry_that_is_due_is_queued_and_published(office: Office) -> None:
    office.register("host")
    ids = [office.accept() for _ in range(2)]
    for id_, retry_at in zip(ids, (time.time() - 1, time.time() + 3600), strict=True):
        office.claim(id_, "host")
        office.finish(id_, "host", Ending(state=State.FAILED, retry_at=retry_at))
    await office.scheduler.round()
    assert [office.state(id_) for id_ in ids] == [State.QUEUED, State.RETRYING]
    assert office.ids == {ids[0]}


async def test_the_tasks_of_a_lost_host_are_queued_and_published(office: Office) -> None:
    office.register("alive")
    office.register("dead")
    lost, kept = office.accept(), office.accept()
    office.claim(lost, "dead")
    office.claim(kept, "alive")
    seconds = iter(range(100))
    office.scheduler._pulse = schedulers.Pulse(lambda: float(next(seconds)))
    for _ in range(12):
        office.ledger.write_now(beat)
        await office.scheduler.round()
    assert (office.state(lost), office.state(kept)) == (State.QUEUED, State.RUNNING)
    assert office.ids == {lost}


async def test_nobody_is_lost_for_as_long_as_nothing_can_be_written(office: Office) -> None:
    """On a full disk for one: hosts cannot beat, though their counters can be read."""
    office.register("alive")
    seconds = iter(range(1000))
    office.scheduler._pulse = schedulers.Pulse(lambda: float(next(seconds)))
    await office.scheduler.round()
    held = office.accept()
    office.claim(held, "alive")
    office.disk.is_full = True
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await office.scheduler.round()
        next(seconds)
    office.disk.is_full = False
    for _ in range(5):
        await office.scheduler.round()
    assert office.state(held) is State.RUNNING


async def test_a_clock_that_jumps_ahead_expires_nothing(office: Office) -> None:
    waits = office.accept(expires_in_s=60.0)
    office.ahead_s = 86400.0
    await office.scheduler.round()
    assert office.state(waits) is State.QUEUED


def beat(conn: Connection) -> None:
    hosts.beat(conn, "alive")


async def test_tasks_of_a_host_that_nobody_knows_are_rescued_at_once(office: Office) -> None:
    id_ = office.accept()
    office.claim(id_, "never registered")
    await office.scheduler.round()
    assert office.state(id_) is State.QUEUED
    assert office.ids == {id_}


async def test_a_scheduler_beats_and_takes_the_place_of_the_last_one(office: Office) -> None:
    def beats() -> dict[str, int]:
        found = office.ledger.read_now(hosts.beats)
        return {beat.id: beat.counter for beat in found if beat.pool == hosts.SCHEDULER}

    await office.presence.beat()
    (first,) = beats()
    await office.presence.beat()
    assert beats() == {first: 1}
    again = SchedulerPresence(office.ledger, Path("/project"))
    await again.beat()
    assert len(beats()) == 1
    assert first not in beats()
    await again.leave()
    assert beats() == {}
