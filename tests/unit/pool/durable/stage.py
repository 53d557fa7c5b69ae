"""A durable lane on a real ledger, with instances that answer as a test wants."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.instance.jobs import Report
from skipper.ledger import tasks
from skipper.ledger.records import NewTask, Result
from skipper.outcomes import Outcome
from skipper.pool.catalogue import Catalogue
from skipper.pool.durable.ahead import ClaimedAhead
from skipper.pool.durable.attempt import LaneContext, RunningAttempt, RunningAttempts
from skipper.pool.durable.claimer import FRESH_S, Claimer
from skipper.pool.durable.gatekeeper import Gatekeeper
from skipper.pool.durable.journal import Journal
from skipper.pool.durable.lane import Patience, TaskLane
from skipper.pool.durable.publications import Publications
from skipper.pool.durable.recorder import Recorder
from skipper.pool.durable.reserve import Reserve
from skipper.pool.durable.shares import Shares
from skipper.pool.metrics import PoolMetrics
from skipper.pool.peers import Peers
from skipper.pool.processes.instance import C, Instance, InstanceOwner
from skipper.pool.processes.version import Edition, FunctionVersion
from skipper.pool.slots import Slots
from skipper.pool.trials import Trials
from skipper.settings.model import FileSettings
from skipper.spec import FunctionSpec
from skipper.task import Attempt as TaskAttempt
from skipper.task import State, Task, new_id
from skipper.tasks.files import Files
from skipper.tasks.watchers import Watchers
from skipper.values.spool import Spool
from skipper.values.store import ValueStore
from skipper.values.value import Value
from skipper.wire import calls
from skipper.wire.directory import Directory
from skipper.wire.events import SavedModel
from skipper.wire.frames import Frame, FrameKind
from skipper.wire.messages import LinkRole
from tests.blocking import BlockingLedger
from tests.unit.pool.played import Played, PlayedServing, source_of, spec_of

LIMIT_S = 10.0
SPEC = spec_of(kind="training")
INPUT = Value(inline=b"{}")
Actor = Played[RunningAttempt]
"""An instance of the lane: ``Stage.act`` says what it does when it is called."""


async def until(condition: Callable[[], object]) -> None:
    """Wait for what threads of the ledger do: there is no event to wait on."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.01)


class Moody(BlockingLedger):
    """A ledger that cannot be written ``away`` times."""

    away = 0

    on_claimed: Callable[[], None] | None = None
    """Runs between a claim's commit and its host's learning of it."""
    looks = 0

    async def merge(self, op: Any, item: Any, *, durable: bool = True) -> Any:
        if op is tasks.finish_all and self.away:
            self.away -= 1
            raise UnavailableError("The database cannot be reached")
        done = await super().merge(op, item, durable=durable)
        if op is tasks.claim_all and self.on_claimed is not None:
            self.on_claimed()
        return done

    async def read(self, op: Any) -> Any:
        self.looks += 1
        return await super().read(op)


class FullAtFirst(BlobStore):
    """A store on a disk that has no room ``refusals`` times."""

    refusals = 0

    def put(self, data: bytes) -> str:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().put(data)


class Recording(Watchers):
    """Watchers of tasks that keep which have changed."""

    def __init__(self, changes: list[str]) -> None:
        super().__init__()
        self._changes = changes

    def changed(self, ids: Iterable[str]) -> None:
        self._changes.extend(ids)


class PlayedTrials(Trials):
    """Trials whose outcome a test says."""

    def __init__(self) -> None:
        self.reason = ""
        self.tried: list[str] = []
        """The names of models."""
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def complaint(self, models: Sequence[SavedModel], trainer: FunctionVersion) -> str:
        self.tried += [model.name for model in models]
        await self.may_end.wait()
        return self.reason


class OneFunction(Catalogue):
    """A catalogue that knows one function by all names; a new version of it at every look."""

    def __init__(self) -> None:
        self.spec: FunctionSpec = SPEC
        self.found: Iterator[FunctionVersion] | None = None
        """The versions that are found one after the other, where they are to be known."""

    async def find(self, name: str) -> FunctionVersion | None:
        return next(self.found) if self.found else FunctionVersion(self.spec, source_of())


@dataclass(frozen=True, kw_only=True)
class Given:
    """How a stage differs from a host."""

    ahead_s: float = 0.02
    patience_s: float = 0.1
    """Of what is claimed ahead."""
    fresh_s: float = FRESH_S
    cores: int = 1
    slots: int = 1
    patience: Patience = field(default_factory=Patience)


class Stage(PlayedServing):
    """A lane with one slot, its ledger, and what the function does."""

    def __init__(self, ledger: Moody, folder: Path, given: Given) -> None:
        super().__init__()
        self.ledger, self.folder, self.functions = ledger, folder, OneFunction()
        self.act: Callable[[Actor], None] = Played.replies
        self.on_start: Callable[[Actor], None] = lambda _: None
        self.on_load: Callable[[], Awaitable[None]] | None = None
        """What happens before an instance is there."""
        self.changed: list[str] = []
        """Tasks of whose change those who watch them were notified."""
        self.blobs = FullAtFirst(str(folder / "blobs"))
        self.spool = Spool(folder / "spool")
        self.metrics = PoolMetrics()
        values = ValueStore(self.blobs, 1024, self.spool, room_s=0.0)
        self.context = context = LaneContext(
            pool="cpu",
            host_id="host-1",
            ledger=ledger,
            journal=Journal(ledger, lambda _: None),
            values=values,
            files=Files(ledger, values, FileSettings()),
            metrics=self.metrics,
            peers=Peers(self.functions, "host-1"),
            watchers=Recording(self.changed),
        )
        self.trials = PlayedTrials()
        self.ahead = ClaimedAhead(
            Slots(given.slots), ahead_s=given.ahead_s, patience_s=given.patience_s
        )
        self.running = RunningAttempts()
        self.claimer = Claimer(context, self.running, self.ahead, given.fresh_s)
        gatekeeper = Gatekeeper({}, Directory(folder, (), LinkRole.HOST))
        self.lane = TaskLane(
            context,
            self.claimer,
            Reserve(context, self.functions, self, Shares(given.cores, self.running, self.ahead)),
            Recorder(
                context,
                Publications(context, self, gatekeeper, self.trials, again_s=0.01),
                again_s=0.01,
            ),
            given.patience,
        )

    async def start(
        self, edition: Edition, owner: InstanceOwner[C], *, gives_way: bool = False
    ) -> tuple[Instance[C], Report]:
        if self.on_load is not None:
            await self.on_load()
        instance, report = await super().start(edition, owner, gives_way=gives_way)
        self.on_start(self.started[-1])
        return instance, report

    def on_sent(self, instance: Played[Any], frame: Frame) -> None:
        if frame.kind == FrameKind.CALL:
            asyncio.get_running_loop().call_soon(self.act, instance)

    @property
    def free(self) -> int:
        """Slots that a task could have at once."""
        return max(0, self.ahead.free)

    def accept(self, *, retries: int = 0, **given: Any) -> str:
        """Accept a task that the lane does not know of."""
        now = time.time()
        usual = {"function": "f.f", "kind": "training", "pool": "cpu", "input": INPUT}
        times = {"created_at": now, "available_at": now}
        new = NewTask(id=new_id(), max_attempts=retries + 1, **{**usual, **times, **given})
        self.ledger.write_now(lambda conn: tasks.accept(conn, new))
        return new.id

    def submit(self, **given: Any) -> str:
        """Accept a task and hand its id to the lane."""
        task_id = self.accept(**given)
        self.claimer.take([task_id], lambda: None)
        return task_id

    def attempts(self, id_: str) -> list[TaskAttempt]:
        return self.ledger.read_now(lambda conn: tasks.attempts(conn, id_))

    def task(self, id_: str) -> Task:
        return cast(Task, self.ledger.read_now(lambda conn: tasks.get(conn, id_)))

    async def until(self, id_: str, *states: State) -> Task:
        """The task, once it is in one of these states."""
        await until(lambda: self.task(id_).state in states)
        return self.task(id_)

    async def until_at_rest(self) -> None:
        """Wait until what follows a task is over, too."""
        await until(lambda: not self.running and self.claimer.is_at_rest)


@asynccontextmanager
async def staged(ledger_url: str, folder: Path, given: Given) -> AsyncIterator[Stage]:
    """A stage whose lane runs."""
    with Moody.open(ledger_url) as ledger:
        stage = Stage(ledger, folder, given)
        running = asyncio.create_task(stage.lane.run())
        yield stage
        running.cancel()


async def begun(stage: Stage, **task: Any) -> tuple[str, Actor]:
    """A task whose function is at work, and its instance."""
    actors: list[Actor] = []
    stage.act = actors.append
    task_id = stage.submit(**task)
    await until(lambda: actors)
    return task_id, actors[0]


def inline(result: Result) -> bytes:
    assert result.value is not None
    assert result.value.inline is not None
    return result.value.inline


def problem(outcome: Outcome, detail: str = "ValueError: no") -> bytes:
    return calls.problem(outcome, detail, b"c0de")
