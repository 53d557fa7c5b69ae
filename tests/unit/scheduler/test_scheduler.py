import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.blobs import BlobStore
from skipper.ledger import Ledger, hosts, tasks
from skipper.ledger.connection import Connection
from skipper.ledger.records import Claiming, Ending, Finishing, HostRecord, NewTask
from skipper.scheduler import scheduler as schedulers
from skipper.scheduler.presence import Presence
from skipper.scheduler.scheduler import REPUBLISH_S, Scheduler, sweep_folder
from skipper.task import State, first_id


class Office:
    """A scheduler with a real ledger and real blobs; what it publishes is kept."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.blobs, self.folder = ledger, BlobStore(str(folder / "blobs")), folder
        self.published: list[tuple[str, list[str]]] = []
        self.presence = Presence(ledger, folder)
        self.scheduler = Scheduler(
            ledger,
            self.blobs,
            lambda pool, ids: self.published.append((pool, ids)),
            beat=self.presence.beat,
            retention_s=3600.0,
            tmp_dir=folder / "tmp",
        )

    def accept(self, *, pool: str = "cpu", age_s: float = 0.0, body_ref: str | None = None) -> str:
        then = time.time() - age_s
        id_ = first_id(then)  # an id tells when its task was made
        new = NewTask(
            id=id_,
            function="f.f",
            kind="data",
            pool=pool,
            body=None if body_ref else b"{}",
            body_ref=body_ref,
            max_attempts=2,
            timeout_s=None,
            created_at=then,
            available_at=then,
            parent_id=None,
            depth=0,
            request_id=None,
            idempotency_key=None,
            idempotency_hash=None,
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
    def heard(self) -> set[str]:
        """Everything that was published."""
        return {id_ for _, ids in self.published for id_ in ids}


@pytest.fixture
def office(ledger_url: str, tmp_path: Path) -> Iterator[Office]:
    with Ledger.open(ledger_url) as ledger:
        yield Office(ledger, tmp_path)


async def test_only_what_nobody_has_claimed_for_a_while_is_published_again(office: Office) -> None:
    old, older = (office.accept(age_s=REPUBLISH_S + n) for n in (1, 2))
    fresh = office.accept()
    gpu = office.accept(pool="gpu", age_s=REPUBLISH_S + 1)
    await office.scheduler.round()
    assert office.heard == {old, older, gpu}
    assert fresh not in office.heard
    assert dict(office.published)["gpu"] == [gpu]


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
    assert office.heard == {ids[0]}


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
    assert office.heard == {lost}


def beat(conn: Connection) -> None:
    hosts.beat(conn, "alive")


async def test_tasks_of_a_host_that_nobody_knows_are_rescued_at_once(office: Office) -> None:
    id_ = office.accept()
    office.claim(id_, "never registered")
    await office.scheduler.round()
    assert office.state(id_) is State.QUEUED
    assert office.heard == {id_}


async def test_what_is_older_than_retention_is_forgotten_with_what_it_stored(
    office: Office,
) -> None:
    ref = office.blobs.put(b"a large body")
    [file] = office.folder.rglob(ref)
    os.utime(file, (0, 0))
    old, fresh = office.accept(body_ref=ref, age_s=7300.0), office.accept()
    for id_, age_s in ((old, 7200.0), (fresh, 0.0)):
        office.claim(id_, "host")
        office.finish(id_, "host", Ending(state=State.SUCCEEDED, result=b"1"), age_s)
    await office.scheduler.round()
    assert office.ledger.read_now(lambda conn: tasks.get(conn, old)) is None
    assert office.state(fresh) is State.SUCCEEDED
    with pytest.raises(FileNotFoundError):
        office.blobs.get(ref)


class Sulking(BlobStore):
    """Storage that deletes nothing while it is away."""

    is_away = True

    def delete(self, digest: str, before: float) -> None:
        if self.is_away:
            raise OSError("no route to the bucket")
        super().delete(digest, before)


async def test_what_storage_does_not_delete_now_it_deletes_later(office: Office) -> None:
    office.scheduler._blobs = blobs = Sulking(str(office.folder / "blobs"))
    ref = blobs.put(b"a large body")
    [file] = office.folder.rglob(ref)
    os.utime(file, (0, 0))
    old = office.accept(body_ref=ref, age_s=7300.0)
    office.claim(old, "host")
    office.finish(old, "host", Ending(state=State.SUCCEEDED, result=b"1"), 7200.0)
    await office.scheduler.round()
    assert blobs.get(ref) == b"a large body"
    blobs.is_away = False
    office.scheduler._next_prune = 0.0
    await office.scheduler.round()
    with pytest.raises(FileNotFoundError):
        blobs.get(ref)


async def test_a_scheduler_beats_and_takes_the_place_of_the_last_one(office: Office) -> None:
    def beats() -> dict[str, int]:
        found = office.ledger.read_now(hosts.beats)
        return {beat.id: beat.counter for beat in found if beat.pool == hosts.SCHEDULER}

    await office.presence.beat()
    (first,) = beats()
    await office.presence.beat()
    assert beats() == {first: 1}
    again = Presence(office.ledger, office.folder)
    await again.beat()
    assert len(beats()) == 1
    assert first not in beats()
    await again.leave()
    assert beats() == {}


def test_only_what_is_old_is_swept_out_of_a_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    os.utime(tmp_path / "old", (1, 1))
    sweep_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    sweep_folder(tmp_path / "none")
