"""Links to hosts that come and go: what is known of their functions meanwhile."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.errors import UnavailableError
from skipper.outcomes import Outcome
from skipper.spec import FunctionSpec, Kind
from skipper.wire import calls, frames
from skipper.wire import link as links
from skipper.wire.directory import Directory
from skipper.wire.frames import Frame, FrameProtocol
from skipper.wire.link import LATE_S, SLOW_S, PendingCall

LIMIT_S = 30.0
SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.DATA,
    file="f.py",
    line=1,
    code="c0de",
    input_schema={},
    output_schema={},
)


class StandIn:
    """A host that says what it is told to say. Leaves as one that is killed does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._links: list[FrameProtocol] = []
        self._server: asyncio.AbstractServer | None = None
        self.catalogue: dict[str, Any] = {"loading": ["*"], "functions": [], "broken": []}
        self.heard: list[Frame] = []

    async def come(self, **catalogue: Any) -> None:
        self.catalogue = {"loading": [], "functions": [], "broken": []} | catalogue
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: FrameProtocol(self._frames, lambda _: None, self._links.append), self._path
        )

    def say(self, **catalogue: Any) -> None:
        self.catalogue |= catalogue
        for link in self._links:
            link.send_json(frames.FrameKind.CATALOGUE, 0, self.catalogue)

    def send(self, kind: int, id_: int, payload: bytes = b"") -> None:
        for link in self._links:
            link.send(kind, id_, payload)

    def of(self, kind: int) -> list[Frame]:
        """What it has heard of this kind."""
        return [frame for frame in self.heard if frame.kind == kind]

    def stand_still(self) -> None:
        for link in self._links:
            link.transport.pause_reading()

    def go_on(self) -> None:
        for link in self._links:
            link.transport.resume_reading()

    def leave(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.transport.abort()
        self._links.clear()

    def _frames(self, protocol: FrameProtocol, received: list[Frame]) -> None:
        self.heard += received
        for frame in received:
            if frame.kind == frames.FrameKind.HELLO:
                protocol.send_json(frames.FrameKind.CATALOGUE, 0, self.catalogue)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since it holds sockets."""
    path = Path(tempfile.mkdtemp(prefix="skp-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def host(folder: Path) -> AsyncIterator[StandIn]:
    host = StandIn(folder / "cpu.sock")
    await host.come(functions=[SPEC.model_dump(mode="json")])
    yield host
    host.leave()


@pytest.fixture
async def directory(folder: Path, host: StandIn) -> AsyncIterator[Directory]:
    async with Directory(folder, ["cpu"], "gateway") as directory:
        await until(lambda: directory.get("f.f"))
        yield directory


def call(directory: Directory, body: bytes = b"", **given: Any) -> PendingCall:
    """Send a call to the host of ``cpu``."""
    deadline = asyncio.get_running_loop().time() + given.pop("seconds", 60.0)
    return directory.links["cpu"].call(body, deadline, **given)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what comes over a socket."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


async def test_a_function_of_a_host_that_is_away_is_remembered(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await until(lambda: not directory.links["cpu"].is_up)
    assert directory.remembered("f.f") is not None
    await host.come(loading=["f"])
    await directory.links["cpu"].until_up(LIMIT_S)
    await until(lambda: directory.loading() == ["f"])
    assert directory.remembered("f.f") is not None


async def test_only_a_host_knows_of_private_functions(folder: Path, host: StandIn) -> None:
    private = SPEC.model_copy(update={"name": "f._g"})
    host.catalogue["functions"] = [spec.model_dump(mode="json") for spec in (SPEC, private)]
    async with Directory(folder, ["cpu"], "host") as inside:
        assert await inside.find("f._g", LIMIT_S) == (private, inside.links["cpu"])
    async with Directory(folder, ["cpu"], "gateway") as outside:
        assert await outside.find("f.f", LIMIT_S) is not None
        assert await outside.find("f._g", LIMIT_S) is None
        assert outside.remembered("f._g") is None
        assert [item["name"] for item in outside.described()] == ["f.f"]


async def test_what_the_last_host_served_is_not_asked_of_the_next_until_it_serves_it(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await until(lambda: not directory.links["cpu"].is_up)
    await host.come(loading=["f"])
    await directory.links["cpu"].until_up(LIMIT_S)
    assert directory.get("f.f") is None
    finding = asyncio.create_task(directory.find("f.f", LIMIT_S))
    await until(lambda: directory.loading() == ["f"])
    host.say(loading=[], functions=[SPEC.model_dump(mode="json")])
    assert await finding == (SPEC, directory.links["cpu"])


async def test_a_function_that_is_gone_after_a_restart_is_forgotten(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await host.come()
    await until(lambda: not directory.loading() and not directory.get("f.f"))
    assert directory.remembered("f.f") is None
    assert await directory.find("f.f", LIMIT_S) is None


async def test_a_function_is_waited_for_no_longer_than_told(
    host: StandIn, directory: Directory
) -> None:
    host.say(loading=["g"])
    await until(lambda: directory.loading() == ["g"])
    with pytest.raises(UnavailableError):
        await directory.find("g.g", 0.05)
    assert await directory.find("h.h", 0.05) is None


# --- calls and questions ---------------------------------------------------------------------


async def test_every_call_gets_the_answer_and_the_items_that_are_its_own(
    host: StandIn, directory: Directory
) -> None:
    items: asyncio.Queue[bytes | None] = asyncio.Queue()
    first, second = call(directory, b"a"), call(directory, b"b", items=items)
    await until(lambda: len(host.of(frames.FrameKind.CALL)) == 2)
    assert [frame.payload for frame in host.of(frames.FrameKind.CALL)] == [b"a", b"b"]
    host.send(frames.FrameKind.ITEM, first.id, b"nobody wants it")
    host.send(frames.FrameKind.ITEM, second.id, b"1")
    host.send(frames.FrameKind.REPLY, second.id, b"of b")
    host.send(frames.FrameKind.REPLY, first.id, b"of a")
    assert (await first.reply, await second.reply) == (b"of a", b"of b")
    assert [await items.get(), await items.get()] == [b"1", None]


async def test_room_for_items_and_a_change_of_mind_are_told_to_the_host(
    host: StandIn, directory: Directory
) -> None:
    waiting, link = call(directory), directory.links["cpu"]
    link.credit(waiting)
    link.cancel(waiting)
    link.cancel(waiting)
    link.credit(waiting)
    last = call(directory)
    await until(lambda: len(host.of(frames.FrameKind.CALL)) == 2)
    told = [frame for frame in host.heard if frame.id == waiting.id]
    assert [frame.kind for frame in told] == [
        frames.FrameKind.CALL,
        frames.FrameKind.CREDIT,
        frames.FrameKind.CANCEL,
    ]
    host.send(frames.FrameKind.REPLY, waiting.id, b"too late")
    host.send(frames.FrameKind.REPLY, last.id, b"in time")
    assert await last.reply == b"in time"
    assert not waiting.reply.done()


async def test_a_host_that_dies_leaves_nobody_waiting(host: StandIn, directory: Directory) -> None:
    waiting = call(directory)
    asking = asyncio.create_task(directory.links["cpu"].ask("pool"))
    await until(lambda: host.of(frames.FrameKind.ASK))
    host.leave()
    outcome, _, problem = calls.parse_reply(await asyncio.wait_for(waiting.reply, LIMIT_S))
    assert outcome == Outcome.DIED
    assert b"pool cpu went away" in problem
    with pytest.raises(UnavailableError, match="went away"):
        await asking


async def test_nothing_is_asked_of_a_host_that_is_away(host: StandIn, directory: Directory) -> None:
    host.leave()
    link = directory.links["cpu"]
    await until(lambda: not link.is_up)
    with pytest.raises(UnavailableError, match="pool cpu is not reachable"):
        call(directory)
    with pytest.raises(UnavailableError, match="pool cpu is not reachable"):
        await link.ask("pool")
    directory.nudge("cpu", "a-task")


async def test_a_host_is_nudged_with_the_task_and_nobody_for_a_pool_that_is_elsewhere(
    host: StandIn, directory: Directory
) -> None:
    directory.nudge("elsewhere", "another")
    directory.nudge("cpu", "a-task")
    await until(lambda: host.of(frames.FrameKind.NUDGE))
    assert [frame.payload for frame in host.of(frames.FrameKind.NUDGE)] == [b"a-task"]


async def test_a_call_that_lasts_is_notified_of_once(directory: Directory) -> None:
    pending, link = call(directory), directory.links["cpu"]
    slow: list[PendingCall] = []
    pending.on_slow = slow.append
    for seconds in (SLOW_S - 0.01, SLOW_S + 0.01, SLOW_S + 1):
        link.sweep(pending.sent_at + seconds)
        assert slow == [pending] * (seconds > SLOW_S)


@pytest.mark.parametrize("ends", ["by its reply", "with its host", "given up"])
async def test_the_items_of_a_call_end_however_it_ends(
    host: StandIn, directory: Directory, ends: str
) -> None:
    items: asyncio.Queue[bytes | None] = asyncio.Queue()
    pending = call(directory, items=items)
    await until(lambda: host.of(frames.FrameKind.CALL))
    if ends == "by its reply":
        host.send(frames.FrameKind.REPLY, pending.id, b"")
    elif ends == "with its host":
        host.leave()
    else:
        pending.give_up()
    assert await asyncio.wait_for(items.get(), LIMIT_S) is None


async def test_a_call_that_is_given_up_has_no_reply_and_its_host_stops_it(
    host: StandIn, directory: Directory
) -> None:
    pending = call(directory)
    pending.give_up()
    pending.give_up()
    await until(lambda: host.of(frames.FrameKind.CANCEL))
    assert [frame.id for frame in host.of(frames.FrameKind.CANCEL)] == [pending.id]
    assert pending.reply.cancelled()


async def test_a_host_that_hangs_is_answered_for_some_time_after_the_deadline(
    host: StandIn, directory: Directory
) -> None:
    waiting, link = call(directory, seconds=10.0), directory.links["cpu"]
    link.sweep(waiting.deadline + LATE_S - 1)
    assert not waiting.reply.done()
    link.sweep(waiting.deadline + LATE_S + 1)
    assert calls.parse_reply(await waiting.reply)[0] == Outcome.TIMED_OUT
    await until(lambda: host.of(frames.FrameKind.CANCEL))
    assert host.of(frames.FrameKind.CANCEL)[0].id == waiting.id


def is_refused(directory: Directory, body: bytes) -> bool:
    """Whether a call cannot be sent since the host has not read the earlier ones."""
    try:
        call(directory, body)
    except UnavailableError as error:
        return "does not take what it is sent" in str(error)
    return False


async def test_a_host_that_does_not_read_is_sent_no_more_than_so_much(
    monkeypatch: pytest.MonkeyPatch, host: StandIn, directory: Directory
) -> None:
    monkeypatch.setattr(links, "UNSENT_BYTES", 1 << 20)
    host.leave()
    await until(lambda: not directory.links["cpu"].is_up)
    await host.come()
    await directory.links["cpu"].until_up(LIMIT_S)
    host.stand_still()
    big = b"x" * (1 << 20)
    assert any(is_refused(directory, big) for _ in range(100))
    host.go_on()
    await until(lambda: not is_refused(directory, b""))


async def test_a_question_gets_its_own_answer(host: StandIn, directory: Directory) -> None:
    asking = [asyncio.create_task(directory.links["cpu"].ask("pool", n=n)) for n in range(2)]
    await until(lambda: len(host.of(frames.FrameKind.ASK)) == 2)
    for frame in reversed(host.of(frames.FrameKind.ASK)):
        asked = json.loads(frame.payload)
        assert asked["what"] == "pool"
        host.send(frames.FrameKind.ANSWER, frame.id, json.dumps({"n": asked["n"]}).encode())
    assert await asyncio.gather(*asking) == [{"n": 0}, {"n": 1}]


async def test_a_question_is_not_waited_for_for_ever(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ANSWER_S", 0.01)
    with pytest.raises(UnavailableError, match="did not answer within"):
        await directory.links["cpu"].ask("pool")


async def test_hints_of_changed_tasks_are_passed_on(host: StandIn, directory: Directory) -> None:
    heard: list[str] = []
    directory.tasks_changed = heard.extend
    host.send(frames.FrameKind.TASKS, 0, b"one\ntwo")
    await until(lambda: heard)
    assert heard == ["one", "two"]


# --- what is broken --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name", "is_it"),
    [
        ("functions/boston.py", "boston.predict", True),
        ("functions/boston/__init__.py", "boston.predict", True),
        ("functions/boston.py", "iris.predict", False),
        ("functions/boston.py", "predict", False),
    ],
)
async def test_the_broken_file_that_would_define_a_function_is_found(
    host: StandIn, directory: Directory, file: str, name: str, is_it: bool
) -> None:
    host.say(broken=[{"file": file, "line": 3, "error": "NameError: np"}])
    await until(directory.broken)
    found = directory.broken_for(name)
    assert (found is not None and found.file == file) is is_it


async def test_functions_are_described_by_name(host: StandIn, directory: Directory) -> None:
    specs = [SPEC.model_copy(update={"name": name}) for name in ("b.f", "a.g", "a.f")]
    host.say(functions=[spec.model_dump(mode="json") | {"state": "live"} for spec in specs])
    await until(lambda: directory.get("a.g"))
    assert [item["name"] for item in directory.described()] == ["a.f", "a.g", "b.f"]
    assert {item["state"] for item in directory.described()} == {"live"}


async def test_all_hosts_are_asked_and_one_that_hangs_is_not_waited_for(
    host: StandIn, directory: Directory
) -> None:
    await directory.renew_models(0.05)
    asking = asyncio.create_task(directory.renew_models(LIMIT_S))
    await until(lambda: len(host.of(frames.FrameKind.ASK)) == 2)
    host.send(frames.FrameKind.ANSWER, host.of(frames.FrameKind.ASK)[1].id, b"{}")
    await asyncio.wait_for(asking, LIMIT_S)
    host.leave()
    await directory.renew_models(LIMIT_S)
