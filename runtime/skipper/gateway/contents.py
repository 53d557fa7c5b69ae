"""Answers that are not JSON: the bytes of one value, from memory, the spool or the store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import logging
import re
from typing import BinaryIO, NamedTuple, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skipper import problems
from skipper.gateway import negotiation
from skipper.gateway.budget import SMALL
from skipper.gateway.media import disposition, media_type_of
from skipper.gateway.problems import Problem
from skipper.values.envelope import Part
from skipper.values.store import ValueStore, reason_of

log = logging.getLogger(__name__)

_CHUNK = 256 << 10
"""Read at once, and all that is held of what is sent."""
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_MOST_DIGITS = 18


class Span(NamedTuple):
    """The bytes of a content that are sent: from ``start`` on, ``size`` of them."""

    start: int
    size: int


def span_of(header: str, size: int) -> Span | None:
    """What a Range header asks for; None for all, and for what may be ignored (RFC 9110, 14.2).

    Raises Problem where it asks for nothing that there is.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
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
        headers |= {"ETag": _tag(part), "Accept-Ranges": "bytes"}
    return headers


def check_accepted(accept: str, part: Part) -> None:
    """Raise Problem where a caller does not accept what a part is."""
    media_type = media_type_of(part.media_type).partition(";")[0]
    if accept and not negotiation.accepts(accept, media_type):
        raise negotiation.not_acceptable("the value is", accept, [media_type])


class WantedContent(NamedTuple):
    """What a request says of the bytes that it wants: its headers, empty where there are none."""

    accept: str = ""
    range: str = ""
    if_range: str = ""
    if_none_match: str = ""

    def has(self, tag: str) -> bool:
        """Whether the caller has what this tag names: RFC 9110, 13.1.2."""
        known = [each.strip().removeprefix("W/") for each in self.if_none_match.split(",")]
        return tag in known or known == ["*"]


def content_response(part: Part, values: ValueStore, wanted: WantedContent) -> Response:
    """A stored part as it is wanted: all of it, a span, or that its caller has it.

    Raises Problem where its type is not accepted, and where Range asks for nothing that there is.
    """
    check_accepted(wanted.accept, part)
    if part.ref is None:
        return ContentResponse(part, values)
    tag = _tag(part)
    if wanted.has(tag):
        return Response(status_code=304, headers={"ETag": tag})
    is_valid = wanted.if_range in ("", tag)
    span = span_of(wanted.range, part.size) if is_valid else None
    return ContentResponse(part, values, span=span)


class ContentResponse(Response):
    """Sends a part, all of it or a span, as its caller reads it, and holds one piece of it.

    What lies in the spool is forgotten then. Raises Problem where it is there no more, or damaged,
    before anything is sent; what shows to be damaged later is broken off.
    """

    def __init__(self, part: Part, values: ValueStore, *, span: Span | None = None) -> None:
        own, sent = headers_of(part), span or Span(0, part.size)
        own["Content-Length"] = str(sent.size)
        if span is not None:
            last = span.start + span.size - 1
            own["Content-Range"] = f"bytes {span.start}-{last}/{part.size}"
        super().__init__(None, 206 if span is not None else 200, own)
        self._part, self._values, self._span = part, values, sent
        is_whole = part.ref is not None and sent.size == part.size
        self._digest = hashlib.sha256() if is_whole else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        with contextlib.ExitStack() as stack:
            if self._part.spool is not None:
                stack.callback(self._values.spool.remove, [self._part.spool])
            stream = stack.enter_context(await asyncio.to_thread(self._opened))
            left = 0 if scope["method"] == "HEAD" else self._span.size
            piece = await asyncio.to_thread(self._read, stream, left)
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            while piece:
                left -= len(piece)
                for at in range(0, len(piece), SMALL):  # so that it needs no room of its own
                    body = {"body": piece[at : at + SMALL], "more_body": True}
                    await send({"type": "http.response.body", **body})
                piece = await asyncio.to_thread(self._read, stream, left)
            await send({"type": "http.response.body", "body": b""})

    def _opened(self) -> BinaryIO:
        part = self._part
        try:
            if part.data is not None:
                stream: BinaryIO = io.BytesIO(part.data)
            elif part.spool is not None:
                stream = self._values.spool.open(part.spool)
            else:
                stream = cast(BinaryIO, self._values.blobs.open(part.ref or ""))
            stream.seek(self._span.start)
        except OSError as error:
            raise lost(f"is no longer stored: {reason_of(error)}") from None
        return stream

    def _read(self, stream: BinaryIO, left: int) -> bytes:
        """The next piece, of so much that is left: in a thread, because disks may be slow."""
        try:
            piece = stream.read(min(_CHUNK, left))
        except OSError as error:
            raise lost(f"cannot be read: {reason_of(error)}") from None
        if left and not piece:
            raise lost("is damaged: it is shorter than it was")
        if self._digest is not None and piece:
            self._digest.update(piece)
            if len(piece) == left and self._digest.hexdigest() != self._part.ref:
                log.error("blob %s, a stored value, cannot be used: damaged", self._part.ref)
                raise lost("is damaged: what is stored is not what was written")
        return piece


def lost(what: str) -> Problem:
    """That a value cannot be had any more; ``what`` says why."""
    return Problem(problems.UNAVAILABLE, f"the value {what}")


def _tag(part: Part) -> str:
    return f'"{part.ref}"'
