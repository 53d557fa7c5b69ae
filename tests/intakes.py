"""An intake whose announcements are kept: the real parts, without their connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from skipper.blobs import BlobStore
from skipper.ledger import tasks
from skipper.ledger.records import TaskBounds
from skipper.settings.model import Settings
from skipper.tasks.announcer import Announcer
from skipper.tasks.intake import Intake
from skipper.tasks.publisher import Publisher
from skipper.values.store import ValueStore
from skipper.wire.directory import Directory
from skipper.wire.messages import LinkRole
from tests.blocking import BlockingLedger

INLINE = 16
BOUNDS = TaskBounds(waiting=1000, stored=1 << 30)
POOLS = ("cpu", "gpu")


class Announcement(NamedTuple):
    """What a host or the broker was sent, and whether the ledger had it then."""

    how: str
    pool: str
    ids: tuple[str, ...]
    is_committed: bool


Keep = Callable[[str, str, Sequence[str]], None]


class KeptNudges(Directory):
    """The links to hosts that are not there."""

    def __init__(self, keep: Keep) -> None:
        super().__init__(Path("/nowhere"), POOLS, LinkRole.GATEWAY)
        self._keep = keep

    def nudge(self, pool: str, task_id: str) -> None:
        self._keep("nudge", pool, [task_id])


class KeptIds(Publisher):
    """A publisher that is never started."""

    def __init__(self, keep: Keep) -> None:
        super().__init__(Settings(project_dir=Path("/nowhere")))
        self._keep = keep

    def publish(self, pool: str, ids: Sequence[str]) -> None:
        self._keep("publish", pool, ids)


class Desk:
    """An intake on a real ledger and a real store."""

    def __init__(self, ledger: BlockingLedger, blobs: BlobStore) -> None:
        self.ledger, self.blobs = ledger, blobs
        self.announced: list[Announcement] = []
        self.announcer = Announcer(
            KeptNudges(self.keep).nudge,
            KeptIds(self.keep).publish,
        )
        self.intake = self.bound_by(BOUNDS)

    def bound_by(self, bounds: TaskBounds) -> Intake:
        """An intake that lets so much in."""
        return Intake(self.ledger, ValueStore(self.blobs, INLINE), self.announcer, bounds)

    def keep(self, how: str, pool: str, ids: Sequence[str]) -> None:
        """Keep what is announced."""
        found = [self.ledger.read_now(partial(tasks.get, task_id=id_)) for id_ in ids]
        self.announced.append(Announcement(how, pool, tuple(ids), None not in found))

    @property
    def nudged(self) -> list[str]:
        """The ids that hosts were nudged with."""
        return [id_ for each in self.announced if each.how == "nudge" for id_ in each.ids]

    @property
    def published(self) -> list[tuple[str, list[str]]]:
        """What the broker was given, by pool."""
        return [(each.pool, list(each.ids)) for each in self.announced if each.how == "publish"]
