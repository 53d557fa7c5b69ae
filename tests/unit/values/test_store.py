import asyncio
import errno
import threading
from pathlib import Path

import pytest

from skipper.blobs import BlobStore
from skipper.values.envelope import Envelope, Part, pack, unpack
from skipper.values.spool import Spool
from skipper.values.store import LostValueError, ValueStore
from skipper.values.value import Value

INLINE = 16
SMALL, LARGE = b"x" * INLINE, b"x" * (INLINE + 1)


class Disk(BlobStore):
    """A store whose disk refuses so many writes, each with the next of these errors."""

    def __init__(self, folder: Path, *refusals: int) -> None:
        super().__init__(str(folder / "blobs"))
        self.refusals = list(refusals)

    def put(self, data: bytes) -> str:
        if self.refusals:
            raise OSError(self.refusals.pop(0), "no")
        return super().put(data)


async def test_a_small_value_is_inline_and_no_blob(tmp_path: Path) -> None:
    values = ValueStore(Disk(tmp_path), INLINE)
    assert await values.store(SMALL) == Value(inline=SMALL)
    assert not (tmp_path / "blobs").exists()


async def test_a_larger_one_is_a_blob(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    value = await ValueStore(disk, INLINE).store(LARGE)
    assert value.ref is not None
    assert disk.get(value.ref) == LARGE


@pytest.mark.parametrize("data", [b"", SMALL, LARGE])
async def test_what_was_stored_is_loaded_wherever_it_lies(tmp_path: Path, data: bytes) -> None:
    values = ValueStore(Disk(tmp_path), INLINE)
    value = await values.store(data)
    assert value.media_type == "application/json"
    assert await values.load(value) == data


class Watched(Disk):
    """A store that notes how many are read at once, each for as long as a test lets it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.now, self.most, self.go_on = 0, 0, threading.Event()
        self._lock = threading.Lock()

    def get(self, digest: str) -> bytes:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.go_on.wait(5)
        with self._lock:
            self.now -= 1
        return super().get(digest)


async def test_no_more_blobs_are_read_at_once_than_may_be(tmp_path: Path) -> None:
    disk = Watched(tmp_path)
    values = ValueStore(disk, INLINE, loads=2)
    value = await values.store(LARGE)
    loading = asyncio.gather(*(values.load(value) for _ in range(6)))
    while disk.now < 2:  # noqa: ASYNC110 - what threads do
        await asyncio.sleep(0.001)
    disk.go_on.set()
    assert await loading == [LARGE] * 6
    assert disk.most == 2


class Unreadable(Disk):
    """A store whose disk answers with an error."""

    def get(self, digest: str) -> bytes:
        raise OSError(errno.EIO, "Input/output error", f"/secret/{digest}")


async def test_a_value_that_cannot_be_had_is_told_to_the_log_and_to_whoever_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk, gone = Disk(tmp_path), "0" * 64
    damaged = disk.put(LARGE)
    path = tmp_path / "blobs" / damaged[:2] / damaged
    path.chmod(0o600)
    path.write_bytes(LARGE[:-1] + b"y")
    for store, ref, said, is_passing in (
        (disk, gone, "is no longer stored", False),
        (disk, damaged, "is damaged: what is stored is not what was written", False),
        (Unreadable(tmp_path), gone, "cannot be read: Input/output error", True),
    ):
        caplog.clear()
        with pytest.raises(LostValueError) as caught:
            await ValueStore(store, INLINE).load(Value(ref=ref))
        assert (str(caught.value), caught.value.is_passing) == (said, is_passing)
        [record] = caplog.records
        assert ref in record.message


async def test_a_full_disk_is_an_error_to_whoever_does_not_wait(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no"):
        await ValueStore(Disk(tmp_path, errno.ENOSPC), INLINE).store(LARGE)


async def test_whoever_waits_stores_it_once_there_is_room(tmp_path: Path) -> None:
    disk = Disk(tmp_path, errno.ENOSPC, errno.EDQUOT)
    value = await ValueStore(disk, INLINE, room_s=0.0).store_when_there_is_room(LARGE)
    assert disk.refusals == []
    assert value.ref is not None
    assert disk.get(value.ref) == LARGE


async def test_nobody_waits_for_a_disk_that_is_broken(tmp_path: Path) -> None:
    disk = Disk(tmp_path, errno.EIO)
    with pytest.raises(OSError, match="no"):
        await ValueStore(disk, INLINE, room_s=0.0).store_when_there_is_room(LARGE)


class FullBetween(BlobStore):
    """A store whose disk is full, once, when the second file is adopted."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.adopted = 0

    def adopt(self, file: Path, digest: str | None = None) -> str:
        self.adopted += 1
        if self.adopted == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().adopt(file, digest)


async def test_a_value_of_several_parts_waits_for_room_between_two_of_them(tmp_path: Path) -> None:
    spool, blobs = Spool(tmp_path / "spool"), FullBetween(str(tmp_path / "blobs"))
    parts = tuple(
        Part(media_type="image/png", size=3, key=f"#{number}", spool=spool.put(data))
        for number, data in enumerate((b"one", b"two"))
    )
    values = ValueStore(blobs, 1 << 20, spool, room_s=0.0)
    value = await values.store_when_there_is_room(pack(Envelope(json=b"[]", parts=parts)))
    assert value.inline is not None
    stored = [part.ref or "" for part in unpack(value.inline).parts]
    assert [blobs.get(ref) for ref in stored] == [b"one", b"two"]
    assert list((tmp_path / "spool").iterdir()) == []
