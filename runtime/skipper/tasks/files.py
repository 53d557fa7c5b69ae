"""Uploaded files: kept in the store until they expire, and found in the bodies that name them."""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial

from skipper.errors import FullError
from skipper.ledger import Ledger, files
from skipper.ledger.records import FileRecord
from skipper.settings.model import FileSettings
from skipper.values.envelope import Part, as_envelope, file_ids, is_envelope, with_files
from skipper.values.store import ValueStore

MOST_FILES = 1000
"""Files that one body may name; the rest are as those that do not exist."""


class Files:
    """The files of a project. All methods raise SkipperError where the ledger is away."""

    def __init__(self, ledger: Ledger, values: ValueStore, settings: FileSettings) -> None:
        self._ledger, self._values = ledger, values
        self._most = int(settings.quota_gb * 1e9)
        self._lasts_s = settings.expire_days * 86400.0

    async def add(self, part: Part) -> FileRecord:
        """Keep what has been written to the spool, or stored, as a file with an id of its own.

        Raises FullError where all files would have more bytes than are to be kept, OSError.
        """
        await self.check_room(part.size)
        ref = part.ref
        if ref is None:
            assert part.spool is not None
            path = self._values.spool.path(part.spool)
            ref = await asyncio.to_thread(self._values.blobs.adopt, path, part.digest)
        now = time.time()
        record = FileRecord(
            id=f"file-{secrets.token_hex(16)}",
            ref=ref,
            size=part.size,
            media_type=part.media_type,
            name=part.name,
            created_at=now,
            expires_at=now + self._lasts_s,
        )
        if not await self._ledger.write(partial(files.add, record=record, most=self._most)):
            raise self._full()
        return record

    async def check_room(self, size: int) -> None:
        """Raise FullError where a file of this size would be refused as it looks now."""
        if await self._ledger.read(files.stored) + size > self._most:
            raise self._full()

    def _full(self) -> FullError:
        return FullError(
            f"Files take {self._most / 1e9:g} GB already (files.quota_gb); they go after "
            "files.expire_days, or when they are deleted."
        )

    async def get(self, file_id: str) -> FileRecord | None:
        """A file; None where there is none of this id any more."""
        found = await self._found({file_id})
        return found[0] if found else None

    async def remove(self, file_id: str) -> bool:
        """Forget a file; whether there was one. Tasks that were given it keep its content."""
        return await self._ledger.write(partial(files.remove, file_id=file_id)) is not None

    async def resolve(self, body: bytes) -> bytes:
        """``body``, with the files that its JSON names among its parts, as far as they are there.

        Which means that they stay, for a while, whatever becomes of the files.
        """
        text = as_envelope(body).json or b"" if is_envelope(body) else body
        if not (ids := file_ids(text)):
            return body
        records = await self._found(set(sorted(ids)[:MOST_FILES]))
        refs = {record.ref for record in records}
        kept = {ref for ref in refs if await asyncio.to_thread(self._values.blobs.touch, ref)}
        return with_files(body, [_part(each) for each in records if each.ref in kept])

    async def _found(self, ids: set[str]) -> list[FileRecord]:
        return await self._ledger.read(partial(files.find, ids=ids, now=time.time()))


def _part(record: FileRecord) -> Part:
    return Part(
        media_type=record.media_type,
        size=record.size,
        key=record.id,
        name=record.name,
        ref=record.ref,
    )
