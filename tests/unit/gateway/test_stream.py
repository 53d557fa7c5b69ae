"""A generator's items between its host and its caller."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message

from skipper.gateway.problems import Problem
from skipper.gateway.sent import Sent
from skipper.gateway.stream import ItemStream, stream_type
from skipper.outcomes import Outcome
from skipper.wire import calls, frames
from skipper.wire.link import PendingCall

SSE, LINES = b"text/event-stream", b"application/jsonl"


class Link:
    """The way to a host: notes how much room for items it was told of, and what was given up."""

    def __init__(self) -> None:
        self.credits = 0
        self.cancelled: list[PendingCall] = []

    def credit(self, waiting: PendingCall) -> None:
        self.credits += 1

    def cancel(self, waiting: PendingCall) -> None:
        self.cancelled.append(waiting)


class Watched:
    """A caller who takes what it is sent as a test lets it, and may leave."""

    def __init__(self, *, takes: bool = True) -> None:
        self.link = Link()
        link: Any = self.link
        items: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sent = Sent(PendingCall(link, 1, 1e9, items.put_nowait), items)
        self.messages: list[Message] = []
        self.takes, self.leaves = asyncio.Event(), asyncio.Event()
        if takes:
            self.takes.set()

    async def receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        await self.takes.wait()

    def begins(self, *items: bytes) -> None:
        """The host says what serves the call, then these items."""
        hear = self.sent.waiting.on_item
        assert hear is not None
        for payload in (b"c0de net@3", *items):
            hear(payload)

    def ends(self, payload: bytes) -> None:
        self.sent.waiting.answer(payload)

    async def run(self, kind: bytes = SSE) -> None:
        async with asyncio.timeout(5):
            await ItemStream(kind).run(self.sent, told, self.receive, self.send)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def text(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


def told(served: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"x-served", served)]


OK = calls.reply(Outcome.OK, b"c0de net@3", b"")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (b"text/event-stream", SSE),
        (b"text/html, application/jsonl;q=0.5", LINES),
        (b"application/x-ndjson", b"application/x-ndjson"),
        (b"application/json", b""),
        (b"", b""),
    ],
)
def test_the_kind_of_stream_is_what_the_caller_accepts(accept: bytes, kind: bytes) -> None:
    assert stream_type(accept) == kind


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (SSE, b"event: item\ndata: 1\n\nevent: item\ndata: 2\n\nevent: done\ndata: {}\n\n"),
        (LINES, b"1\n2\n"),
    ],
)
async def test_items_are_sent_in_order_and_named_by_what_served_them(
    kind: bytes, text: bytes
) -> None:
    caller = Watched()
    caller.begins(b"1", b"2")
    caller.ends(OK)
    await caller.run(kind)
    assert caller.headers[b"content-type"] == kind
    assert caller.headers[b"x-served"] == b"c0de net@3"
    assert caller.text == text


async def test_a_stream_without_an_item_is_a_stream() -> None:
    caller = Watched()
    caller.begins()
    caller.ends(OK)
    await caller.run(LINES)
    assert (caller.headers[b"x-served"], caller.text) == (b"c0de net@3", b"")


async def test_the_first_item_is_sent_before_the_second_is_made() -> None:
    caller = Watched()
    running = asyncio.create_task(caller.run(LINES))
    caller.begins(b"1")
    while not caller.text:  # noqa: ASYNC110 - bounded by the stream's own limit
        await asyncio.sleep(0)
    assert caller.text == b"1\n"
    caller.ends(OK)
    await running


@pytest.mark.parametrize("has_begun", [True, False])
async def test_what_fails_before_its_first_item_is_a_problem_with_its_own_status(
    has_begun: bool,
) -> None:
    caller = Watched()
    if has_begun:
        caller.begins()
    caller.ends(calls.problem(Outcome.FAILED, "ValueError: no"))
    with pytest.raises(Problem, match="ValueError: no") as caught:
        await caller.run()
    assert caught.value.kind.status == 500
    assert caught.value.headers == {"x-served": "c0de net@3" if has_begun else ""}
    assert caller.messages == []


@pytest.mark.parametrize("kind", [SSE, LINES])
async def test_what_fails_later_ends_the_stream_with_its_problem(kind: bytes) -> None:
    caller = Watched()
    caller.begins(b"1")
    caller.ends(calls.problem(Outcome.DIED, "killed", traceback="…"))
    await caller.run(kind)
    *_, last = caller.text.strip().split(b"\n")
    problem = json.loads(last.removeprefix(b"data: "))
    problem = problem if kind == SSE else problem["error"]
    assert (problem["status"], problem["detail"]) == (502, "killed")
    assert "traceback" not in problem


async def test_room_for_more_is_told_only_as_items_are_taken() -> None:
    caller = Watched(takes=False)
    running = asyncio.create_task(caller.run(LINES))
    caller.begins(*[b"1"] * (2 * frames.CREDIT_ITEMS))
    for _ in range(10):
        await asyncio.sleep(0)
    assert caller.link.credits == 0
    caller.takes.set()
    caller.ends(OK)
    await running
    assert caller.link.credits == 2


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_caller_who_leaves_has_the_call_given_up(has_begun: bool) -> None:
    caller = Watched()
    if has_begun:
        caller.begins(b"1")
    running = asyncio.create_task(caller.run())
    for _ in range(10):
        await asyncio.sleep(0)
    caller.leaves.set()
    await running
    assert caller.link.cancelled[0] is caller.sent.waiting
