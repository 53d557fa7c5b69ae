"""What is forgotten, and what is kept, by a real ledger and a real store of blobs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from skipper.blobs import SETTLES_S, BlobStore, DamagedError
from skipper.ledger import checkpoints, events, files, models, retention, shelf, tasks
from skipper.ledger.records import (
    CheckpointBounds,
    Ending,
    FileRecord,
    Fitness,
    Keeping,
    ModelVersionNew,
    NewCheckpoint,
    NewEvent,
)
from skipper.scheduler import pruning
from skipper.scheduler.clock import CautiousClock
from skipper.scheduler.pruning import LEFT_S, YOUNG_S, Pruner, sweep_folder
from skipper.scheduler.shelves import Shelves
from skipper.settings.models import ModelSettings
from skipper.task import State, first_id
from skipper.values.value import Value
from skipper.wire.directory import Directory
from skipper.wire.messages import LinkRole, ListedFunction
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    HOST,
    INPUT,
    accepted,
    claimed,
    ledger,
    module_ledger,
    new_task,
    place,
)
from tests.unit.gateway.played import SPEC

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services
KEPT_S = 3600.0
ONE = CheckpointBounds(each=1, stored=1000)


class PlayedDirectory(Directory):
    """Knows of functions that pin models; ``reads`` are the files that are still read."""

    def __init__(self) -> None:
        super().__init__(Path(), (), LinkRole.SCHEDULER)
        self.pins: list[str] = []
        self.reads: list[str] = []

    def functions(self) -> list[ListedFunction]:
        return [
            ListedFunction(spec=SPEC.model_copy(update={"models": (text,)})) for text in self.pins
        ]

    def loading(self) -> list[str]:
        return self.reads


class Archive:
    """A pruner, and the tasks and blobs that it finds."""

    def __init__(self, ledger: BlockingLedger, folder: Path) -> None:
        self.ledger, self._folder = ledger, folder / "blobs"
        self.blobs = BlobStore(str(self._folder))
        self.ahead_s = 0.0
        """How far the wall clock is ahead."""
        self.directory = PlayedDirectory()
        self._pruner = Pruner(
            ledger,
            self.blobs,
            retention_s=KEPT_S,
            checkpoints_s=KEPT_S / 2,
            tmp_dir=folder / "tmp",
            clock=CautiousClock(lambda: time.time() + self.ahead_s),
            shelves=Shelves(ledger, self.directory, {"kept": ModelSettings(keep_versions=2)}),
        )

    async def round(self) -> bool:
        return await self._pruner.round()

    async def sweep(self, *refs: str) -> None:
        """The rounds that come to the parts of the store where these blobs lie."""
        for ref in refs:
            self._pruner._shard = int(ref[:2], 16)
            assert not await self.round()

    def put(self, data: bytes, *, age_s: float = 0.0) -> str:
        ref = self.blobs.put(data)
        self.age(ref, age_s)
        return ref

    def age(self, ref: str, age_s: float) -> None:
        then = time.time() - age_s
        os.utime(self.path(ref), (then, then))

    def path(self, ref: str) -> Path:
        return self._folder / ref[:2] / ref

    def holds(self, ref: str) -> bool:
        return self.path(ref).exists()

    def task(
        self,
        *,
        age_s: float,
        body: str | None = None,
        result: str | None = None,
        part: str | None = None,
        lines: int = 1,
    ) -> str:
        """A task that said something and ended so long ago; its input has the blob ``part``."""
        then = time.time() - age_s
        task_id = first_id(then - 1)[:10] + os.urandom(8).hex()
        given = Value(ref=body) if body else INPUT
        new = new_task(id=task_id, input=Value(inline=b"", refs=(part,)) if part else given)
        self.ledger.write_now(lambda conn: tasks.accept(conn, new), durable=False)
        claim = claimed(self.ledger, task_id)
        ending = Ending(
            state=State.SUCCEEDED, result=Value(ref=result) if result else Value(inline=b"1")
        )
        self.ledger.write_now(
            lambda conn: tasks.finish(conn, task_id, claim.attempt, HOST, ending, then),
            durable=False,
        )
        rows = [
            NewEvent(task_id=task_id, attempt=1, number=n, at=then, type="log", data={})
            for n in range(1, lines + 1)
        ]
        self.ledger.record_now(lambda conn: events.append(conn, rows))
        return task_id

    def file(self, ref: str, *, expired_s: float) -> None:
        """An uploaded file whose time came so long ago."""
        record = FileRecord(
            id=f"file-{os.urandom(16).hex()}",
            ref=ref,
            size=1,
            media_type="a/b",
            name=None,
            created_at=0.0,
            expires_at=time.time() - expired_s,
        )
        assert self.ledger.write_now(lambda conn: files.add(conn, record, 1000))

    def publish(self, digest: str, name: str = "m") -> None:
        """Have a running task publish a model."""
        task_id = claimed(self.ledger, accepted(self.ledger)).task.id
        new = ModelVersionNew(
            name=name,
            digest=digest,
            format="f",
            task_id=task_id,
            attempt=1,
            host=HOST,
            function="f.f",
            created_at=time.time(),
        )
        assert self.ledger.write_now(lambda conn: models.publish(conn, new), durable=False)

    def knows(self, task_id: str) -> bool:
        return self.ledger.read_now(lambda conn: tasks.get(conn, task_id)) is not None

    def lines(self, task_id: str) -> int:
        found = self.ledger.read_events_now(lambda conn: events.after(conn, task_id, 0, 99).events)
        return len(found)


@pytest.fixture
def archive(ledger: BlockingLedger, tmp_path: Path) -> Archive:
    return Archive(ledger, tmp_path)


async def test_the_blobs_of_a_removed_version_go_but_for_what_others_consist_of(
    archive: Archive, tmp_path: Path
) -> None:
    members = []
    for number in range(3):
        folder = tmp_path / f"model-{number}"
        folder.mkdir()
        (folder / "weights").write_bytes(f"w{number}".encode())
        (folder / "labels").write_bytes(b"the same")
        digest = archive.blobs.put_folder(folder)
        archive.publish(digest)
        members.append(archive.blobs.members(digest))
    refs = frozenset[str]().union(*members)
    for ref in refs:
        archive.age(ref, LEFT_S + 60)
    await archive.sweep(*refs)
    assert all(map(archive.holds, refs))
    keeping = Keeping(versions=1, since=None, why="ops has kept the newest 1 only")
    cleared = archive.ledger.write_now(lambda conn: shelf.clear(conn, "m", keeping, []))
    assert (cleared.removed, cleared.held) == ((1,), {2: "previous", 3: "production"})
    await archive.sweep(*refs)
    assert set(filter(archive.holds, refs)) == members[1] | members[2]
    assert members[0] & members[1], "they share a file"


async def test_versions_that_the_settings_do_not_keep_go_but_for_those_that_are_held(
    archive: Archive, tmp_path: Path
) -> None:
    def shelved() -> list[int]:
        found, _ = archive.ledger.read_now(lambda conn: models.versions(conn, "kept", 10))
        return [each.version for each in found if each.state is not Fitness.REMOVED]

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w")
    digest = archive.blobs.put_folder(tmp_path / "model")
    for _ in range(5):
        archive.publish(digest, "kept")
    archive.directory.reads, archive.directory.pins = ["boston"], ["kept@2", "kept", "m@1"]
    await archive.round()
    assert shelved() == [5, 4, 3, 2, 1], "a file that is still read may pin any"
    archive.directory.reads = []
    await archive.round()
    assert shelved() == [5, 4, 2]
    removed = archive.ledger.read_now(lambda conn: models.get(conn, "kept", 1))
    assert removed is not None
    assert removed.reason == "[models.kept] has kept the newest 2 only"
    archive.directory.pins = []
    await archive.round()
    assert shelved() == [5, 4]


async def test_an_old_task_goes_with_all_that_it_stored_and_said(archive: Archive) -> None:
    body, result = archive.put(b"in", age_s=9e4), archive.put(b"out", age_s=9e4)
    old = archive.task(age_s=KEPT_S + 10, body=body, result=result, lines=5)
    young = archive.task(age_s=KEPT_S - 10, lines=5)
    await archive.round()
    assert (archive.knows(old), archive.lines(old)) == (False, 0)
    assert (archive.knows(young), archive.lines(young)) == (True, 5)
    assert archive.ledger.read_now(lambda conn: retention.is_gone(conn, old))
    assert not archive.holds(body)
    assert not archive.holds(result)


async def test_a_clock_that_jumps_ahead_takes_nothing_with_it(archive: Archive) -> None:
    result = archive.put(b"out", age_s=60.0)
    ended = archive.task(age_s=60.0, result=result)
    left = archive.put(b"left", age_s=60.0)
    archive.ahead_s = 10 * LEFT_S
    await archive.sweep(result, left)
    assert archive.knows(ended)
    assert archive.holds(result)
    assert archive.holds(left)


async def test_what_another_task_refers_to_stays(archive: Archive) -> None:
    shared = archive.put(b"in", age_s=9e4)
    archive.task(age_s=KEPT_S + 10, body=shared)
    archive.task(age_s=0, body=shared)
    await archive.sweep(shared)
    assert archive.holds(shared)


async def test_an_expired_file_goes_with_its_content_unless_somebody_else_has_it(
    archive: Archive,
) -> None:
    alone, shared, given = [archive.put(each, age_s=9e4) for each in (b"1", b"2", b"3")]
    archive.file(alone, expired_s=YOUNG_S + 10)
    archive.file(shared, expired_s=YOUNG_S + 10)
    archive.file(shared, expired_s=-60)
    archive.file(given, expired_s=YOUNG_S + 10)
    archive.task(age_s=0, part=given)
    await archive.round()
    assert not archive.holds(alone)
    assert archive.holds(shared)
    assert archive.holds(given)


async def test_what_a_task_was_given_goes_with_the_last_of_task_and_file(archive: Archive) -> None:
    lone, kept = archive.put(b"1", age_s=9e4), archive.put(b"2", age_s=9e4)
    archive.file(kept, expired_s=-60)
    for ref in (lone, kept):
        archive.task(age_s=KEPT_S + 10, part=ref)
    await archive.round()
    assert not archive.holds(lone)
    assert archive.holds(kept)


async def test_a_file_that_has_just_expired_is_kept_for_whoever_was_given_it(
    archive: Archive,
) -> None:
    ref = archive.put(b"1", age_s=9e4)
    archive.file(ref, expired_s=YOUNG_S - 60)
    await archive.sweep(ref)
    assert archive.holds(ref)


async def test_what_is_also_a_part_of_a_model_stays(archive: Archive, tmp_path: Path) -> None:
    """Blobs are named by their content: a result may be the very file of a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.json").write_bytes(b"[1, 2, 3]")
    digest = archive.blobs.put_folder(folder)
    archive.publish(digest)
    file = hashlib.sha256(b"[1, 2, 3]").hexdigest()
    for ref in (digest, file):
        archive.age(ref, 9e5)
    archive.task(age_s=KEPT_S + 10, body=file, result=digest)
    await archive.sweep(file, digest)
    assert archive.holds(file)
    assert archive.holds(digest)


async def test_more_than_one_batch_is_a_matter_of_several_rounds(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    monkeypatch.setattr(pruning, "EVENTS_BATCH", 3)
    old = [archive.task(age_s=KEPT_S + 10, lines=4) for _ in range(5)]
    assert [await archive.round() for _ in range(3)] == [True, True, False]
    assert not any(map(archive.knows, old))
    assert not any(map(archive.lines, old))


async def test_a_blob_whose_task_never_came_to_be_goes_in_the_end(archive: Archive) -> None:
    left, fresh = archive.put(b"left", age_s=LEFT_S + 60), archive.put(b"fresh", age_s=LEFT_S - 60)
    needed = archive.put(b"needed", age_s=LEFT_S + 60)
    archive.task(age_s=0, result=needed)
    await archive.sweep(left, fresh, needed)
    assert not archive.holds(left)
    assert archive.holds(fresh)
    assert archive.holds(needed)


async def test_the_parts_of_a_model_that_was_never_published_go_in_the_end(
    archive: Archive, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"heavy")
    digest = archive.blobs.put_folder(folder)
    refs = [digest, hashlib.sha256(b"heavy").hexdigest()]
    for ref in refs:
        archive.age(ref, LEFT_S + 60)
    await archive.sweep(*refs)
    assert not any(map(archive.holds, refs))


async def test_a_blob_that_has_just_been_put_again_is_not_taken_with_its_old_task(
    archive: Archive,
) -> None:
    body = archive.put(b"in", age_s=YOUNG_S - 60)
    archive.task(age_s=KEPT_S + 10, body=body)
    await archive.sweep(body)
    assert archive.holds(body)


async def test_while_a_model_cannot_be_read_no_blob_is_deleted(archive: Archive) -> None:
    digest = archive.put(b"no manifest at all")
    archive.publish(digest)
    archive.path(digest).chmod(0o600)
    archive.path(digest).write_bytes(b"damaged")
    left = archive.put(b"left", age_s=LEFT_S + 60)
    with pytest.raises(DamagedError):
        await archive.sweep(left)
    assert archive.holds(left)


class Broken(BlobStore):
    """A store on a disk that is gone; ``on_use`` runs when somebody looks."""

    on_use: Callable[[], object] = staticmethod(lambda: None)

    def shard(self, number: int) -> list[str]:
        self.on_use()
        raise OSError(f"part {number} is on a disk that is gone")


async def test_what_fails_is_told_and_does_not_end_the_process(
    ledger: BlockingLedger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs, stopping = Broken(str(tmp_path)), asyncio.Event()
    blobs.on_use = partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
    pruner = Pruner(
        ledger,
        blobs,
        retention_s=KEPT_S,
        checkpoints_s=KEPT_S,
        tmp_dir=tmp_path,
        clock=CautiousClock(),
        shelves=Shelves(ledger, PlayedDirectory(), {}),
    )
    await asyncio.wait_for(pruner.run(stopping), 30)
    assert "a disk that is gone" in caplog.text


def test_only_what_is_old_is_swept_out_of_a_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    os.utime(tmp_path / "old", (1, 1))
    sweep_folder(tmp_path, 1000.0)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    sweep_folder(tmp_path / "none", 1000.0)


async def test_a_checkpoint_that_nobody_needs_goes_with_its_content(archive: Archive) -> None:
    first, second, shared = [archive.put(each, age_s=9e4) for each in (b"1", b"2", b"3")]
    claim = claimed(archive.ledger, accepted(archive.ledger))
    long_ago = time.time() - 2 * SETTLES_S
    for refs in ((first, shared), (second, shared)):
        new = NewCheckpoint(
            task_id=claim.task.id,
            attempt=1,
            host=HOST,
            digest=refs[0],
            format="f",
            size=1,
            refs=refs,
            at=long_ago,
        )
        archive.ledger.write_now(lambda conn, new=new: checkpoints.keep(conn, new, ONE))  # type: ignore[misc]  # binds the loop's value
    await archive.sweep(first, second, shared)
    assert [archive.holds(each) for each in (first, second, shared)] == [False, True, True]


async def test_a_checkpoint_that_was_put_again_just_now_stays(archive: Archive) -> None:
    ref = archive.put(b"1")
    claim = claimed(archive.ledger, accepted(archive.ledger))
    new = NewCheckpoint(
        task_id=claim.task.id,
        attempt=1,
        host=HOST,
        digest=ref,
        format="f",
        size=1,
        refs=(ref,),
        at=time.time() - 2 * SETTLES_S,
    )
    for digest in (ref, "other"):
        each = replace(new, digest=digest, refs=(digest,))
        archive.ledger.write_now(lambda conn, each=each: checkpoints.keep(conn, each, ONE))  # type: ignore[misc]  # binds the loop's value
    await archive.round()
    assert archive.holds(ref)
