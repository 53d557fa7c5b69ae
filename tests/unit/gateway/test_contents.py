"""Parts are sent as what they are, wholly or in spans, and never as what a browser would run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.gateway.contents import (
    ContentResponse,
    Span,
    WantedContent,
    check_accepted,
    content_response,
    span_of,
)
from skipper.gateway.problems import Problem
from skipper.values.envelope import Part
from skipper.values.spool import Spool
from skipper.values.store import ValueStore

LARGE = bytes(range(256)) * 4000


@pytest.fixture
def values(tmp_path: Path) -> ValueStore:
    return ValueStore(BlobStore(str(tmp_path / "blobs")), 1024, Spool(tmp_path / "spool"))


async def sent(response: ContentResponse, method: str = "GET") -> tuple[dict[bytes, bytes], bytes]:
    """Headers and body."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await response({"method": method}, send, send)  # type: ignore[arg-type] # it receives nothing
    body = b"".join(each.get("body", b"") for each in messages[1:])
    return dict(messages[0]["headers"]), body


@pytest.mark.parametrize("place", ["inline", "spool", "store"])
async def test_a_part_is_sent_from_wherever_it_lies(values: ValueStore, place: str) -> None:
    where: dict[str, Any] = {"data": LARGE}
    if place == "spool":
        where = {"spool": values.spool.put(LARGE)}
    elif place == "store":
        where = {"ref": values.blobs.put(LARGE)}
    part = Part(media_type="image/png", size=len(LARGE), **where)
    headers, body = await sent(ContentResponse(part, values))
    assert body == LARGE
    assert headers[b"content-length"] == b"%d" % len(LARGE)
    assert (b"etag" in headers) is (place == "store")
    if place == "spool":
        assert not (values.spool.folder / (part.spool or "")).exists()
        return
    headers, body = await sent(ContentResponse(part, values), "HEAD")
    assert (headers[b"content-length"], body) == (b"%d" % len(LARGE), b"")
    headers, body = await sent(ContentResponse(part, values, span=Span(300_000, 500_000)))
    assert body == LARGE[300_000:800_000]
    assert headers[b"content-range"] == b"bytes 300000-799999/%d" % len(LARGE)


@pytest.mark.parametrize("size", [100, 300_000, 1_000_000])
@pytest.mark.parametrize("is_shorter", [False, True])
async def test_what_is_damaged_is_never_sent_as_whole(
    values: ValueStore, tmp_path: Path, size: int, is_shorter: bool
) -> None:
    ref = values.blobs.put(LARGE[:size])
    damaged = b"" if is_shorter else LARGE[: size - 1] + bytes([LARGE[size - 1] ^ 1])
    (tmp_path / "blobs" / ref[:2] / ref).write_bytes(damaged)
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    response = ContentResponse(Part(media_type="a/b", size=size, ref=ref), values)
    with pytest.raises(Problem, match="the value is damaged"):
        await response({"method": "GET"}, send, send)  # type: ignore[arg-type] # it receives nothing
    assert len(b"".join(each.get("body", b"") for each in messages)) < size
    assert not messages or size > 256 << 10
    assert all(each.get("more_body", True) for each in messages)


REF = "e" * 64


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (WantedContent(), 200),
        (WantedContent(range="bytes=0-4"), 206),
        (WantedContent(range="bytes=0-4", if_range=f'"{REF}"'), 206),
        (WantedContent(range="bytes=0-4", if_range='"other"'), 200),
        (WantedContent(range="bytes=0-4", if_range="Wed, 21 Oct 2026 07:28:00 GMT"), 200),
        (WantedContent(if_none_match=f'"{REF}"'), 304),
        (WantedContent(if_none_match=f'"a", W/"{REF}"'), 304),
        (WantedContent(if_none_match="*"), 304),
        (WantedContent(if_none_match='"a"'), 200),
        (WantedContent(if_none_match=REF), 200),
        (WantedContent(range="bytes=0-4", if_none_match=f'"{REF}"'), 304),
    ],
)
def test_a_stored_part_is_sent_as_far_as_it_is_wanted(
    values: ValueStore, wanted: WantedContent, status: int
) -> None:
    part = Part(media_type="a/b", size=10, ref=REF)
    response = content_response(part, values, wanted)
    assert response.status_code == status
    assert response.headers["etag"] == f'"{REF}"'


async def test_what_is_gone_is_a_problem_before_anything_is_sent(values: ValueStore) -> None:
    part = Part(media_type="a/b", size=5, ref="0" * 64)
    with pytest.raises(Problem, match="no longer stored"):
        await sent(ContentResponse(part, values))


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("", None),
        ("bytes=0-9", Span(0, 10)),
        ("bytes=5-", Span(5, 95)),
        ("bytes=-10", Span(90, 10)),
        ("bytes=-1000", Span(0, 100)),
        ("bytes=90-1000", Span(90, 10)),
        ("bytes = 1 - 2", Span(1, 2)),
        ("bytes=-", None),
        ("bytes=1-2,5-6", None),
        ("BYTES=1-2", Span(1, 2)),
        ("bytes=\u0661-", None),
        ("bytes=5-" + "9" * 5000, Span(5, 95)),
        ("bytes=-" + "9" * 5000, Span(0, 100)),
        ("items=1-2", None),
    ],
)
def test_a_range_is_read_or_ignored(header: str, span: Span | None) -> None:
    assert span_of(header, 100) == span


@pytest.mark.parametrize(
    "header", ["bytes=100-", "bytes=5-4", "bytes=-0", "bytes=" + "9" * 5000 + "-"]
)
def test_a_range_of_nothing_is_refused(header: str) -> None:
    with pytest.raises(Problem, match="there are 100 bytes"):
        span_of(header, 100)


def test_a_type_that_is_not_accepted_is_refused() -> None:
    part = Part(media_type="audio/wav", size=0, data=b"")
    check_accepted("", part)
    check_accepted("audio/*", part)
    check_accepted("text/csv", Part(media_type="text/csv; charset=utf-8", size=0, data=b""))
    with pytest.raises(Problem, match="the value is audio/wav; accepted is image/png"):
        check_accepted("image/png", part)
