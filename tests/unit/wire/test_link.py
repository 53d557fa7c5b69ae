"""A link to a host that comes and goes, hangs, or is of another version."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skipper.errors import UnavailableError
from skipper.outcomes import Outcome
from skipper.values.envelope import Envelope, Part, pack
from skipper.values.spool import Spool
from skipper.wire import calls
from skipper.wire.directory import Directory
from skipper.wire.frames import FrameKind, credited
from skipper.wire.link import LATE_S, RECONNECT_S, Link, next_pause_s
from skipper.wire.messages import (
    PROTOCOL,
    CancelAnswer,
    CancelTask,
    GetMetrics,
    GetPoolState,
    Hello,
    LinkRole,
    parse_question,
)
from tests.unit.wire.stand_in import LIMIT_S, SPEC, StandIn, call, listed, until


async def test_every_call_gets_the_answer_and_the_items_that_are_its_own(
    host: StandIn, directory: Directory
) -> None:
    items: asyncio.Queue[bytes | None] = asyncio.Queue()
    first, second = call(directory, b"a"), call(directory, b"b", items=items)
    await until(lambda: len(host.of(FrameKind.CALL)) == 2)
    assert [frame.payload for frame in host.of(FrameKind.CALL)] == [b"a", b"b"]
    host.send(FrameKind.ITEM, first.id, b"nobody wants it")
    host.send(FrameKind.ITEM, second.id, b"1")
    host.send(FrameKind.REPLY, second.id, b"of b")
    host.send(FrameKind.REPLY, first.id, b"of a")
    assert (await first.reply, await second.reply) == (b"of a", b"of b")
    assert [await items.get(), await items.get()] == [b"1", None]


async def test_room_for_items_and_a_change_of_mind_reach_the_host(
    host: StandIn, directory: Directory
) -> None:
    waiting, link = call(directory), directory.links["cpu"]
    link.credit(waiting, 70_000)
    link.cancel(waiting)
    link.cancel(waiting)
    link.credit(waiting, 70_000)
    last = call(directory)
    await until(lambda: len(host.of(FrameKind.CALL)) == 2)
    sent = [frame for frame in host.received if frame.id == waiting.id]
    assert [frame.kind for frame in sent] == [
        FrameKind.CALL,
        FrameKind.CREDIT,
        FrameKind.CANCEL,
    ]
    assert credited(sent[1].payload) == 70_000
    host.send(FrameKind.REPLY, waiting.id, b"too late")
    host.send(FrameKind.REPLY, last.id, b"in time")
    assert await last.reply == b"in time"
    assert not waiting.reply.done()


async def test_a_host_that_dies_leaves_nobody_waiting(host: StandIn, directory: Directory) -> None:
    waiting = call(directory)
    asking = asyncio.create_task(directory.links["cpu"].ask(GetPoolState()))
    await until(lambda: host.of(FrameKind.ASK))
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
        await link.ask(GetPoolState())
    directory.nudge("cpu", "a-task")


@pytest.mark.parametrize("ends", ["by its reply", "with its host", "given up"])
async def test_the_items_of_a_call_end_however_it_ends(
    host: StandIn, directory: Directory, ends: str
) -> None:
    items: asyncio.Queue[bytes | None] = asyncio.Queue()
    pending = call(directory, items=items)
    await until(lambda: host.of(FrameKind.CALL))
    if ends == "by its reply":
        host.send(FrameKind.REPLY, pending.id, b"")
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
    await until(lambda: host.of(FrameKind.CANCEL))
    assert [frame.id for frame in host.of(FrameKind.CANCEL)] == [pending.id]
    assert pending.reply.cancelled()


async def test_who_is_to_be_told_of_the_end_of_a_call_is_told_once(
    host: StandIn, directory: Directory
) -> None:
    ends: list[bytes | None] = []
    pending, other = call(directory), call(directory)
    pending.when_over(ends.append)
    pending.answer(b"first")
    pending.answer(b"second")
    pending.give_up()
    assert ends == [b"first"]
    pending.when_over(ends.append)
    other.give_up()
    other.when_over(ends.append)
    assert ends == [b"first", b"first", None]


async def test_a_host_that_hangs_is_answered_for_some_time_after_the_deadline(
    host: StandIn, directory: Directory
) -> None:
    waiting, link = call(directory, seconds=10.0), directory.links["cpu"]
    link.sweep(waiting.deadline + LATE_S - 1)
    assert not waiting.reply.done()
    link.sweep(waiting.deadline + LATE_S + 1)
    assert calls.parse_reply(await waiting.reply)[0] == Outcome.TIMED_OUT
    await until(lambda: host.of(FrameKind.CANCEL))
    assert host.of(FrameKind.CANCEL)[0].id == waiting.id


class Ignore:
    """Nobody minds what comes unasked."""

    def on_catalogue(self) -> None:
        pass

    def on_tasks(self, ids: list[str]) -> None:
        pass

    on_task_events = on_tasks


def is_refused(link: Link, body: bytes) -> bool:
    """Whether a call cannot be sent since the host has not read the earlier ones."""
    try:
        link.call(body, asyncio.get_running_loop().time() + LIMIT_S)
    except UnavailableError as error:
        return "does not take what it is sent" in str(error)
    return False


async def test_a_host_that_does_not_read_is_sent_no_more_than_so_much(
    folder: Path, host: StandIn
) -> None:
    link = Link("cpu", folder / "cpu.sock", LinkRole.GATEWAY, Ignore(), unsent_bytes=1 << 20)
    running = asyncio.create_task(link.run())
    await link.until_up(LIMIT_S)
    host.stand_still()
    big = b"x" * (1 << 20)
    assert any(is_refused(link, big) for _ in range(100))
    host.go_on()
    await until(lambda: not is_refused(link, b""))
    running.cancel()


async def test_an_input_is_checked_beside_calls(host: StandIn, directory: Directory) -> None:
    link = directory.links["cpu"]
    calling = link.call(b"call", deadline=asyncio.get_running_loop().time() + LIMIT_S)
    checking = asyncio.create_task(link.check(b"check", LIMIT_S))
    await until(lambda: host.of(FrameKind.CHECK) and host.of(FrameKind.CALL))
    (check,) = host.of(FrameKind.CHECK)
    assert check.payload == b"check"
    host.send(FrameKind.REPLY, check.id, b"fits")
    assert await checking == b"fits"
    assert not calling.reply.done()


async def test_an_input_is_not_waited_for_for_ever_and_its_host_stops_checking(
    host: StandIn, directory: Directory
) -> None:
    outcome, _, problem = calls.parse_reply(await directory.links["cpu"].check(b"check", 0.01))
    assert outcome == Outcome.UNAVAILABLE
    assert b"could not check the input within 0.01 s" in problem
    await until(lambda: host.of(FrameKind.CANCEL))
    assert [frame.id for frame in host.of(FrameKind.CANCEL)] == [
        frame.id for frame in host.of(FrameKind.CHECK)
    ]


async def test_a_question_gets_its_own_answer(host: StandIn, directory: Directory) -> None:
    link = directory.links["cpu"]
    asking = [asyncio.create_task(link.ask(CancelTask(task_id=str(n)))) for n in range(2)]
    await until(lambda: len(host.of(FrameKind.ASK)) == 2)
    for frame in reversed(host.of(FrameKind.ASK)):
        question = parse_question(frame.payload)
        assert isinstance(question, CancelTask)
        answer = CancelAnswer(known=question.task_id == "1")
        host.send(FrameKind.ANSWER, frame.id, answer.to_json())
    assert [(await each).known for each in asking] == [False, True]


async def test_a_question_is_not_waited_for_for_ever(directory: Directory) -> None:
    with pytest.raises(UnavailableError, match=r"pool cpu did not answer within 0\.01 s"):
        await directory.links["cpu"].ask(GetPoolState(), 0.01)


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (FrameKind.REFUSED, b"nobody knows", "pool cpu: nobody knows"),
        (FrameKind.ANSWER, b'{"known": 1, "why": ""}', "CancelAnswer: why: Extra inputs"),
        (FrameKind.ANSWER, b"{", "the answer of pool cpu cannot be read"),
    ],
)
async def test_who_asks_learns_why_there_is_no_answer(
    host: StandIn, directory: Directory, kind: int, payload: bytes, reason: str
) -> None:
    asking = asyncio.create_task(directory.links["cpu"].ask(CancelTask(task_id="t")))
    await until(lambda: host.of(FrameKind.ASK))
    host.send(kind, host.of(FrameKind.ASK)[0].id, payload)
    with pytest.raises(UnavailableError, match=reason):
        await asking
    assert directory.links["cpu"].is_up


# --- hosts of other versions -----------------------------------------------------------------

OTHERS = [
    pytest.param(Hello(role="host", pid=7, protocol=PROTOCOL + 1), f"{PROTOCOL + 1}", id="newer"),
    pytest.param(Hello(role="host", pid=7), "0", id="without a number"),
    pytest.param(None, "0", id="does not introduce itself"),
]


@pytest.mark.parametrize(("hello", "number"), OTHERS)
async def test_a_host_of_another_version_is_not_talked_to_and_everybody_learns_why(
    folder: Path,
    host: StandIn,
    caplog: pytest.LogCaptureFixture,
    hello: Hello | None,
    number: str,
) -> None:
    host.hello = hello
    reason = f"speaks protocol {number}.* this gateway protocol {PROTOCOL}"
    async with Directory(folder, ["cpu"], LinkRole.GATEWAY) as directory:
        link = directory.links["cpu"]
        with pytest.raises(UnavailableError, match=reason):  # at once, not after its patience
            await directory.find("f.f", 10 * LIMIT_S)
        for refused in (link.ask(GetMetrics()), link.until_up(10 * LIMIT_S)):
            with pytest.raises(UnavailableError, match=reason):
                await refused
        with pytest.raises(UnavailableError, match=reason):
            call(directory)
        directory.nudge("cpu", "a-task")
        assert not link.is_up
        assert (directory.functions(), directory.loading()) == ([], ["*"])
        await until(lambda: len(host.of(FrameKind.HELLO)) >= 4)  # it goes on trying
    assert {frame.kind for frame in host.received} == {FrameKind.HELLO}
    (record,) = caplog.records
    assert record.levelname == "ERROR"


def test_a_host_of_another_version_is_tried_less_and_less_often_and_one_that_is_away_at_once() -> (
    None
):
    pauses = [RECONNECT_S]
    for _ in range(7):
        pauses.append(next_pause_s(pauses[-1], is_incompatible=True))
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert next_pause_s(2.0, is_incompatible=False) == RECONNECT_S


async def test_a_host_of_the_right_version_is_talked_to_again(
    host: StandIn, directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    right, link = host.hello, directory.links["cpu"]
    for _ in range(2):  # the second time it is news again
        host.leave()
        host.hello = Hello(role="host", pid=8, protocol=PROTOCOL + 1)
        await host.come(functions=listed(SPEC))
        await until(lambda: link.incompatible)
        assert directory.get("f.f") is None
        assert directory.remembered("f.f") is not None  # a task of it can be accepted
        host.leave()
        host.hello = right
        await host.come(functions=listed(SPEC))
        await until(lambda: directory.get("f.f"))
        assert link.is_up
        assert not link.incompatible
    assert len(caplog.records) == 2


async def test_another_version_is_no_reason_once_its_host_has_gone(
    host: StandIn, directory: Directory
) -> None:
    link = directory.links["cpu"]
    host.leave()
    host.hello = None
    await host.come()
    await until(lambda: link.incompatible)
    host.leave()
    await until(lambda: not link.incompatible)
    with pytest.raises(UnavailableError, match="not reachable"):
        await link.ask(GetPoolState())


async def test_a_catalogue_that_cannot_be_read_is_that_of_another_version(
    host: StandIn, directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    host.send(FrameKind.CATALOGUE, 0, b'{"pool": "cpu"}')
    link = directory.links["cpu"]
    await until(lambda: link.incompatible)
    with pytest.raises(UnavailableError, match="cannot be read: CatalogueSnapshot: host"):
        call(directory)
    await until(lambda: directory.get("f.f"))  # it has sent a good one meanwhile
    assert len(caplog.records) == 1


async def test_what_a_reply_that_comes_too_late_has_in_the_spool_is_removed(
    host: StandIn, folder: Path
) -> None:
    spool = Spool(folder / "spool")
    async with Directory(folder, ["cpu"], LinkRole.GATEWAY, spool=spool) as directory:
        await until(lambda: directory.get("f.f"))
        given_up, wanted = call(directory), call(directory)
        given_up.give_up()
        for pending in (given_up, wanted):
            part = Part(media_type="image/png", size=5, spool=spool.put(b"large"))
            body = pack(Envelope(parts=(part,)))
            host.send(FrameKind.REPLY, pending.id, calls.reply(Outcome.OK, b"", body))
        (left,) = calls.spooled_in_reply(await wanted.reply)
        assert [path.name for path in (folder / "spool").iterdir()] == [left]
