"""Real instances and links whose other end the test plays: what they send is kept, not sent."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from skipper.instance.jobs import Job, JobKind, ModelRef, Report, SourceInfo, UnfitModel
from skipper.outcomes import Outcome
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import Candidate
from skipper.pool.processes.instance import C, Instance, InstanceOwner
from skipper.pool.processes.process import InstanceState, Lane
from skipper.pool.processes.version import Edition, FunctionVersion
from skipper.pool.serving import Follower, Serving, UnfitError
from skipper.spec import FunctionSpec
from skipper.values.envelope import Envelope, Part, pack
from skipper.values.spool import Spool
from skipper.wire import calls, frames
from skipper.wire.calls import CallHead
from skipper.wire.frames import Frame, FrameKind, FrameProtocol


class Kept(asyncio.Transport):
    """A transport that keeps the frames written to it."""

    def __init__(self, on_close: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._splitter, self._on_close = frames.Splitter(), on_close
        self.on_frame: Callable[[Frame], None] = lambda _: None
        self.frames: list[Frame] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for frame in self._splitter.feed(bytes(data)):
            self.frames.append(frame)
            self.on_frame(frame)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._on_close()

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Answer(NamedTuple):
    """What a caller was answered."""

    id: int
    outcome: Outcome
    value: Any
    """The value, or the problem's detail."""


class Caller:
    """A link of the pool: whoever sends calls."""

    def __init__(self) -> None:
        self.protocol = FrameProtocol(lambda *_: None, lambda _: None)
        self.transport = Kept()
        self.protocol.connection_made(self.transport)
        self.send = self.protocol.send
        self.discarded: list[bytes] = []
        """Replies that came too late."""

    def answer(self, id_: int, payload: bytes) -> None:
        self.send(FrameKind.REPLY, id_, payload)

    def discard(self, payload: bytes) -> None:
        self.discarded.append(payload)

    @property
    def answers(self) -> list[Answer]:
        found = []
        for frame in self.transport.frames:
            if frame.kind == FrameKind.REPLY:
                outcome, _, body = calls.parse_reply(frame.payload)
                value = json.loads(body)
                content = value if outcome == Outcome.OK else value["detail"]
                found.append(Answer(frame.id, Outcome(outcome), content))
        return found

    @property
    def outcomes(self) -> dict[int, Outcome]:
        """By the call's id; an id that is answered twice is a failure."""
        answers = self.answers
        assert len({answer.id for answer in answers}) == len(answers), answers
        return {answer.id: answer.outcome for answer in answers}

    @property
    def items(self) -> list[bytes]:
        return [frame.payload for frame in self.transport.frames if frame.kind == FrameKind.ITEM]


class Nobody:
    """An owner, a watch and an answerer of calls that let everything pass."""

    lane = Lane.READING

    def on_frame(self, *_: object) -> None: ...

    def on_printed(self, *_: object) -> None: ...

    def on_worn(self, _: object) -> None: ...

    def on_gone(self, _: object) -> None: ...

    def lend_slot(self) -> None: ...

    def take_back_slot(self) -> None: ...

    def threads_for(self, _: object) -> int | None:
        return None


class Played(Instance[C]):
    """An instance that has reported; the test says what its process does.

    The process ends when its host hangs up, unless it ``lingers``, and when it is killed.
    """

    def __init__(
        self,
        job: Job,
        owner: InstanceOwner[C],
        on_frame: Callable[[Frame], None] = lambda _: None,
        *,
        lingers: bool = False,
    ) -> None:
        super().__init__(job, owner, Nobody(), Nobody())
        self.lingers = lingers
        self.transport = Kept(self._hangs_up)
        self.protocol = FrameProtocol(self._frames, lambda _: self._hung_up(), self._connected)
        self.protocol.connection_made(self.transport)
        self.state = InstanceState.IDLE
        self.transport.frames.clear()  # its job
        self.transport.on_frame = on_frame
        self.signals: list[int] = []
        self._is_ending = False

    def signal(self, signum: int, *, group: bool = False) -> None:
        del group
        self.signals.append(signum)
        if signum == signal.SIGKILL and self.state is InstanceState.STOPPING:
            self._end_soon("its process was killed by SIGKILL")

    def _hangs_up(self) -> None:
        if not self.lingers:
            self._end_soon("its process exited with code 0")

    def _end_soon(self, reason: str) -> None:
        if not self._is_ending:
            self._is_ending = True
            asyncio.get_running_loop().call_soon(self.dies, reason)

    def says(self, kind: int, id_: int | None, payload: bytes = b"") -> None:
        """Its process sends a frame, of its oldest call if none is named."""
        id_ = next(iter(self.calls)) if id_ is None else id_
        self.protocol.data_received(frames.pack(kind, id_, payload))

    def replies(self, value: Any = None, id_: int | None = None) -> None:
        """Its process ends a call: the given one, else the oldest."""
        self.ends(calls.reply(Outcome.OK, b"c0de", json.dumps(value).encode()), id_)

    def ends(self, reply: bytes, id_: int | None = None) -> None:
        """Its process ends a call with this reply."""
        self.says(FrameKind.REPLY, id_, reply)

    def dies(self, reason: str = "its process was killed by SIGKILL") -> None:
        """Its process ends."""
        self._is_ending = True
        self.death_reason = self.death_reason or reason
        self._ended()

    @property
    def given(self) -> list[bytes]:
        """The bodies of the calls that were sent to it."""
        return [
            body_of(frame.payload)
            for frame in self.transport.frames
            if frame.kind == FrameKind.CALL
        ]

    @property
    def batches(self) -> list[list[bytes]]:
        """The bodies of the batches that were sent to it."""
        return [
            [body_of(call.payload) for call in frames.Splitter().feed(frame.payload)]
            for frame in self.transport.frames
            if frame.kind == FrameKind.BATCH
        ]

    @property
    def cancelled(self) -> list[int]:
        return [frame.id for frame in self.transport.frames if frame.kind == FrameKind.CANCEL]

    @property
    def is_stopped(self) -> bool:
        return self.state in (InstanceState.STOPPING, InstanceState.GONE)


class PlayedServing(Serving):
    """Starts played instances, when and as a test wants, with the ``models`` that are to serve.

    What is ``unfit`` does not load, and ``fallback`` serves in its place.
    """

    def __init__(self) -> None:
        self.models: tuple[ModelRef, ...] = ()
        self.fallback: tuple[ModelRef, ...] = ()
        self.unfit: set[str] = set()
        """Labels of versions that do not load."""
        self.canary: Candidate | None = None
        """What a part of the calls is to be served with."""
        self.condemned: set[str] = set()
        self.revision = b""
        """The deployments that functions follow."""
        self.may_retry = False
        self.gave_way: list[bool] = []
        """Of each start, whether nobody waited for it."""
        self.started: list[Played[Any]] = []
        self.kept = 1
        """How many editions stay loaded beside the one that serves."""
        self.untrained_detail = ""
        """Why nothing can be served for want of a model."""
        self.starts: asyncio.Semaphore | None = None
        """How many instances may become ready; None for any number."""
        self.report = Report()
        self.error: Exception | None = None
        self.dies_at_once = self.lingers = False
        self.sent = asyncio.Event()
        """Something has been sent to an instance."""
        self.announced = 0

    def tell(self, follower: Follower) -> None: ...

    async def learn(self, version: FunctionVersion) -> None: ...

    def edition(self, version: FunctionVersion) -> Edition:
        is_unfit = any(ref.label in self.condemned for ref in self.models)
        return Edition(version, self.fallback if is_unfit else self.models)

    def wanted(self, version: FunctionVersion) -> Edition:
        return Edition(version, self.models) if self.may_retry else self.edition(version)

    def keep(self, version: FunctionVersion) -> int:
        return self.kept

    def deployments(self, version: FunctionVersion) -> bytes:
        return self.revision

    def candidate(self, version: FunctionVersion) -> Candidate | None:
        canary = self.canary
        if canary is None or any(ref.label in self.condemned for ref in canary.refs):
            return None
        return canary

    def condemn(self, version: FunctionVersion, refs: Iterable[ModelRef], reason: str) -> None:
        self.condemned |= {ref.label for ref in refs}

    async def start(
        self, edition: Edition, owner: InstanceOwner[C], *, gives_way: bool = False
    ) -> tuple[Instance[C], Report]:
        report, error = self.report, self.error
        self.gave_way.append(gives_way)
        if self.starts is not None:
            await self.starts.acquire()
        if error is not None:
            raise error
        for ref in edition.models:
            if ref.label in self.unfit:
                self.condemned.add(ref.label)
                raise UnfitError(UnfitModel(ref=ref, reason="it is damaged"))
            self.condemned.discard(ref.label)
        instance = Played(
            job_of(edition.version).model_copy(update={"models": edition.models}),
            owner,
            lambda frame: self.on_sent(instance, frame),
            lingers=self.lingers,
        )
        self.started.append(instance)
        if self.dies_at_once:
            instance.dies()
        return instance, report

    def on_sent(self, instance: Played[Any], frame: Frame) -> None:
        """A frame has been sent to an instance."""
        self.sent.set()

    def untrained(self, version: FunctionVersion) -> str:
        return self.untrained_detail

    async def announce(self) -> None:
        self.announced += 1


def source_of(name: str = "f", code: str = "c0de", **given: Any) -> SourceInfo:
    values: dict[str, Any] = {
        "name": name,
        "file": Path(f"/project/functions/{name}.py"),
        "module": f"functions.{name}",
        "origin": "functions",
        "code": code,
        "libraries": (),
        "pools": ("cpu",),
    }
    known = SourceInfo.model_fields
    return SourceInfo(**{k: v for k, v in (values | given).items() if k in known})


def spec_of(name: str = "f.f", **given: Any) -> FunctionSpec:
    values: dict[str, Any] = {
        "kind": "inference",
        "file": f"/project/functions/{name.partition('.')[0]}.py",
        "line": 1,
        "code": "c0de",
        "input_schema": {},
        "output_schema": {},
    }
    return FunctionSpec(name=name, **(values | given))


def version_of(name: str = "f.f", **given: Any) -> FunctionVersion:
    spec = spec_of(name, **given)
    return FunctionVersion(spec, source_of(name.partition(".")[0], spec.code))


def job_of(version: FunctionVersion) -> Job:
    return Job(
        kind=JobKind.SERVE,
        project_dir=Path("/project"),
        source=version.source,
        function=version.name,
    )


def call_of(
    name: str = "f.f",
    body: bytes = b"",
    *,
    budget_ms: int = 60_000,
    depth: int = 0,
    flags: int = 0,
    key: str = "",
) -> bytes:
    return calls.call_head(CallHead(budget_ms, flags, depth, name, "req", key)) + body


def body_of(payload: bytes) -> bytes:
    _, at = calls.parse_call(payload)
    return payload[at:]


def counted(metrics: PoolMetrics) -> dict[str, int]:
    """Direct calls by how they ended."""
    totals: dict[str, int] = {}
    for each in metrics.snapshot(queued=0, instances=()).calls:
        totals[each.outcome] = totals.get(each.outcome, 0) + each.count
    return totals


def spooled_reply(spool: Spool, data: bytes = b"large") -> bytes:
    """A reply whose value lies in the spool."""
    part = Part(media_type="image/png", size=len(data), spool=spool.put(data))
    return calls.reply(Outcome.OK, b"c0de", pack(Envelope(parts=(part,))))


def left_in(spool: Spool) -> int:
    """How many files lie in the spool."""
    folder = spool.folder
    return len(list(folder.iterdir())) if folder.is_dir() else 0
