"""A pool's socket, spoken to over real connections; the lanes behind it are played."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from skipper.errors import UnavailableError
from skipper.outcomes import Outcome
from skipper.pool.answers import Answers
from skipper.pool.catalogue import Catalogue
from skipper.pool.checks import CheckOrigin, InputChecks
from skipper.pool.direct.lane import DirectLane
from skipper.pool.durable.claimer import Claimer
from skipper.pool.links import Links, Peer, Receivers
from skipper.pool.metrics import PoolMetrics
from skipper.pool.peers import Peers
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.slots import Slots
from skipper.settings.model import Settings
from skipper.settings.pools import PoolSettings
from skipper.values.spool import Spool
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind, FrameProtocol
from skipper.wire.handshake import introduced
from skipper.wire.messages import (
    PROTOCOL,
    Answer,
    AnyQuestion,
    CancelAnswer,
    CancelTask,
    CatalogueSnapshot,
    GetMetrics,
    Hello,
    ModelsRenewed,
    RenewModels,
)
from tests.unit.pool.played import PlayedServing, call_of, left_in, spooled_reply, version_of

LIMIT_S = 30.0


class Tasks(Claimer):
    """Keeps what the durable lane is given."""

    def __init__(self) -> None:
        self.untaken: list[tuple[list[str], Callable[[], None]]] = []
        self.nudges: list[str] = []

    def take(self, ids: list[str], taken: Callable[[], None]) -> None:
        self.untaken.append((ids, taken))

    def nudge(self, task_id: str) -> None:
        self.nudges.append(task_id)


class Checks(InputChecks):
    """Answers each input that is to be checked with itself."""

    def __init__(self) -> None: ...

    def submit(self, origin: CheckOrigin, id_: int, payload: bytes) -> None:
        origin.answer(id_, payload)


class Held(Answers):
    """Answers as long as it may."""

    def __init__(self) -> None:
        self.asked: list[AnyQuestion] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def to(self, question: AnyQuestion) -> Answer:
        self.asked.append(question)
        await self.may_answer.wait()
        match question:
            case RenewModels():
                return ModelsRenewed()
            case CancelTask(task_id=task_id):
                return CancelAnswer(known=task_id == "known")
            case _:
                raise UnavailableError("nobody knows")


class Host:
    """The links of one pool and what stands behind them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers, self.tasks, self.serving = Held(), Tasks(), PlayedServing()
        self.catalogue = Catalogue(Settings(project_dir=path.parent), "cpu", Quarantine())
        self.peers = Peers(self.catalogue, "cpu-0")
        self.lane = DirectLane(PoolSettings(), Slots(2), self.serving, PoolMetrics())
        self.lane.assign(version_of())
        self.spool = Spool(path.parent / "spool")
        receivers = Receivers(
            direct=self.lane,
            claimer=self.tasks,
            checks=Checks(),
            answers=self.answers,
            spool=self.spool,
        )
        self.links = Links(path, self.peers, receivers)

    @property
    def served(self) -> CatalogueSnapshot:
        return self.catalogue.snapshot("cpu-0")


class Asker:
    """The other end of one link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._splitter = frames.Splitter()
        self._received: list[Frame] = []

    def send(self, kind: int, id_: int = 0, payload: bytes = b"") -> None:
        self._writer.write(frames.pack(kind, id_, payload))

    async def receive(self) -> Frame:
        async with asyncio.timeout(LIMIT_S):
            while not self._received:
                data = await self._reader.read(1 << 16)
                assert data, "the host hung up"
                self._received += self._splitter.feed(data)
        return self._received.pop(0)

    async def is_at_its_end(self) -> bool:
        """Whether the host hangs up, now or soon."""
        async with asyncio.timeout(LIMIT_S):
            with contextlib.suppress(ConnectionError):
                return not await self._reader.read()
        return True

    def hang_up(self) -> None:
        self._writer.close()


@pytest.fixture
def path() -> Iterator[Path]:
    """Short, since it is a socket's."""
    folder = Path(tempfile.mkdtemp(prefix="skp-"))
    yield folder / "cpu.sock"
    shutil.rmtree(folder)


@pytest.fixture
async def host(path: Path) -> AsyncIterator[Host]:
    made = Host(path)
    await made.links.open()
    yield made
    made.links.close()


async def connected(host: Host, hello: Hello | None) -> Asker:
    """A link over which both sides have introduced themselves."""
    asker = Asker(*await asyncio.open_unix_connection(host.path))
    if hello is not None:
        asker.send(FrameKind.HELLO, 0, hello.to_json())
    first = await asker.receive()
    assert introduced(first) == Hello(role="host", pid=os.getpid(), protocol=PROTOCOL)
    return asker


async def linked(host: Host, role: str) -> Asker:
    """A link whose asker knows what is served, if its role is to know."""
    asker = await connected(host, Hello(role=role, pid=1, protocol=PROTOCOL))
    if role in ("gateway", "host"):
        assert (await asker.receive()).kind == FrameKind.CATALOGUE
    return asker


async def settled(asker: Asker) -> None:
    """Everything that was sent before has been received by the host."""
    asker.send(FrameKind.ASK, 99, b"{}")
    while (await asker.receive()).id != 99:
        pass


def test_the_socket_is_this_users_alone_and_gone_afterwards(path: Path) -> None:
    path.write_text("left by a host that was killed")

    async def open_and_close() -> int:
        links = Host(path).links
        await links.open()
        mode = os.stat(path).st_mode  # noqa: PTH116 - a socket's, in no time
        links.close()
        return mode

    assert asyncio.run(open_and_close()) & 0o077 == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("role", "is_caller"), [("gateway", True), ("host", True), ("consumer", False)]
)
async def test_who_calls_functions_gets_what_is_served_at_once_and_at_every_change(
    host: Host, role: str, is_caller: bool
) -> None:
    asker = await linked(host, role)
    host.catalogue.loading = {"f"}
    await settled(asker)
    host.peers.publish_catalogue()
    asker.send(FrameKind.ASK, 1, b"{}")
    frame = await asker.receive()
    assert frame.kind == (FrameKind.CATALOGUE if is_caller else FrameKind.REFUSED)
    if is_caller:
        assert CatalogueSnapshot.parse(frame.payload) == host.served


async def test_a_new_link_gets_nothing_before_the_host_has_looked_for_models(host: Host) -> None:
    host.answers.may_answer.clear()
    asker = await connected(host, Hello(role="gateway", pid=1, protocol=PROTOCOL))
    async with asyncio.timeout(LIMIT_S):
        while not host.answers.asked:  # noqa: ASYNC110 - it comes over a socket
            await asyncio.sleep(0.005)
    assert host.answers.asked == [RenewModels()]
    host.peers.publish_catalogue()
    host.catalogue.loading = set()
    host.answers.may_answer.set()
    frame = await asker.receive()
    assert frame.kind == FrameKind.CATALOGUE
    assert CatalogueSnapshot.parse(frame.payload).loading == ()


async def test_a_new_link_does_not_wait_for_ever_for_models(host: Host) -> None:
    host.answers.may_answer.clear()
    await linked(host, "gateway")


async def test_a_call_is_answered_on_the_link_that_made_it(host: Host) -> None:
    first, second = await linked(host, "gateway"), await linked(host, "host")
    first.send(FrameKind.CALL, 7, call_of(body=b"first"))
    await settled(first)
    second.send(FrameKind.CALL, 7, call_of(body=b"second"))
    await settled(second)
    host.serving.started[0].replies("first")
    answer = await first.receive()
    assert (answer.kind, answer.id) == (FrameKind.REPLY, 7)
    assert calls.parse_reply(answer.payload)[2] == b'"first"'
    host.serving.started[0].replies("second")
    assert calls.parse_reply((await second.receive()).payload)[2] == b'"second"'


async def test_a_link_that_breaks_takes_its_calls_with_it(host: Host) -> None:
    leaving, staying = await linked(host, "gateway"), await linked(host, "gateway")
    for asker in (leaving, staying):
        asker.send(FrameKind.CALL, 1, call_of())
        await settled(asker)
    leaving.hang_up()
    async with asyncio.timeout(LIMIT_S):
        while not host.serving.started[0].cancelled:  # noqa: ASYNC110 - what comes over a socket
            await asyncio.sleep(0.001)
    host.serving.started[0].replies()
    assert host.serving.started[0].cancelled == [1]
    host.serving.started[0].replies("kept")
    assert calls.parse_reply((await staying.receive()).payload)[0] == Outcome.OK


async def test_a_cancel_and_room_for_items_reach_the_call_they_name(host: Host) -> None:
    asker = await linked(host, "gateway")
    asker.send(FrameKind.CALL, 7, call_of())
    await settled(asker)
    for kind in (FrameKind.CREDIT, FrameKind.CANCEL, FrameKind.CANCEL, FrameKind.CREDIT):
        asker.send(kind, 7)
        asker.send(kind, 8)
    await settled(asker)
    (instance,) = host.serving.started
    sent = [frame.kind for frame in instance.transport.frames if frame.kind != FrameKind.CALL]
    assert sent == [FrameKind.CREDIT, FrameKind.CANCEL]


async def test_a_message_is_acknowledged_when_its_ids_are_taken_and_not_before(host: Host) -> None:
    consumer = await linked(host, "consumer")
    consumer.send(FrameKind.TAKE, 1, b"a\nb")
    consumer.send(FrameKind.TAKE, 2, b"c")
    await settled(consumer)
    (first, one), (second, two) = host.tasks.untaken
    assert (first, second) == (["a", "b"], ["c"])
    two()
    assert await consumer.receive() == (FrameKind.TAKEN, 2, b"")
    one()
    assert await consumer.receive() == (FrameKind.TAKEN, 1, b"")


async def test_whether_a_consumer_is_linked_is_known(host: Host) -> None:
    gateway = await linked(host, "gateway")
    assert not host.peers.has_consumer
    consumer = await linked(host, "consumer")
    await settled(consumer)
    assert host.peers.has_consumer
    consumer.hang_up()
    async with asyncio.timeout(LIMIT_S):
        while host.peers.has_consumer:  # noqa: ASYNC110 - what comes over a socket
            await asyncio.sleep(0.001)
    await settled(gateway)


async def test_an_input_is_checked_on_the_link_that_asks(host: Host) -> None:
    asker = await linked(host, "gateway")
    asker.send(FrameKind.CHECK, 7, b"payload")
    while (frame := await asker.receive()).kind != FrameKind.REPLY:
        pass
    assert (frame.id, frame.payload) == (7, b"payload")


@pytest.mark.parametrize("role", ["gateway", "host", "scheduler"])
async def test_a_nudge_reaches_the_durable_lane(host: Host, role: str) -> None:
    asker = await linked(host, role)
    asker.send(FrameKind.NUDGE, 0, b"a-task")
    await settled(asker)
    assert host.tasks.nudges == ["a-task"]


@pytest.mark.parametrize("role", ["consumer", "scheduler"])
async def test_hints_of_changed_tasks_go_to_those_who_watch(host: Host, role: str) -> None:
    gateway, other = await linked(host, "gateway"), await linked(host, role)
    await settled(other)
    host.peers.publish_tasks(["a", "b"])
    host.peers.publish_tasks([])
    assert await gateway.receive() == (FrameKind.TASKS, 0, b"a\nb")
    other.send(FrameKind.ASK, 5, b"{}")
    assert (await other.receive()).id == 5


async def test_hints_of_new_events_go_to_gateways_alone(host: Host) -> None:
    gateway, other = await linked(host, "gateway"), await linked(host, "host")
    host.peers.publish_task_events(["a"])
    host.peers.publish_tasks(["b"])
    assert await gateway.receive() == (FrameKind.TASK_EVENTS, 0, b"a")
    assert await other.receive() == (FrameKind.TASKS, 0, b"b")


@pytest.mark.parametrize(
    ("payload", "kind", "answer"),
    [
        (CancelTask(task_id="known").to_json(), FrameKind.ANSWER, b'{"known":true}'),
        (RenewModels().to_json(), FrameKind.ANSWER, b"{}"),
        (GetMetrics().to_json(), FrameKind.REFUSED, b"nobody knows"),
        (b'{"what":"weather"}', FrameKind.REFUSED, b"a question that is none: "),
        (b'{"what":"models","since":1}', FrameKind.REFUSED, b"models.since: Extra inputs"),
        (b"{", FrameKind.REFUSED, b"a question that is none: Invalid JSON"),
    ],
)
async def test_a_question_is_answered_or_refused_with_the_reason(
    host: Host, payload: bytes, kind: int, answer: bytes
) -> None:
    asker = await linked(host, "gateway")
    asker.send(FrameKind.ASK, 5, payload)
    frame = await asker.receive()
    assert (frame.kind, frame.id) == (kind, 5)
    assert answer in frame.payload


async def test_what_does_not_speak_frames_is_hung_up_on_and_others_go_on(host: Host) -> None:
    garbage = await linked(host, "gateway")
    good = await linked(host, "gateway")
    garbage._writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await garbage.is_at_its_end()
    await settled(good)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\xff" * 10])
async def test_a_call_that_makes_no_sense_harms_nobody_else(host: Host, payload: bytes) -> None:
    odd, good = await linked(host, "gateway"), await linked(host, "gateway")
    odd.send(FrameKind.CALL, 1, payload)
    await settled(good)
    good.send(FrameKind.CALL, 1, call_of())
    await settled(good)
    host.serving.started[0].replies()
    assert (await good.receive()).kind == FrameKind.REPLY


# --- peers of other versions -----------------------------------------------------------------

OTHERS = [
    pytest.param(Hello(role="gateway", pid=1, protocol=PROTOCOL + 1), id="newer"),
    pytest.param(Hello(role="consumer", pid=1), id="without a number"),
    pytest.param(None, id="does not introduce itself"),
]


@pytest.mark.parametrize("hello", OTHERS)
async def test_a_peer_of_another_version_is_not_talked_to_and_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture, hello: Hello | None
) -> None:
    for _ in range(3):
        asker = await connected(host, hello)
        asker.send(FrameKind.CALL, 1, call_of())
        asker.send(FrameKind.ASK, 2, CancelTask(task_id="t").to_json())
        asker.send(FrameKind.TAKE, 3, b"a")
        asker.send(FrameKind.NUDGE, 0, b"a")
        assert await asker.is_at_its_end()
    assert (host.serving.started, host.answers.asked) == ([], [])
    assert (host.tasks.untaken, host.tasks.nudges) == ([], [])
    assert not host.peers.has_consumer
    (record,) = caplog.records
    number = hello.protocol if hello else 0
    assert f"speaks protocol {number}" in record.message
    assert f"this host protocol {PROTOCOL}" in record.message


async def test_why_there_is_no_consumer_is_known_until_there_is_one(host: Host) -> None:
    assert host.peers.consumer_problem == ""
    older = await connected(host, Hello(role="consumer", pid=1))
    assert await older.is_at_its_end()
    assert "the consumer (pid 1) speaks protocol 0" in host.peers.consumer_problem
    await settled(await linked(host, "consumer"))
    assert host.peers.consumer_problem == ""


def test_what_a_caller_that_has_left_was_to_be_sent_is_removed(path: Path) -> None:
    spool = Spool(path.parent / "spool")
    peer = Peer(FrameProtocol(lambda *_: None, lambda _: None), spool)
    peer.discard(spooled_reply(spool))
    peer.discard(calls.reply(Outcome.OK, b"", b"7"))
    peer.discard(calls.problem(Outcome.FAILED, "no"))
    assert left_in(spool) == 0
