"""Checkpoints of the task that an instance runs: into the store, known to the host, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from skipper.blobs import BlobStore, temporary_folder
from skipper.errors import FullError, NoRoomError, TooLargeError
from skipper.failpoints import failpoint
from skipper.function.run import Restored
from skipper.instance.caller import body_of
from skipper.instance.faults import shown
from skipper.instance.link import HostLink
from skipper.instance.models import LoadedModels
from skipper.instance.trees import FILE, FOLDER
from skipper.instance.wishes import (
    AnyWish,
    FindCheckpoints,
    KeepCheckpoint,
    KeptCheckpoint,
    KeptCheckpoints,
    RoomForCheckpoint,
)
from skipper.outcomes import Outcome
from skipper.values.store import is_for_want_of_room
from skipper.wire.calls import parse_reply
from skipper.wire.frames import FrameKind

MOST_FILES = 10_000
"""Of one checkpoint: the ledger has a row for each."""
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class CheckpointStore:
    """Where the checkpoints of an instance's tasks go. Any thread may use it."""

    link: HostLink
    models: LoadedModels
    blobs: BlobStore
    tmp_dir: Path

    def ask(self, question: AnyWish) -> bytes:
        """The host's answer. Raises FullError, and the error that its problem stands for."""
        id_ = self.link.ask(question.model_dump_json().encode(), FrameKind.WISH)
        payload = self.link.wait_for(id_).payload
        outcome, _, body = parse_reply(payload)
        if outcome == Outcome.BUSY:
            raise FullError(json.loads(body)["detail"])
        return body_of(payload)


class AttemptCheckpoints:
    """Those of one attempt. ``log`` takes lines for its task's log, with their level."""

    def __init__(
        self, store: CheckpointStore, task_id: str, log: Callable[[str, str], None]
    ) -> None:
        self._store, self._task_id, self._log = store, task_id, log
        self._folders: list[TemporaryDirectory[str]] = []

    def keep(self, value: Any, progress: dict[str, Any] | None) -> None:
        """Store a value, or what lies at a path, and return once it is on record.

        Raises FullError or NoRoomError where there is no room, FormatError, and what a plugin
        raises: then the one before is kept.
        """
        try:
            stored = self._stored(value)
        except OSError as error:
            if isinstance(error, ConnectionError) or not is_for_want_of_room(error):
                raise
            raise NoRoomError(f"the disk has no room for a checkpoint: {error.strerror}") from None
        failpoint("instance.checkpointed")
        wish = KeepCheckpoint(task_id=self._task_id, progress=progress, **stored._asdict())
        self._store.ask(wish)

    def _stored(self, value: Any) -> _Stored:
        """Put a value into the store, all of it touched just now."""
        blobs = self._store.blobs
        for _ in range(_TRIES):
            with temporary_folder(self._store.tmp_dir) as name:
                folder = Path(name)
                format_ = self._store.models.write(_as_path(value), folder, "a checkpoint")
                size = _size_of(folder)
                self._store.ask(RoomForCheckpoint(task_id=self._task_id, size=size))
                digest = blobs.put_folder(folder, adopts=True)
            refs = tuple(sorted(blobs.members(digest)))
            # A sweep may have taken some since they were put: nobody needed them when that looked.
            if all(blobs.touch(ref) for ref in refs):
                return _Stored(digest, format_, size, refs)
        raise FileNotFoundError(f"what is stored of the checkpoint {digest} goes again at once")

    # --- to go on from ---

    def restore(self) -> Restored | None:
        """The newest checkpoint of an earlier attempt that can be loaded; None where none can.

        The task's log is told which one it is, and of those that cannot. Raises UnavailableError
        while the host cannot look.
        """
        answer = self._store.ask(FindCheckpoints(task_id=self._task_id))
        for each in KeptCheckpoints.model_validate_json(answer).items:
            try:
                value = self._read(each)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the one before may be sound
                self._log(f"{_name(each)} cannot be loaded: {shown(error)}", "warning")
            else:
                self._log(f"goes on from {_name(each)}", "info")
                return Restored(value=value, progress=each.progress)
        return None

    def _read(self, kept: KeptCheckpoint) -> Any:
        if kept.format not in (FILE, FOLDER):
            return self._store.models.read(kept.format, kept.digest, _name(kept))
        # Where a model's path is read-only and shared, this is the run's own, to go on in.
        made = temporary_folder(self._store.tmp_dir)
        self._folders.append(made)
        folder = Path(made.name)
        self._store.blobs.get_folder(kept.digest, folder)
        return folder if kept.format == FOLDER else next(folder.iterdir())

    def close(self) -> None:
        """Remove what has been laid out for the attempt, which has ended."""
        for made in self._folders:
            made.cleanup()


class _Stored(NamedTuple):
    """A checkpoint in the store; ``refs`` are the blobs that it consists of."""

    digest: str
    format: str
    size: int
    refs: tuple[str, ...]


def _as_path(value: Any) -> Any:
    """The value; what stands for a path as one."""
    return Path(value) if isinstance(value, os.PathLike) else value


def _size_of(folder: Path) -> int:
    """Bytes of its files. Raises TooLargeError for too many of them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(files) > MOST_FILES:
        raise TooLargeError(f"a checkpoint has at most {MOST_FILES} files: pack them")
    return sum(path.stat().st_size for path in files)


def _name(kept: KeptCheckpoint) -> str:
    whose = f"attempt {kept.attempt}" if kept.attempt else "the task that this one repeats"
    return f"checkpoint {kept.number} of {whose}"
