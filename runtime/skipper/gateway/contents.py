"""Answers that are not JSON: the bytes of one value, from memory, the spool or the store."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, NamedTuple, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skipper import problems
from skipper.gateway import negotiation
from skipper.gateway.media import disposition, media_type_of
from skipper.gateway.problems import Problem
from skipper.values.envelope import Part
from skipper.values.store import ValueStore, reason_of

_CHUNK = 256 << 10
"""Read at once, and all that is held of what is sent."""
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_MOST_DIGITS = 18


class Span(NamedTuple):
    """The bytes of a content that are sent: from ``start`` on, ``size`` of them."""

    start: int
    size: int


def span_of(header: str | None, size: int) -> Span | None:
    """What a Range header asks for; None for all, and for what may be ignored (RFC 9110, 14.2).

    Raises Problem where it asks for nothing that there is.
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # the last so many
        start = max(0, size - _number(last))
        found = Span(start, size - start)
    else:
        end = size if not last else min(size, _number(last) + 1)
        found = Span(_number(first), end - _number(first))
    if found.size <= 0 or found.start >= size:
        raise Problem(problems.RANGE, f"there are {size} bytes")
    return found


def _number(digits: str) -> int:
    """A number of a caller's; one that is larger than any file, for what Python would not read."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def headers_of(part: Part) -> dict[str, str]:
    """What tells a caller what the bytes of a part are."""
    media_type = media_type_of(part.media_type)
    headers = {"Content-Type": media_type}
    if (found := disposition(media_type, part.name)) is not None:
        headers["Content-Disposition"] = found
    if part.ref is not None:
        headers |= {"ETag": f'"{part.ref}"', "Accept-Ranges": "bytes"}
    return headers


def check_accepted(accept: str, part: Part) -> None:
    """Raise Problem where a caller does not accept what a part is."""
    media_type = media_type_of(part.media_type).partition(";")[0]
    if accept and not negotiation.accepts(accept, media_type):
        detail = f"the value is {media_type}; accepted is {accept}"
        raise Problem(problems.NOT_ACCEPTABLE, detail)


class ContentResponse(Response):
    """Sends a part, all of it or a span, as its caller reads it; then ``on_end`` is called.

    Raises Problem where it is there no more.
    """

    def __init__(
        self,
        part: Part,
        values: ValueStore,
        *,
        headers: dict[str, str] | None = None,
        span: Span | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        own = headers_of(part) | (headers or {})
        sent = span or Span(0, part.size)
        own["Content-Length"] = str(sent.size)
        if span is not None:
            last = span.start + span.size - 1
            own["Content-Range"] = f"bytes {span.start}-{last}/{part.size}"
        super().__init__(None, 206 if span is not None else 200, own)
        self.raw_headers = [h for h in self.raw_headers if h[0] != b"content-length"]
        self.raw_headers.append((b"content-length", str(sent.size).encode()))
        self._part, self._values, self._span, self._on_end = part, values, sent, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        try:
            with contextlib.ExitStack() as stack:
                pieces = self._pieces(stack)
                first = await anext(pieces, b"")
                start = {"type": "http.response.start", "status": self.status_code}
                await send({**start, "headers": self.raw_headers})
                if scope["method"] != "HEAD":
                    await send({"type": "http.response.body", "body": first, "more_body": True})
                    async for piece in pieces:
                        body = {"type": "http.response.body", "body": piece, "more_body": True}
                        await send(body)
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._on_end()

    async def _pieces(self, stack: contextlib.ExitStack) -> AsyncIterator[bytes]:
        part, (start, left) = self._part, self._span
        if part.data is not None:
            yield bytes(part.data[start : start + left])
            return
        stream = stack.enter_context(await asyncio.to_thread(self._opened))
        stream.seek(start)
        while left:
            # In a thread, because it may lie on a slow disk, or elsewhere.
            data = await asyncio.to_thread(stream.read, min(_CHUNK, left))
            if not data:
                raise OSError("a stored value is shorter than it was")
            left -= len(data)
            yield data

    def _opened(self) -> BinaryIO:
        part = self._part
        try:
            if part.spool is not None:
                return self._values.spool.path(part.spool).open("rb")
            return cast(BinaryIO, self._values.blobs.open(part.ref or ""))
        except OSError as error:
            detail = f"the value is no longer stored: {reason_of(error)}"
            raise Problem(problems.UNAVAILABLE, detail) from None
