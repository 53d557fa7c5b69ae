"""What is stored for nobody is found, and so is what a model lacks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from skipper.blobs import BlobStore
from skipper.ledger import Ledger, files, parts
from skipper.ledger.records import FileRecord
from skipper.settings.model import Settings
from skipper.values.spool import Spool
from skipper.values.value import Value
from tests.chaos.plan import Order, Upload, digest_of, echoes
from tests.chaos.storage import left_over, on_the_way


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(project_dir=tmp_path)
    settings.state_dir.mkdir()
    return settings


async def test_what_has_expired_and_what_was_never_needed_is_nothing_wrong(
    settings: Settings, tmp_path: Path
) -> None:
    blobs = BlobStore(settings.storage_url)
    blobs.put(b"of a task that was never accepted")
    record = FileRecord(
        id="file-" + "0" * 32,
        ref=blobs.put(b"a file"),
        size=6,
        media_type="a/b",
        name=None,
        created_at=time.time(),
        expires_at=time.time() + 60,
    )
    with Ledger.open(settings.database_url) as ledger:
        await ledger.write(lambda conn: files.add(conn, record, 100))
    assert await left_over(settings, tmp_path / "nothing") == []


async def test_a_blob_that_stays_though_its_task_has_gone_is_found(
    settings: Settings, tmp_path: Path
) -> None:
    ref = BlobStore(settings.storage_url).put(b"of a task that is no more")
    value = Value(inline=b"", refs=(ref,))
    with Ledger.open(settings.database_url) as ledger:
        await ledger.write(lambda conn: parts.add(conn, [("gone", "result", value)]))
    (violation,) = await left_over(settings, tmp_path / "nothing")
    assert violation.kind == "orphans"
    assert ref in violation.text


def test_what_is_left_on_the_way_is_found(settings: Settings) -> None:
    assert list(on_the_way(settings)) == []
    name = Spool(settings.spool_dir).put(b"left")
    (violation,) = on_the_way(settings)
    assert violation.kind == "orphans"
    assert name in violation.text


def test_a_file_comes_back_turned_around_or_not_at_all() -> None:
    upload = Upload(size=5000, is_kept=True)
    order = Order(key="k", function="chaos.carry", nonce="n", upload=upload)
    content = upload.content("n")
    assert echoes(digest_of(content[::-1]), order)
    for wrong in (content, content[:0:-1], upload.content("m")[::-1], b""):
        assert not echoes(digest_of(wrong), order)
