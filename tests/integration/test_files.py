"""Uploaded files and the parts of tasks' values: what keeps a blob, and for how long."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from skipper.blobs import BlobStore
from skipper.errors import FullError, NoRoomError, UnavailableError
from skipper.ledger import files, retention, tasks, usage
from skipper.ledger.accepting import requeue
from skipper.ledger.records import Ending, FileRecord
from skipper.settings.model import FileSettings, TaskSettings
from skipper.spec import FunctionSpec
from skipper.task import State
from skipper.tasks.announcer import Announcer
from skipper.tasks.files import Files
from skipper.tasks.intake import Acceptance, Intake, Submission, bounds_of
from skipper.values.envelope import Envelope, Part, pack, unpack
from skipper.values.spool import Spool
from skipper.values.store import ValueStore
from tests.blocking import BlockingLedger
from tests.integration.ledgers import (
    HOST,
    accepted,
    claimed,
    ledger,
    module_ledger,
    new_task,
    place,
)

__all__ = ["ledger", "module_ledger", "place"]

SPEC = FunctionSpec.model_validate(
    {
        "name": "f.f",
        "kind": "data",
        "pool": "cpu",
        "file": "f.py",
        "line": 1,
        "code": "c0de",
        "input_schema": {},
        "output_schema": {},
    }
)

pytestmark = pytest.mark.services


class Office:
    """A store of values and of files on a ledger."""

    def __init__(self, ledger: BlockingLedger, folder: Path, quota_gb: float = 1.0) -> None:
        self.ledger, self.spool = ledger, Spool(folder / "spool")
        self.blobs = BlobStore(str(folder / "blobs"))
        self.values = ValueStore(self.blobs, 1024, self.spool)
        self.files = Files(ledger, self.values, FileSettings(quota_gb=quota_gb))

    def spooled(self, data: bytes, key: str = "#0") -> Part:
        with self.spool.create(is_hashed=True) as file:
            file.write(data)
            return Part(
                media_type="image/png",
                size=file.size,
                key=key,
                name="a.png",
                digest=file.digest,
                spool=file.kept(),
            )

    def intake(self) -> Intake:
        announcer = Announcer(lambda *_: None, None)
        return Intake(self.ledger, self.values, announcer, bounds_of(TaskSettings()))

    def unused(self, *refs: str) -> set[str]:
        return self.ledger.read_now(lambda conn: retention.unused(conn, refs))


@pytest.fixture
def office(ledger: BlockingLedger, tmp_path: Path) -> Office:
    return Office(ledger, tmp_path)


async def test_a_file_is_kept_and_found_in_the_bodies_that_name_it(office: Office) -> None:
    record = await office.files.add(office.spooled(b"x" * 5000))
    assert office.blobs.get(record.ref) == b"x" * 5000
    assert await office.files.get(record.id) == record
    body = json.dumps({"x": {"file": record.id}, "y": "file-" + "0" * 32}).encode()
    found = unpack(await office.files.resolve(body))
    assert found.json == body
    (part,) = found.parts
    assert (part.key, part.ref, part.size) == (record.id, record.ref, 5000)
    assert (part.media_type, part.name) == ("image/png", "a.png")
    assert office.unused(record.ref) == set()


async def test_a_body_that_names_no_file_stays_as_it_is(office: Office) -> None:
    for body in (b'{"x":1}', b'{"x":"file-"}', b'{"x":{"file":"file-%s"}}' % (b"f" * 32)):
        assert await office.files.resolve(body) == body


async def test_a_file_whose_blob_is_gone_is_not_there(office: Office) -> None:
    record = await office.files.add(office.spooled(b"lost"))
    office.blobs.delete(record.ref, time.time() + 60)
    body = json.dumps({"file": record.id}).encode()
    assert await office.files.resolve(body) == body


async def test_files_that_are_removed_or_expired_are_gone_and_free_their_blobs(
    office: Office,
) -> None:
    first, second = [await office.files.add(office.spooled(d)) for d in (b"one", b"two")]
    assert await office.files.remove(first.id)
    assert not await office.files.remove(first.id)
    assert await office.files.get(first.id) is None
    later = second.expires_at + 1
    assert office.ledger.write_now(lambda conn: files.expire(conn, later, 10)) == {second.ref}
    assert await office.files.get(second.id) is None
    assert office.unused(first.ref, second.ref) == {first.ref, second.ref}


async def test_an_expired_file_is_not_there_before_it_is_swept(office: Office) -> None:
    record = await office.files.add(office.spooled(b"old"))
    found = office.ledger.read_now(lambda conn: files.find(conn, [record.id], record.expires_at))
    assert found == []


async def test_content_that_two_files_share_stays_with_the_second(office: Office) -> None:
    first, second = [await office.files.add(office.spooled(b"same")) for _ in range(2)]
    assert first.ref == second.ref
    await office.files.remove(first.id)
    assert office.unused(first.ref) == set()


async def test_more_than_the_quota_is_refused(ledger: BlockingLedger, tmp_path: Path) -> None:
    office = Office(ledger, tmp_path, quota_gb=1e-6)  # 1,000 bytes
    await office.files.add(office.spooled(b"x" * 600))
    with pytest.raises(FullError, match=r"files\.quota_gb"):
        await office.files.add(office.spooled(b"y" * 600))
    record = FileRecord(
        id="file-" + "a" * 32,
        ref="0" * 64,
        size=600,
        media_type="a/b",
        name=None,
        created_at=0.0,
        expires_at=1.0,
    )
    assert not ledger.write_now(lambda conn: files.add(conn, record, 1000))


async def test_what_a_tasks_values_consist_of_stays_as_long_as_the_task(office: Office) -> None:
    body = pack(Envelope(json=b'{"x":{"file":"#0"}}', parts=(office.spooled(b"in" * 900),)))
    given = await office.values.store(body)
    result = await office.values.store(pack(Envelope(parts=(office.spooled(b"out" * 900),))))
    assert (len(given.refs), given.size) == (1, 1800 + len(b'{"x":{"file":"#0"}}'))
    new = new_task(input=given)
    office.ledger.write_now(lambda conn: tasks.accept(conn, new))
    claim = claimed(office.ledger, new.id)
    assert claim.input.inline is not None
    assert bytes(office.blobs.get(unpack(claim.input.inline).parts[0].ref or "")) == b"in" * 900
    ending = Ending(state=State.SUCCEEDED, result=result)
    now = time.time()
    office.ledger.write_now(
        lambda conn: tasks.finish(conn, new.id, claim.attempt, HOST, ending, now)
    )
    refs = {*given.refs, *result.refs}
    assert office.unused(*refs) == set()
    again = office.ledger.write_now(lambda conn: requeue(conn, new.id, now))
    assert again is not None
    pruned = office.ledger.write_now(lambda conn: retention.prune(conn, [new.id], now))
    assert set(pruned.refs) == set(result.refs)  # the input is another task's, too
    pruned = office.ledger.write_now(lambda conn: retention.prune(conn, [again.id], now))
    assert set(pruned.refs) == set(given.refs)
    assert office.ledger.read_now(usage.read) == 0


async def test_the_same_input_is_stored_the_same_wherever_it_came_from(office: Office) -> None:
    one, two = [
        await office.values.settle(pack(Envelope(json=b"{}", parts=(office.spooled(b"same"),))))
        for _ in range(2)
    ]
    assert one == two
    assert list(office.spool.folder.iterdir()) == []


async def test_tasks_without_parts_write_none(office: Office) -> None:
    task_id = accepted(office.ledger)
    pruned = office.ledger.write_now(lambda conn: retention.prune(conn, [task_id], 0.0))
    assert pruned.refs == ()


async def test_the_same_upload_under_the_same_key_is_the_same_task(office: Office) -> None:
    intake = office.intake()
    record = await office.files.add(office.spooled(b"kept"))

    async def accept(data: bytes) -> Acceptance:
        text = b'{"x":{"file":"#0"},"y":{"file":"%s"}}' % record.id.encode()
        body = await office.files.resolve(pack(Envelope(json=text, parts=(office.spooled(data),))))
        return await intake.accept(Submission(spec=SPEC, body=body, idempotency_key="k"))

    first = await accept(b"one" * 900)
    again = await accept(b"one" * 900)
    await office.files.remove(record.id)
    later, other = await accept(b"one" * 900), await accept(b"two" * 900)
    assert (first.is_new, again.is_new, other.is_new) == (True, False, False)
    assert {each.task.id for each in (first, again, later, other)} == {first.task.id}
    assert [each.matches for each in (again, later, other)] == [True, True, False]


class FullStore(BlobStore):
    """A store on a disk that is full, or broken."""

    number = errno.ENOSPC

    def adopt(self, file: Path, digest: str | None = None) -> str:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_an_input_for_which_there_is_no_room_is_refused(
    ledger: BlockingLedger, tmp_path: Path, number: int
) -> None:
    office = Office(ledger, tmp_path)
    store = FullStore(str(tmp_path / "full"))
    store.number = number
    office.values = ValueStore(store, 1024, office.spool)
    body = pack(Envelope(json=b"{}", parts=(office.spooled(b"in" * 900),)))
    with pytest.raises(UnavailableError, match="Its input cannot be stored: ") as caught:
        await office.intake().accept(Submission(spec=SPEC, body=body))
    assert isinstance(caught.value, NoRoomError) is (number != errno.EIO)
    assert ledger.read_now(usage.read) == 0
