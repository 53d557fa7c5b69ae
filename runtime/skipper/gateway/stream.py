"""Server-sent events and JSON lines: how a generator's items go to a caller over HTTP."""

from __future__ import annotations

from typing import Any

from starlette.types import Send

from skipper.gateway.answers import Headers, json_bytes, served_headers
from skipper.gateway.budget import SMALL
from skipper.gateway.item_stream import ItemStream
from skipper.gateway.problems import Problem

EVENTS = b"text/event-stream"


def stream_type(accept: bytes) -> bytes:
    """The media type of the stream that the caller accepts; empty for none."""
    for kind in (EVENTS, b"application/jsonl", b"application/x-ndjson"):
        if kind in accept:
            return kind
    return b""


def sse(event: str, data: Any, id_: object = None) -> bytes:
    """One server-sent event; ``data`` is JSON text as bytes, or a value."""
    text = data if isinstance(data, bytes) else json_bytes(data)
    head = f"id: {id_}\n" if id_ is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + text + b"\n\n"


async def send_items(stream: ItemStream, kind: bytes, headers: Headers, send: Send) -> None:
    """Send a stream's items as ``kind``, then ``done`` or the problem that ended it.

    Raises Problem, with nothing sent, for a function that fails before its first item.
    """
    await stream.begin()
    start: Headers = [
        (b"content-type", kind),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        *headers,
        *served_headers(stream.served),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    is_sse = kind == EVENTS
    try:
        async for item in stream:
            for part in _parts(item, is_sse=is_sse):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        problem = stream.problem
    except Problem as found:  # there is no room for the item until the caller has read it
        problem = found
        stream.give_up()
    await send({"type": "http.response.body", "body": _end(problem, is_sse=is_sse)})


def _parts(item: bytes, *, is_sse: bool) -> tuple[bytes, ...]:
    """What is sent of an item; a large one is not copied."""
    if len(item) <= SMALL:
        return (sse("item", item) if is_sse else item + b"\n",)
    return (b"event: item\ndata: ", item, b"\n\n") if is_sse else (item, b"\n")


def _end(problem: Problem | None, *, is_sse: bool) -> bytes:
    """How the stream closes: ``done``, or the problem that ended it."""
    if problem is None:
        return sse("done", b"{}") if is_sse else b""
    document = problem.document()
    if is_sse:
        return sse("error", document)
    return json_bytes({"error": document}) + b"\n"
