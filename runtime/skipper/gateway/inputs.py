"""Bodies that are not JSON: raw ones and forms, received into an envelope as they come.

What is large goes to the spool piece by piece, so that this process never holds a body. Whoever has
called :meth:`Inputs.received` sees to what lies in the spool; where that raises, nothing does.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from skipper import problems
from skipper.gateway.members import FormMembers
from skipper.gateway.problems import Problem
from skipper.spec import FunctionSpec
from skipper.values.envelope import Envelope, Part, as_body
from skipper.values.opening import INLINE_BYTES
from skipper.values.spool import Spool, SpooledFile
from skipper.values.types import matches
from skipper.values.value import JSON

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
"""Because what it warns of is told to whoever sent it, who could fill the log with it."""
FORM = "multipart/form-data"
MOST_PARTS = 100
PART_HEADERS = 32
PART_HEAD = 16 << 10
"""Bytes of the headers of one part."""
FIELD_BYTES = 1 << 20
"""Of a field that is text or JSON, which is held."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Pieces = AsyncIterator[bytes]


@dataclass(eq=False)
class SpoolRoom:
    """How many bytes this process may have in the spool at once."""

    most: int
    taken: int = 0

    def take(self, size: int) -> None:
        """Raise Problem where there is no room for so many more."""
        if self.taken + size > self.most:
            detail = f"bodies take {self.taken / 1e9:.1f} GB already (files.quota_gb); try later"
            raise Problem(problems.NO_ROOM, detail)
        self.taken += size

    def give_back(self, size: int) -> None:
        self.taken -= size


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Receives bodies; ``most`` is how many bytes one may have if its function does not say."""

    spool: Spool
    room: SpoolRoom
    most: int

    def limit(self, spec: FunctionSpec) -> int:
        """How many bytes a body of the function may have."""
        return spec.max_input or self.most

    async def received(
        self, spec: FunctionSpec, content_type: str, query: bytes, pieces: Pieces
    ) -> bytes:
        """The envelope of a body that comes in pieces. Raises Problem for what cannot be one."""
        media_type, options = parse_options_header(content_type.encode("latin-1", "replace"))
        kind = media_type.decode("latin-1").lower()
        with _Reception(self, self.limit(spec)) as reception:
            members = FormMembers(spec)
            for name, text in _query(query):
                members.add_text(name, text)
            if kind == FORM:
                await _Form(reception, members, options.get(b"boundary", b"")).receive(pieces)
            else:
                name = _taking(spec, kind)
                await reception.begin(f"the body ({name})", spools=True).receive(pieces)
                members.add_part(name, reception.part(kind, None))
            return reception.kept(Envelope(parts=tuple(reception.parts), json=members.json()))

    async def file(self, media_type: str, name: str | None, pieces: Pieces) -> Part:
        """A file of its own, hashed, in the spool. Raises Problem."""
        with _Reception(self, self.most, is_hashed=True) as reception:
            await reception.begin("the file", spools=True).receive(pieces)
            part = reception.part(media_type, name)
            reception.kept(Envelope(parts=(part,)))
            return part


def _query(query: bytes) -> list[tuple[str, str]]:
    try:
        text = query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARTS)
    except ValueError as error:
        raise Problem(problems.BAD_REQUEST, f"the query cannot be read: {error}") from None


def _taking(spec: FunctionSpec, media_type: str) -> str:
    """The parameter that takes a raw body of this type. Raises Problem."""
    fitting = [name for name, reads in spec.takes.items() if matches(media_type, reads)]
    exactly = [name for name in fitting if "*/*" not in spec.takes[name]]
    found = exactly or fitting
    if len(found) == 1:
        return found[0]
    if found:
        detail = f"{' and '.join(found)} take {media_type}: send a form ({FORM}), a part for each"
    else:
        kinds = sorted({kind for reads in spec.takes.values() for kind in reads})
        taken = ", ".join([JSON, *([FORM] if spec.takes else []), *kinds])
        detail = f"{spec.name} takes {taken}, not {media_type or 'a body without Content-Type'}"
    raise Problem(problems.MEDIA, detail, {"function": spec.name})


class _Reception:
    """What has been received of one request. All in the spool goes again, unless it is kept."""

    def __init__(self, inputs: Inputs, limit: int, *, is_hashed: bool = False) -> None:
        self._inputs, self._limit, self._is_hashed = inputs, limit, is_hashed
        self.parts: list[Part] = []
        self._size = self._held = 0
        self._is_kept = False
        self._sink: _Sink | None = None

    def __enter__(self) -> _Reception:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sink is not None:
            self._sink.discard()
        self._inputs.room.give_back(self._held)
        if not self._is_kept:
            self._inputs.spool.remove(Envelope(parts=tuple(self.parts)).spooled)

    def count(self, size: int) -> None:
        """Raise Problem where the body is too large with so much more."""
        self._size += size
        if self._size > self._limit:
            mib = self._limit / (1 << 20)
            detail = f"at most {mib:g} MiB are taken (max_input= of the function, files.max_mb)"
            raise Problem(problems.TOO_LARGE, detail)

    def hold(self, size: int) -> None:
        """Count what goes to the spool. Raises Problem."""
        self._inputs.room.take(size)
        self._held += size

    def begin(self, what: str, *, spools: bool) -> _Sink:
        """Where the next part goes; ``what`` names it in messages."""
        open_file = self._opened if spools else None
        self._sink = _Sink(self, what, open_file, 0 if self._is_hashed else INLINE_BYTES)
        return self._sink

    def _opened(self) -> SpooledFile:
        return self._inputs.spool.create(is_hashed=self._is_hashed)

    def part(self, media_type: str, name: str | None) -> Part:
        """What has gone into the present sink, as a part. Raises Problem."""
        assert self._sink is not None
        part = self._sink.part(f"#{len(self.parts)}", media_type, name)
        self.parts.append(part)
        return part

    def kept(self, envelope: Envelope) -> bytes:
        self._is_kept = True
        return as_body(envelope)


@dataclass
class _Sink:
    """Takes the bytes of one part: up to a limit here, beyond it to the spool."""

    reception: _Reception
    what: str
    open_file: Callable[[], SpooledFile] | None
    inline_bytes: int
    _data: bytearray = field(default_factory=bytearray)
    _file: SpooledFile | None = None

    async def receive(self, pieces: Pieces) -> None:
        """Take a body that is one part."""
        async for piece in pieces:
            self.reception.count(len(piece))
            self.write(piece)

    def write(self, data: bytes) -> None:
        """Raises Problem where there is no room."""
        if self._file is None and self.open_file is None:
            if len(self._data) + len(data) > FIELD_BYTES:
                detail = f"{self.what} is text of more than {FIELD_BYTES >> 20} MiB"
                raise Problem(problems.TOO_LARGE, f"{detail}; send it with a filename")
            self._data += data
            return
        if self._file is None and len(self._data) + len(data) <= self.inline_bytes:
            self._data += data
            return
        self._spooled(data)

    def _spooled(self, data: bytes) -> None:
        self.reception.hold(len(data) if self._file else len(data) + len(self._data))
        try:
            if self._file is None:
                assert self.open_file is not None
                self._file = self.open_file()
                self._file.write(self._data)
                self._data = bytearray()
            self._file.write(data)
        except OSError as error:
            self.discard()
            if error.errno not in _NO_ROOM:
                raise
            detail = f"{self.what} cannot be stored: {error.strerror}"
            raise Problem(problems.NO_ROOM, detail) from None

    def text(self) -> bytes:
        """What it has taken, of a part that is held."""
        return bytes(self._data)

    def part(self, key: str, media_type: str, name: str | None) -> Part:
        if self._file is None and self.inline_bytes == 0:
            self._spooled(b"")  # a file is a file, be it empty
        if self._file is None:
            data = bytes(self._data)
            return Part(media_type=media_type, size=len(data), key=key, name=name, data=data)
        file, self._file = self._file, None
        with file:
            return Part(
                media_type=media_type,
                size=file.size,
                key=key,
                name=name,
                digest=file.digest,
                spool=file.kept(),
            )

    def discard(self) -> None:
        if self._file is not None:
            with self._file:
                self._file = None


class _Form:
    """A form: its parts, one after the other, as the parser finds them."""

    def __init__(self, reception: _Reception, members: FormMembers, boundary: bytes) -> None:
        if not 0 < len(boundary) <= 70:  # RFC 2046, 5.1.1
            detail = f"Content-Type: {FORM} needs a boundary of 1 to 70 characters"
            raise Problem(problems.BAD_REQUEST, detail)
        self._reception, self._members = reception, members
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._name_on,
                "on_header_value": self._value_on,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._content_begins,
                "on_part_data": self._write,
                "on_part_end": self._end,
                "on_end": self._ends,
            },
            max_header_count=PART_HEADERS,
            max_header_size=2 * PART_HEAD,  # so that this says which part it is
        )
        self._count = 0
        self._part = ""
        """The name of the present part, once it is known."""
        self._is_over = False

    async def receive(self, pieces: Pieces) -> None:
        async for piece in pieces:
            self._reception.count(len(piece))
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise self._bad(str(error)) from None
        if not self._is_over:
            within = f"part {self._part!r}" if self._part else f"part {self._count}"
            where = f", in {within}" if self._count else ", and no boundary has come"
            raise self._bad(f"it ends before its last boundary{where}")

    def _bad(self, detail: str) -> Problem:
        return Problem(problems.BAD_REQUEST, f"the form cannot be read: {detail}")

    # --- what the parser calls

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise Problem(problems.TOO_LARGE, f"a form has at most {MOST_PARTS} parts")
        self._part, self._head = "", dict[bytes, bytes]()
        self._field, self._value, self._head_size = b"", b"", 0

    def _name_on(self, data: bytes, start: int, end: int) -> None:
        self._field += self._counted(data[start:end])

    def _value_on(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data[start:end])

    def _counted(self, data: bytes) -> bytes:
        self._head_size += len(data)
        if self._head_size > PART_HEAD:
            detail = f"the headers of part {self._count} have more than {PART_HEAD >> 10} KiB"
            raise Problem(problems.HEAD_TOO_LARGE, detail)
        return data

    def _header_ends(self) -> None:
        self._head[self._field.lower()] = self._value
        self._field = self._value = b""

    def _content_begins(self) -> None:
        disposition, options = parse_options_header(self._head.get(b"content-disposition"))
        name = options.get(b"name")
        if disposition != b"form-data" or name is None:
            raise self._bad(f"part {self._count} has no Content-Disposition: form-data; name=…")
        self._part = _named(name)
        self._members.check(self._part)
        filename = options.get(b"filename")
        self._filename = None if filename is None else _named(filename)
        kind, _ = parse_options_header(self._head.get(b"content-type"))
        self._kind = kind.decode("latin-1").lower()
        self._is_bytes = self._members.is_bytes(self._part, self._kind, self._filename)
        if self._is_bytes:  # before it comes
            self._kind = self._members.media_type(self._part, self._kind, self._filename)
        self._sink = self._reception.begin(f"part {self._part!r}", spools=self._is_bytes)

    def _write(self, data: bytes, start: int, end: int) -> None:
        self._sink.write(data[start:end])

    def _end(self) -> None:
        name = self._part
        if self._is_bytes:
            part = self._reception.part(self._kind, self._filename)
            self._members.add_part(name, part)
        elif self._kind == JSON:
            self._members.add_json(name, self._sink.text())
        else:
            try:
                self._members.add_text(name, self._sink.text().decode())
            except UnicodeDecodeError:
                detail = f"part {name!r} is neither text in UTF-8 nor taken as bytes"
                raise Problem(problems.INVALID_INPUT, detail) from None

    def _ends(self) -> None:
        self._is_over = True


def _named(raw: bytes) -> str:
    """A name as it was before browsers escaped what may not stand between quotes."""
    text = raw.decode("utf-8", "replace")
    for escaped, meant in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        text = text.replace(escaped, meant)
    return text


def members_of(query: bytes) -> Mapping[str, str]:
    """The parameters of a query, each once. Raises Problem."""
    return dict(_query(query))
