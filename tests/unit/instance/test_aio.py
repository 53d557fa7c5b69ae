import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import skipper
from skipper.function.decorators import connect_to
from skipper.instance import aio
from skipper.instance.caller import HostCaller
from skipper.instance.jobs import CALLS_AT_ONCE
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.frames import Frame, FrameKind
from tests.unit.instance.serving import CODE, Serving, call, parse


@skipper.data
async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


def test_a_call_is_answered_with_its_value(serving: Serving) -> None:
    assert serving.answer(double, call({"x": 4})) == (Outcome.OK, CODE, 8)


def test_calls_run_at_the_same_time_and_each_gets_its_own_answer(serving: Serving) -> None:
    """Nobody passes the barrier before all are at it."""
    barrier = asyncio.Barrier(CALLS_AT_ONCE)

    @skipper.data
    async def meet(x: int) -> int:
        await barrier.wait()
        return x

    sent = [call({"x": n}, n) for n in range(CALLS_AT_ONCE)]
    assert [reply.value for reply in serving.answers(meet, *sent)] == [*range(CALLS_AT_ONCE)]


def test_a_slow_call_does_not_hold_up_the_next(serving: Serving) -> None:
    held = asyncio.Event()

    @skipper.data
    async def hold(free: bool) -> bool:
        if free:
            held.set()
        await held.wait()
        return free

    received = serving.run(hold, call({"free": False}, 1), call({"free": True}, 2))
    assert {frame.id for frame in received} == {1, 2}


def test_a_cancel_stops_its_call_alone(serving: Serving) -> None:
    cleaned = []

    @skipper.data
    async def wait(*, run: skipper.Run) -> None:
        try:
            run.log("it runs")
            await asyncio.Event().wait()
        finally:
            cleaned.append(run.request_id)

    def react(frame: Frame) -> bytes:
        return (
            frames.pack(FrameKind.CANCEL, 1)
            if (frame.kind, frame.id) == (FrameKind.EVENT, 1)
            else b""
        )

    sent = call({}, 1, context="first"), call({}, 2, context="second")
    received = serving.run(wait, *sent, until=3, react=react)
    assert [frame.kind for frame in received[:3]] == [
        FrameKind.EVENT,
        FrameKind.EVENT,
        FrameKind.REPLY,
    ]
    assert (received[2].id, parse(received[2]).outcome) == (1, Outcome.CANCELLED)
    assert cleaned[0] == "first"


def test_a_cancelled_call_gives_up_what_it_waits_for(serving: Serving) -> None:
    @skipper.data
    def inner(x: int) -> int:
        return x

    @skipper.data
    async def outer(x: int) -> int:
        return await inner.aremote(x)

    def react(frame: Frame) -> bytes:
        if frame.kind == FrameKind.CALL:
            return frames.pack(FrameKind.CANCEL, 1)
        if frame.kind == FrameKind.CANCEL:
            return frames.pack(
                FrameKind.REPLY, frame.id, calls.problem(Outcome.CANCELLED, "given up")
            )
        return b""

    connect_to(HostCaller(serving.link))
    try:
        received = serving.run(outer, call({"x": 1}, 1), react=react)
    finally:
        connect_to(None)
    made = next(frame for frame in received if frame.kind == FrameKind.CALL)
    assert (FrameKind.CANCEL, made.id, b"") in received
    reply = next(frame for frame in received if frame.kind == FrameKind.REPLY)
    assert parse(reply).outcome is Outcome.CANCELLED


async def test_a_call_that_is_cancelled_before_its_first_step_is_answered_too(
    serving: Serving,
) -> None:
    """Call and cancel come together where the function has kept the loop busy for a while."""
    server = aio._AsyncServer(serving.link, serving.calls(double))
    server._take(Frame(*call({"x": 1}, 7)))
    server._take(Frame(FrameKind.CANCEL, 7, b""))
    received = await asyncio.get_running_loop().run_in_executor(None, serving.theirs.recv, 1 << 16)
    (reply,) = frames.Splitter().feed(received)
    assert (reply.id, parse(reply).outcome) == (7, Outcome.CANCELLED)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"x": "?"}, Outcome.INVALID),
        (b"{", Outcome.MALFORMED),
    ],
)
def test_a_body_is_judged_as_for_any_function(
    serving: Serving, body: Any, outcome: Outcome
) -> None:
    assert serving.answer(double, call(body)).outcome is outcome


@pytest.mark.parametrize("error", [ValueError("no"), BaseExceptionGroup("many", [ValueError()])])
def test_what_is_raised_is_the_answer_and_the_next_call_runs(
    serving: Serving, error: BaseException
) -> None:
    @skipper.data
    async def f(fail: bool) -> int:
        if fail:
            raise error
        return 1

    failed, fine = serving.answers(f, call({"fail": True}, 1), call({"fail": False}, 2))
    assert failed.outcome is Outcome.FAILED
    assert type(error).__name__ in failed.value["detail"]
    assert fine.value == 1


@skipper.data
async def count(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def test_a_stream_sends_its_items_and_a_plain_call_gets_the_array(serving: Serving) -> None:
    received = serving.run(count, call({"n": 2}, 1, flags=calls.STREAM), call({"n": 3}, 2))
    items = [frame for frame in received if frame.id == 1]
    assert items[0] == (FrameKind.SERVED, 1, CODE.encode())
    assert items[1:3] == [(FrameKind.ITEM, 1, b"0"), (FrameKind.ITEM, 1, b"1")]
    assert parse(items[3]).value is None
    assert [parse(frame).value for frame in received if frame.id == 2] == [[0, 1, 2]]


def test_a_stream_that_nobody_reads_stops_and_other_calls_go_on(serving: Serving) -> None:
    made = []

    @skipper.data
    async def many(n: int) -> AsyncIterator[int]:
        for i in range(n):
            made.append(i)
            yield i

    sent = call({"n": 10_000}, 1, flags=calls.STREAM), call({"n": 1}, 2)
    window = frames.FIRST_WINDOW // frames.LEAST
    received = serving.run(many, *sent, until=window + 2)
    assert sum(frame.kind == FrameKind.ITEM for frame in received) == window
    assert [parse(frame).value for frame in received if frame.id == 2] == [[0]]
    assert len(made) == window + 2


def test_a_stream_of_large_items_that_nobody_reads_makes_one_more_than_it_sends(
    serving: Serving,
) -> None:
    made = []

    @skipper.data
    async def many() -> AsyncIterator[str]:
        for i in range(10):
            made.append(i)
            yield "x" * frames.WINDOW

    received = serving.run(many, call({}, 1, flags=calls.STREAM), until=2)
    assert sum(frame.kind == FrameKind.ITEM for frame in received) == 1
    assert len(made) == 2


def test_a_cancelled_stream_ends(serving: Serving) -> None:
    @skipper.data
    async def endless() -> AsyncIterator[int]:
        while True:
            yield 1

    sent = call({}, 1, flags=calls.STREAM), (FrameKind.CANCEL, 1, b"")
    assert serving.answer(endless, *sent).outcome is Outcome.CANCELLED


@skipper.data
async def endless() -> AsyncIterator[str]:
    while True:
        yield "x" * 100


def test_an_endless_array_is_refused_as_soon_as_it_is_too_large(serving: Serving) -> None:
    serving.max_result = 10_000
    reply = serving.answer(endless, call({}))
    assert (reply.outcome, reply.value["exception"]) == (Outcome.FAILED, "TooLargeError")


class Hostile(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def leaves(cls, x: int) -> int:
        raise SystemExit(x)


def test_a_validator_that_leaves_is_a_failure_of_that_call_alone(serving: Serving) -> None:
    @skipper.data
    async def f(body: Hostile) -> int:
        return body.x

    reply = serving.answer(f, call({"x": 3}))
    assert (reply.outcome, reply.value["exception"]) == (Outcome.FAILED, "SystemExit")


def test_a_child_that_the_function_forked_neither_answers_nor_lives_on(serving: Serving) -> None:
    @skipper.data
    async def forks() -> list[int]:
        return [os.getpid(), os.fork()]

    reply = serving.answer(forks, call({}))
    parent, child = reply.value
    assert parent == os.getpid()
    assert os.waitpid(child, 0)[1] == 0


def test_calls_that_a_blocked_loop_has_not_begun_go_back_and_never_run(serving: Serving) -> None:
    """kserve/kserve#3950."""
    ran, free = [], threading.Event()

    @skipper.data
    async def hold(x: int, *, run: skipper.Run) -> int:
        ran.append(x)
        if x == 1:
            run.log("it holds the loop")
            assert free.wait(10)
        return x

    def react(frame: Frame) -> bytes:
        if frame.kind == FrameKind.EVENT:
            return b"".join(frames.pack(FrameKind.RECALL, id_) for id_ in (3, 2, 1))
        if (frame.kind, frame.id) == (FrameKind.RECALL, 2):
            free.set()
        return b""

    sent = [call({"x": n}, n) for n in (1, 2, 3)]
    received = serving.run(hold, *sent, until=5, react=react)
    back = [frame for frame in received if frame.kind == FrameKind.RECALL and frame.id]
    assert [frame.id for frame in back] == [3, 2]
    assert all(frame.payload for frame in back)
    assert [frame.id for frame in received if frame.kind == FrameKind.REPLY] == [1]
    assert (FrameKind.RECALL, 0, b"") in received
    assert ran == [1]


def test_a_call_that_waits_has_begun_and_does_not_go_back(serving: Serving) -> None:
    @skipper.data
    async def wait(*, run: skipper.Run) -> int:
        run.log("it runs")
        await asyncio.sleep(0.01)
        return 1

    def react(frame: Frame) -> bytes:
        return frames.pack(FrameKind.RECALL, 1) if frame.kind == FrameKind.EVENT else b""

    received = serving.run(wait, call({}, 1), react=react)
    assert [frame.kind for frame in received] == [FrameKind.EVENT, FrameKind.REPLY]
