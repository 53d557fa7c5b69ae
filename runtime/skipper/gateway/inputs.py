"""Bodies that are not JSON: raw ones and forms, received into an envelope as they come.

What is large goes to the spool piece by piece, so that this process never holds a body. Whoever has
called :meth:`Inputs.received` sees to what lies in the spool; where that raises, nothing does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from skipper import problems
from skipper.gateway.members import FileMembers, FormMembers
from skipper.gateway.problems import Problem
from skipper.gateway.reception import BodyLimit, Piece, Pieces, Reception, Reserve, SpoolRoom
from skipper.spec import FunctionSpec
from skipper.values.envelope import Envelope, Part
from skipper.values.spool import Spool
from skipper.values.types import matches
from skipper.values.value import JSON

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
"""Because what it warns of is told to whoever sent it, who could fill the log with it."""
FORM = "multipart/form-data"
MOST_PARTS = 100
PART_HEADERS = 32
PART_HEAD = 16 << 10
"""Bytes of the headers of one part."""


class BodyHead(NamedTuple):
    """What is said of a body before it comes."""

    content_type: str
    query: bytes = b""


async def _at_once(size: int) -> None:
    """For who has room."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Receives bodies; ``most`` is how many bytes one may have if its function does not say."""

    spool: Spool
    room: SpoolRoom
    most: int

    def limit(self, spec: FunctionSpec) -> BodyLimit:
        """How many bytes a body of the function may have."""
        if spec.max_input is not None:
            return BodyLimit(spec.max_input, f"max_input= of {spec.name}")
        return BodyLimit(self.most, "files.max_mb, or max_input= of the function")

    @property
    def of_files(self) -> BodyLimit:
        """How many bytes a file may have."""
        return BodyLimit(self.most, "files.max_mb")

    async def received(
        self, spec: FunctionSpec, head: BodyHead, pieces: Pieces, reserve: Reserve = _at_once
    ) -> bytes:
        """The envelope of a body that comes in pieces. Raises Problem for what cannot be one.

        Where more than a little of it is held, that is once ``reserve`` has returned.
        """
        content_type, query = head
        media_type, options = parse_options_header(content_type.encode("latin-1", "replace"))
        kind = media_type.decode("latin-1").lower()
        with Reception(self, self.limit(spec), reserve) as reception:
            members = FormMembers(spec)
            for name, text in _query(query):
                members.add_text(name, text)
            if kind == FORM:
                await _Form(reception, members, options.get(b"boundary", b"")).receive(pieces)
            else:
                name = _taking(spec, kind)
                await reception.take(pieces, reception.begin(f"the body ({name})").write)
                members.add_part(name, reception.part(kind, None))
            return reception.kept(Envelope(parts=tuple(reception.parts), json=members.json()))

    async def file(
        self, media_type: str, name: str | None, pieces: Pieces, limit: BodyLimit | None = None
    ) -> Part:
        """A file of its own, hashed, in the spool; ``limit`` if not a file's. Raises Problem."""
        with Reception(self, limit or self.of_files, _at_once, is_hashed=True) as reception:
            await reception.take(pieces, reception.begin("the file").write)
            part = reception.part(media_type, name)
            reception.kept(Envelope(parts=(part,)))
            return part

    async def file_of_form(self, content_type: str, pieces: Pieces) -> Part:
        """The one file of a form, hashed, in the spool. Raises Problem."""
        _, options = parse_options_header(content_type.encode("latin-1", "replace"))
        members = FileMembers()
        with Reception(self, self.of_files, _at_once, is_hashed=True) as reception:
            await _Form(reception, members, options.get(b"boundary", b"")).receive(pieces)
            if not reception.parts:
                raise Problem(problems.BAD_REQUEST, "the form has no part that is a file")
            (part,) = reception.parts
            reception.kept(Envelope(parts=(part,)))
            return part if members.name is None else replace(part, name=members.name)


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


class _Form:
    """A form: its parts, one after the other, as the parser finds them."""

    def __init__(
        self, reception: Reception, members: FormMembers | FileMembers, boundary: bytes
    ) -> None:
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
            # Never reached, because what is counted here says which part it is.
            max_header_count=1 << 30,
            max_header_size=1 << 30,
        )
        self._count = 0
        self._part = ""
        """The name of the present part, once it is known."""
        self._is_over = False

    async def receive(self, pieces: Pieces) -> None:
        await self._reception.take(pieces, self._parse)
        if not self._is_over:
            within = f"part {self._part!r}" if self._part else f"part {self._count}"
            where = f", in {within}" if self._count else ", and no boundary has come"
            raise self._bad(f"it ends before its last boundary{where}")

    def _parse(self, piece: Piece) -> None:
        try:
            self._parser.write(bytes(piece))
        except FormParserError as error:
            raise self._bad(str(error)) from None

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
            raise self._too_much(f"headers of more than {PART_HEAD >> 10} KiB")
        return data

    def _too_much(self, what: str) -> Problem:
        return Problem(problems.HEAD_TOO_LARGE, f"part {self._count} has {what}")

    def _header_ends(self) -> None:
        if len(self._head) >= PART_HEADERS:
            raise self._too_much(f"more than {PART_HEADERS} headers")
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
        self._sink = self._reception.begin(f"part {self._part!r}", is_text=not self._is_bytes)

    def _write(self, data: bytes, start: int, end: int) -> None:
        self._sink.write(memoryview(data)[start:end])

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
