"""How long calls may take, callers who leave, and calls that meet the end of their gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.gateway.budget import Use
from skipper.gateway.call_request import CallRequest
from skipper.gateway.calls import Dispatcher
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.limits import Limits
from skipper.gateway.inputs import Inputs
from skipper.gateway.invoke import Invoke
from skipper.gateway.problems import Problem
from skipper.gateway.reception import SpoolRoom
from skipper.outcomes import Outcome
from skipper.settings.model import TaskSettings
from skipper.spec import FunctionSpec
from skipper.values.envelope import Envelope, Part, pack, unpack
from skipper.values.opening import NO_PLACES
from skipper.values.spool import Spool
from skipper.values.store import ValueStore
from skipper.wire import calls
from tests.unit.gateway.http.line import Answering, Caller
from tests.unit.gateway.played import SPEC, PlayedDirectory, PlayedLink, settle

STREAMING = SPEC.model_copy(update={"streams": True})
SSE = "Accept: text/event-stream"
JSON = "Content-Type: application/json"


async def as_it_is(body: bytes) -> bytes:
    """A body that names no files."""
    return body


def calling(
    link: PlayedLink | None, spec: FunctionSpec = SPEC, spool: Spool | None = None
) -> Caller:
    """A caller of a function that becomes no task."""
    directory: Any = PlayedDirectory(link, spec)
    nothing: Any = None
    dispatcher = Dispatcher(
        directory, nothing, nothing, shows_tracebacks=False, terms=TaskSettings()
    )
    values = ValueStore(BlobStore("/nowhere"), 1000, spool or NO_PLACES.spool)
    context: Any = SimpleNamespace(
        calls=dispatcher,
        max_body=1000,
        values=values,
        files=SimpleNamespace(resolve=as_it_is),
        inputs=Inputs(spool=values.spool, room=SpoolRoom(1 << 30), most=1 << 20),
    )
    invoke = Invoke(context)

    def begin(exchange: Exchange) -> None:
        invoke.begin("f.f", exchange)

    return Caller(Answering(begin))


def head(*lines: str, length: int = 0) -> bytes:
    """The head of a call."""
    first = ("POST /f HTTP/1.1", "Host: here", f"Content-Length: {length}")
    return "\r\n".join([*first, *lines, "", ""]).encode()


async def test_a_value_is_answered_with_what_served_it() -> None:
    caller = calling(PlayedLink(calls.reply(Outcome.OK, b"c0de net@3", b"7")))
    caller.send(head())
    answer = caller.answer()
    assert (answer.status, answer.body) == (200, b"7")
    assert (answer.headers["x-skipper-code"], answer.headers["x-skipper-model"]) == (
        "c0de",
        "net@3",
    )
    assert not caller.connections.tasks


async def test_a_problem_is_answered_with_what_served_it_and_the_requests_id() -> None:
    caller = calling(PlayedLink(calls.problem(Outcome.FAILED, "no", b"c0de")))
    caller.send(head("X-Request-Id: an-id"))
    answer = caller.answer()
    assert (answer.status, json.loads(answer.body)["detail"]) == (500, "no")
    assert (answer.headers["x-skipper-code"], answer.headers["x-request-id"]) == ("c0de", "an-id")


# --- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        ((JSON,), b"{}", 200),
        (("content-type: APPLICATION/JSON; charset=utf-8",), b"{}", 200),
        ((), b"", 200),
        ((), b"{}", 415),
        ((JSON, "Content-Encoding: gzip"), b"{}", 415),
        ((JSON, "Content-Encoding: Identity"), b"{}", 200),
        ((JSON,), b"x" * 1000, 200),
        ((JSON,), b"x" * 1001, 413),
        ((JSON,), b"x" * 200_000, 413),
    ],
)
@pytest.mark.parametrize("is_at_once", [True, False])
async def test_a_body_is_json_of_a_bounded_size(
    lines: tuple[str, ...], body: bytes, status: int, is_at_once: bool
) -> None:
    link = PlayedLink(calls.reply(Outcome.OK, b"", b"7"))
    caller = calling(link)
    start = head(*lines, length=len(body))
    caller.send(*((start + body,) if is_at_once or not body else (start, body[:1], body[1:])))
    await settle()
    assert caller.answer().status == status
    if status == 200:
        assert link.payloads[0].endswith(body)


async def test_a_body_that_is_too_large_is_refused_before_it_comes() -> None:
    caller = calling(PlayedLink())
    caller.send(head(JSON, "Expect: 100-continue", length=1_000_000))
    await settle()
    assert caller.answer().status == 413


# --- values that are more than JSON -----------------------------------------------------------

PICTURES = SPEC.model_copy(update={"gives": ("image/png", "image/webp", "application/json")})
FILES = SPEC.model_copy(update={"gives": ("*/*",)})
BROWSERS = "content-security-policy", "x-content-type-options", "x-frame-options"


def given(part: Part) -> bytes:
    """The reply of a function whose value is this part."""
    return calls.reply(Outcome.OK, b"c0de", pack(Envelope(parts=(part,))))


def left(folder: Path) -> list[Path]:
    """What is there in the spool."""
    return list(folder.iterdir())


def inline(data: bytes, media_type: str = "image/png", name: str | None = None) -> Part:
    return Part(media_type=media_type, size=len(data), data=data, name=name)


async def test_a_value_of_one_part_is_answered_under_its_own_type() -> None:
    caller = calling(PlayedLink(given(inline(b"PNG", name="7.png"))), PICTURES)
    caller.send(head())
    answer = caller.answer()
    assert (answer.status, answer.body) == (200, b"PNG")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == 'inline; filename="7.png"'
    assert answer.headers["x-skipper-code"] == "c0de"
    assert all(name in answer.headers for name in BROWSERS)


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "a/b\r\nSet-Cookie: c=d"])
async def test_a_type_that_a_function_chose_does_no_harm(media_type: str) -> None:
    caller = calling(PlayedLink(given(inline(b"<script>", media_type, "a\r\nb"))), FILES)
    caller.send(head())
    answer = caller.answer()
    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].endswith('; filename="a__b"')
    if answer.headers["content-type"] != "application/octet-stream":
        assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("size", [0, 5, 65_536, 65_537, 300_000])
async def test_a_large_value_goes_from_the_spool_and_leaves_nothing_there(
    tmp_path: Path, size: int
) -> None:
    spool, data = Spool(tmp_path), bytes(range(256)) * (size // 256 + 1)
    name = spool.put(data[:size])
    reply = given(Part(media_type="image/png", size=size, spool=name))
    caller = calling(PlayedLink(reply), PICTURES, spool)
    caller.send(head())
    assert caller.answer().body == data[:size]
    assert left(tmp_path) == []


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_large_value_is_sent_as_it_is_read_and_takes_no_memory(
    tmp_path: Path, leaves: bool
) -> None:
    spool, data = Spool(tmp_path), bytes(5_000_000)
    reply = given(Part(media_type="image/png", size=len(data), spool=spool.put(data)))
    caller = calling(PlayedLink(reply), PICTURES, spool)
    caller.transport.is_read = False
    caller.send(head())
    assert len(caller.transport.out) < 1_200_000
    assert caller.connections.budget.taken(Use.ANSWER) == 0
    assert left(tmp_path) == []
    if leaves:
        caller.connection.connection_lost(None)
    else:
        while caller.transport.get_write_buffer_size():
            caller.transport.reads(1 << 20)
        assert caller.answer().body == data


async def test_what_has_gone_from_the_spool_is_a_problem(tmp_path: Path) -> None:
    reply = given(Part(media_type="image/png", size=5, spool="0" * 32))
    caller = calling(PlayedLink(reply), PICTURES, Spool(tmp_path))
    caller.send(head())
    assert caller.answer().status == 503


@pytest.mark.parametrize(
    ("accept", "written_as"),
    [
        ("*/*", ""),
        ("image/png", ""),
        ("image/*", ""),
        ("image/webp", "image/webp"),
        ("application/json", "application/json"),
        ("image/png;q=0.1, image/webp;q=0.2", "image/webp"),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"x": 1}'])
async def test_a_caller_has_its_value_written_as_it_accepts(
    accept: str, written_as: str, body: bytes
) -> None:
    link = PlayedLink(given(inline(b"PNG", written_as or "image/png")))
    caller = calling(link, PICTURES)
    caller.send(head(JSON, f"Accept: {accept}", length=len(body)) + body)
    await settle()
    assert caller.answer().status == 200
    payload = link.payloads[0]
    sent = payload[calls.parse_call(payload)[1] :]
    if written_as:
        assert unpack(sent) == Envelope(json=body, accept=written_as)
    else:
        assert sent == body


@pytest.mark.parametrize(
    ("spec", "accept", "available"),
    [
        (PICTURES, "text/html", ["image/png", "image/webp", "application/json"]),
        (PICTURES, "image/*;q=0", ["image/png", "image/webp", "application/json"]),
        (FILES, "text/csv", ["image/png"]),
    ],
)
async def test_who_accepts_nothing_that_there_is_gets_406(
    tmp_path: Path, spec: FunctionSpec, accept: str, available: list[str]
) -> None:
    spool = Spool(tmp_path)
    name = spool.put(b"PNG")
    link = PlayedLink(given(Part(media_type="image/png", size=3, spool=name)))
    caller = calling(link, spec, spool)
    caller.send(head(f"Accept: {accept}"))
    await settle()
    answer = caller.answer()
    document = json.loads(answer.body)
    assert (answer.status, document["available"]) == (406, available)
    assert accept in document["detail"]
    assert bool(link.payloads) is (spec is FILES)
    assert bool(left(tmp_path)) is (spec is PICTURES)


@pytest.mark.parametrize(
    ("accept", "as_task", "written_as"),
    [
        ("image/webp", True, "image/webp"),
        ("application/json", True, ""),
        ("text/event-stream", True, ""),
        ("text/html", True, None),
        ("application/json", False, None),
    ],
)
async def test_who_gets_a_task_may_accept_its_document_alone(
    accept: str, as_task: bool, written_as: str | None
) -> None:
    seen: list[Exchange] = []
    Caller(Answering(seen.append)).send(head(f"Accept: {accept}"))
    request = CallRequest(seen[0])
    spec = SPEC.model_copy(update={"gives": ("image/png", "image/webp")})
    if written_as is None:
        with pytest.raises(Problem, match=r"f\.f answers image/png, image/webp; accepted is"):
            request.accepted(spec, as_task=as_task)
    else:
        assert request.accepted(spec, as_task=as_task) == written_as


async def test_what_is_said_of_types_means_nothing_where_there_is_json_alone() -> None:
    link = PlayedLink(calls.reply(Outcome.OK, b"", b"7"))
    caller = calling(link)
    caller.send(head("Accept: image/png"))
    assert caller.answer().body == b"7"


TAKING = SPEC.model_copy(
    update={"takes": {"x": ("*/*",)}, "input_schema": {"properties": {"x": {}}}}
)
FORM = "Content-Type: multipart/form-data; boundary=XX"


@pytest.mark.parametrize("kind", [FORM, "Content-Type: image/png"])
@pytest.mark.parametrize("leaves", [True, False])
async def test_a_body_that_trickles_is_given_up_and_leaves_nothing(
    tmp_path: Path, kind: str, leaves: bool
) -> None:
    caller = calling(PlayedLink(), TAKING, Spool(tmp_path))
    start = b'--XX\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n'
    caller.send(head(kind, length=900_000) + start + b"x" * 200_000)
    await settle()
    assert len(left(tmp_path)) == 1
    now, stall_s = asyncio.get_running_loop().time(), Limits().stall_s
    caller.connections.look(now)
    if leaves:
        caller.leave()
    for step in range(10):  # a byte now and then is not enough
        caller.send(b"x")
        await settle()
        caller.connections.look(now + stall_s * step / 4)
        if caller.is_cut:
            break
    await settle()
    assert leaves or caller.answer().status == 408
    assert left(tmp_path) == []
    assert not caller.connections.tasks


@pytest.mark.parametrize(
    ("spec", "kind", "length", "said"),
    [
        (
            SPEC,
            "json",
            200_000,
            "1000 bytes are accepted (gateway.max_body_mb, or max_input= of the fun",
        ),
        (SPEC, "max", 3 << 20, "2 MiB are accepted (max_input= of f.f)"),
        (
            TAKING,
            "a/b",
            2 << 20,
            "1 MiB are accepted (files.max_mb, or max_input= of",
        ),
        (TAKING, "max a/b", 3 << 20, "2 MiB are accepted (max_input= of f.f)"),
        (
            SPEC,
            "huge",
            1 << 31,
            "256 MiB are accepted (of JSON: send a form, a raw",
        ),
    ],
)
async def test_a_body_that_is_too_large_is_told_what_moves_the_limit(
    spec: FunctionSpec, kind: str, length: int, said: str
) -> None:
    most = {"max": 2 << 20, "huge": 3 << 30}.get(kind.partition(" ")[0])
    caller = calling(PlayedLink(), spec.model_copy(update={"max_input": most}))
    media_type = "a/b" if "a/b" in kind else "application/json"
    caller.send(head(f"Content-Type: {media_type}", length=length))
    await settle()
    answer = caller.answer()
    assert answer.status == 413
    assert said in json.loads(answer.body)["detail"]


# --- deadlines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "timeout_s", "least_ms", "most_ms"),
    [(0.0, None, 59_000, 60_001), (20.0, None, 39_000, 40_001), (2.0, 8.0, 5_000, 6_001)],
)
async def test_a_deadline_counts_from_the_receipt(
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    timeout_s: float | None,
    least_ms: int,
    most_ms: int,
) -> None:
    link = PlayedLink()
    slowly_sent(
        monkeypatch, calling(link, SPEC.model_copy(update={"timeout_s": timeout_s})), seconds
    )
    assert least_ms <= calls.call_key(link.payloads[0]).budget_ms <= most_ms


async def test_a_call_whose_time_is_over_is_not_sent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    link = PlayedLink()
    caller = calling(link, SPEC.model_copy(update={"timeout_s": 8.0}))
    slowly_sent(monkeypatch, caller, 9.0)
    assert link.payloads == []
    assert caller.answer().status == 504
    assert b"the deadline passed before" in caller.answer().body


def slowly_sent(monkeypatch: pytest.MonkeyPatch, caller: Caller, seconds: float) -> None:
    """A call whose body comes ``seconds`` after its head."""
    loop = asyncio.get_running_loop()
    caller.send(head(JSON, length=2))
    later = loop.time() + seconds
    monkeypatch.setattr(loop, "time", lambda: later)
    caller.send(b"{}")


# --- callers who leave -----------------------------------------------------------------------


async def test_a_caller_who_leaves_has_its_call_given_up_and_is_sent_nothing() -> None:
    link = PlayedLink()
    caller = calling(link)
    caller.send(head())
    caller.transport.abort()
    await settle()
    assert link.cancelled == link.sent
    link.sent[0].answer(calls.reply(Outcome.OK, b"", b"7"))
    assert not caller.transport.out


async def test_a_caller_who_leaves_before_its_body_is_whole_has_called_nothing() -> None:
    for size in (10, 900):
        link = PlayedLink()
        caller = calling(link)
        caller.send(head(JSON, length=size) + b"{")
        await settle()
        caller.transport.abort()
        await settle()
        assert (link.sent, caller.connections.tasks) == ([], set())


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_caller_who_leaves_a_stream_has_it_given_up(has_begun: bool) -> None:
    link = PlayedLink()
    caller = calling(link, STREAMING)
    caller.send(head(SSE))
    await settle()
    (pending,) = link.sent
    assert pending.items is not None
    if has_begun:
        pending.items.put_nowait(b"c0de")
        pending.items.put_nowait(b"1")
        await settle()
    assert bool(caller.transport.out) is has_begun
    caller.transport.abort()
    await settle()
    assert link.cancelled == [pending]
    assert not caller.connections.tasks


async def test_a_stream_that_fails_before_its_first_item_is_a_problem_with_what_served_it() -> None:
    link = PlayedLink()
    caller = calling(link, STREAMING)
    caller.send(head(SSE))
    await settle()
    (pending,) = link.sent
    assert pending.items is not None
    pending.items.put_nowait(b"c0de")
    pending.answer(calls.problem(Outcome.FAILED, "no", b"c0de"))
    await settle()
    assert caller.answer().status == 500
    assert caller.answer().headers["x-skipper-code"] == "c0de"


# --- the end of the gateway ------------------------------------------------------------------


async def cut_short(link: PlayedLink | None) -> Caller:
    """The caller of a call that the server ends at the end of its grace."""
    caller = calling(link)
    caller.send(head())
    await settle()
    for connection in list(caller.connections.open):
        connection.shutdown()
    for task in caller.connections.tasks:
        task.cancel()
    await settle()
    caller.connections.cut()
    await settle()
    return caller


async def test_a_call_that_waits_for_its_function_is_answered_that_the_gateway_shuts_down() -> None:
    answer = (await cut_short(None)).answer()
    assert (answer.status, json.loads(answer.body)["detail"]) == (503, "the gateway shuts down")


async def test_a_call_that_runs_is_answered_so_too_and_given_up() -> None:
    link = PlayedLink()
    caller = await cut_short(link)
    assert caller.answer().status == 503
    assert caller.is_cut
    assert link.cancelled == link.sent
