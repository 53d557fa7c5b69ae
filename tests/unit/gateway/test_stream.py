"""A generator's items on their way to a caller over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message

from skipper.gateway.item_stream import ItemStream
from skipper.gateway.problems import Problem
from skipper.gateway.stream import send_items, sse, stream_type
from skipper.outcomes import Outcome
from skipper.wire import calls
from skipper.wire.frames import FIRST_WINDOW, LEAST
from tests.unit.gateway.played import PlayedLink, settle

SSE, LINES = b"text/event-stream", b"application/jsonl"


class Watched:
    """A caller who takes what is sent to it as a test lets it."""

    def __init__(self, *, takes: bool = True) -> None:
        self.link = PlayedLink()
        self.items: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.pending = self.link.call(b"", 1e9, self.items)
        self.messages: list[Message] = []
        self.takes = asyncio.Event()
        if takes:
            self.takes.set()

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        await self.takes.wait()

    def begins(self, *items: bytes) -> None:
        """The host sends what serves the call, then these items."""
        for payload in (b"c0de net@3", *items):
            self.items.put_nowait(payload)

    def ends(self, payload: bytes) -> None:
        self.pending.answer(payload)

    async def run(self, kind: bytes = SSE) -> None:
        stream = ItemStream(self.pending, self.items)
        async with asyncio.timeout(5):
            await send_items(stream, kind, [(b"x-request-id", b"an-id")], self.send)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def text(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


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
    assert caller.headers[b"x-skipper-code"] == b"c0de"
    assert caller.headers[b"x-skipper-model"] == b"net@3"
    assert caller.headers[b"x-request-id"] == b"an-id"
    assert caller.text == text


async def test_a_stream_without_an_item_is_a_stream() -> None:
    caller = Watched()
    caller.begins()
    caller.ends(OK)
    await caller.run(LINES)
    assert (caller.headers[b"x-skipper-code"], caller.text) == (b"c0de", b"")


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
    assert caught.value.served == (b"c0de net@3" if has_begun else b"")
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


async def test_credit_is_given_only_as_items_are_taken() -> None:
    caller = Watched(takes=False)
    running = asyncio.create_task(caller.run(LINES))
    caller.begins(*[b"1"] * (FIRST_WINDOW // LEAST))
    await settle()
    assert caller.link.credits == []
    caller.takes.set()
    caller.ends(OK)
    await running
    assert caller.link.credits == [FIRST_WINDOW]


@pytest.mark.parametrize(
    ("data", "id_", "text"),
    [
        ({"done": 1}, None, b'event: progress\ndata: {"done":1}\n\n'),
        (b"[1,2]", 7, b"id: 7\nevent: progress\ndata: [1,2]\n\n"),
        ("half \ud800", None, b'event: progress\ndata: "half ?"\n\n'),
        ("two\nlines", 0, b'id: 0\nevent: progress\ndata: "two\\nlines"\n\n'),
    ],
)
def test_an_event_is_one_block_of_lines(data: Any, id_: int | None, text: bytes) -> None:
    assert sse("progress", data, id_) == text
