"""A value that is more than one piece of JSON: its parts beside it, inline or by reference.

What crosses as a body, a reply or an item is JSON or, with a first byte that no JSON begins with,
an envelope: a header that tells what lies where, then the bytes of what is inline. Its JSON refers
to its parts as ``{"file": KEY}``, where the bytes of a file would stand. One without JSON is a
single value of the media type of its only part.

Whoever passes an envelope on looks at its header alone. Only the runtime makes them: what callers
send as JSON is refused where it begins like one.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

MEDIA_TYPE = "application/vnd.skipper.envelope"
"""Of an envelope in the ledger."""
NATIVE = "native"
"""As :attr:`Envelope.accept`: the answer is for a function, which takes every type as it is."""
REFERENCE = "file"
"""The member of a JSON object that refers to a part or to an uploaded file, and has no other."""
FILE_ID = re.compile(rb"file-[0-9a-f]{32}")
"""What names an uploaded file, wherever in a body it stands."""
MARK = b"\0"
"""The first byte of an envelope, for who looks at each body."""
_HEAD = struct.Struct("!cI")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The bytes of one value: ``data``, or in the ``spool`` of this machine, or the blob ``ref``.

    Raises ValueError for none or several of those.
    """

    media_type: str
    size: int
    key: str = ""
    """How its envelope's JSON refers to it."""
    name: str | None = None
    """Of the file, as its sender called it: for people, and never a path."""
    digest: str | None = None
    """SHA-256 of what lies in the spool, where whoever wrote it there has made one."""
    data: bytes | memoryview | None = None
    spool: str | None = None
    ref: str | None = None

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.data, self.spool, self.ref)) != 1:
            raise ValueError("a part is inline, in the spool or in the store")


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """JSON and its parts, or one part alone."""

    parts: tuple[Part, ...] = ()
    json: bytes | None = None
    accept: str = ""
    """Of an input: the media type in which the value is to be written, or :data:`NATIVE`."""

    @property
    def sole(self) -> Part | None:
        """The value, where it is a single one that is not JSON."""
        return self.parts[0] if self.json is None else None

    @property
    def size(self) -> int:
        """Bytes of all that it stands for, wherever they are."""
        return len(self.json or b"") + sum(part.size for part in self.parts)

    @property
    def refs(self) -> dict[str, int]:
        """The blobs that it consists of, with their sizes."""
        return {part.ref: part.size for part in self.parts if part.ref is not None}

    @property
    def spooled(self) -> tuple[str, ...]:
        """The files in the spool that it consists of."""
        return tuple(part.spool for part in self.parts if part.spool is not None)


def is_envelope(body: bytes) -> bool:
    """Whether ``body`` is one, not JSON."""
    return body[:1] == MARK


def pack(envelope: Envelope) -> bytes:
    """Its bytes. The same envelope always makes the same ones."""
    header: dict[str, Any] = {"parts": [_described(part) for part in envelope.parts]}
    if envelope.json is not None:
        header["json"] = len(envelope.json)
    if envelope.accept:
        header["accept"] = envelope.accept
    head = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    inline = (part.data for part in envelope.parts if part.data is not None)
    return b"".join((_HEAD.pack(MARK, len(head)), head, envelope.json or b"", *inline))


def unpack(body: bytes) -> Envelope:
    """The envelope that ``body`` is; what is inline are views on it.

    Raises ValueError for bytes that are none.
    """
    try:
        mark, size = _HEAD.unpack_from(body)
        whole, at = memoryview(body), _HEAD.size + size
        header = json.loads(bytes(whole[_HEAD.size : at]))
        text = None
        if (length := header.get("json")) is not None:
            text, at = bytes(whole[at : at + length]), at + length
        parts = []
        for described in header["parts"]:
            part = _part(described, whole, at)
            parts.append(part)
            at += part.size if part.data is not None else 0
    except (struct.error, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no envelope: {error}") from None
    if mark != MARK or at != len(whole):
        raise ValueError("no envelope: its length is not what its header says")
    return Envelope(parts=tuple(parts), json=text, accept=header.get("accept", ""))


def as_envelope(body: bytes) -> Envelope:
    """What ``body`` is, in one form: JSON becomes an envelope without parts."""
    return unpack(body) if is_envelope(body) else Envelope(json=body)


def as_body(envelope: Envelope) -> bytes:
    """The body that stands for it: JSON alone stays JSON."""
    if envelope.json is not None and not envelope.parts and not envelope.accept:
        return envelope.json
    return pack(envelope)


def file_ids(body: bytes) -> frozenset[str]:
    """What may be ids of files in a body of JSON, which is not read for that."""
    if b"file-" not in body:  # which says so of most bodies, and quicker
        return frozenset()
    return frozenset(found.decode() for found in FILE_ID.findall(body))


def files_named(value: object) -> Iterator[str]:
    """The ids of uploaded files that plain data refers to."""
    if (key := referred(value)) is not None:
        if FILE_ID.fullmatch(key.encode()):
            yield key
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from files_named(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from files_named(each)


def with_accept(body: bytes, accept: str) -> bytes:
    """``body``, to be answered in this media type."""
    return as_body(replace(as_envelope(body), accept=accept))


def spooled_in(body: bytes) -> tuple[str, ...]:
    """The files in the spool that ``body`` consists of."""
    return unpack(body).spooled if is_envelope(body) else ()


def with_files(body: bytes, files: Iterable[Part]) -> bytes:
    """``body``, with the uploaded files that it names among its parts."""
    envelope = as_envelope(body)
    known = {part.key for part in envelope.parts}
    more = tuple(part for part in files if part.key not in known)
    return as_body(replace(envelope, parts=envelope.parts + more))


def reference(key: str) -> dict[str, str]:
    """How JSON refers to the part or the file with this key."""
    return {REFERENCE: key}


def referred(value: object) -> str | None:
    """The key of the part or the file that plain data refers to; None where it does not."""
    if isinstance(value, Mapping) and value.keys() == {REFERENCE}:
        key = value[REFERENCE]
        return key if isinstance(key, str) else None
    return None


def _described(part: Part) -> dict[str, Any]:
    described = {
        "type": part.media_type,
        "size": part.size,
        "key": part.key or None,
        "name": part.name,
        "digest": part.digest,
        "spool": part.spool,
        "ref": part.ref,
    }
    return {name: value for name, value in described.items() if value is not None}


def _part(described: Mapping[str, Any], whole: memoryview, at: int) -> Part:
    size, spool, ref = int(described["size"]), described.get("spool"), described.get("ref")
    is_inline = spool is None and ref is None
    if is_inline and not 0 <= size <= len(whole) - at:
        raise ValueError("a part is longer than what came")
    return Part(
        media_type=str(described["type"]),
        size=size,
        key=described.get("key", ""),
        name=described.get("name"),
        digest=described.get("digest"),
        data=whole[at : at + size] if is_inline else None,
        spool=spool,
        ref=ref,
    )
