"""The head of a request: read strictly, counted before it is kept.

The grammar is llhttp's. It gets the bytes of one head and none that follow, from a parser of its
own: a head that offers to speak another protocol (``Upgrade``, ``CONNECT``) is a head like others.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import httptools

from skipper import problems
from skipper.gateway.http.limits import HEAD_BYTES, HEAD_LINES
from skipper.problems import ProblemKind

Headers = list[tuple[bytes, bytes]]

_END, _BLANK = b"\r\n\r\n", b" \t"
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE | re.DOTALL)


class RefusedError(Exception):
    """A request that cannot be understood or is too large; its connection ends with it."""

    def __init__(self, kind: ProblemKind, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class Head:
    """What a request's head says. Header names are lower-case.

    ``path`` is decoded, ``raw_path`` as it came, both without the ``query``. ``length`` is that of
    the body, unless it ``is_chunked``; ``size`` and ``lines`` are the head's own.
    """

    __slots__ = (
        "awaits_continue",
        "headers",
        "is_chunked",
        "keeps_alive",
        "length",
        "lines",
        "method",
        "path",
        "query",
        "raw_path",
        "size",
        "version",
    )

    def __init__(self, method: str, target: bytes, version: str, headers: Headers) -> None:
        self.method, self.version, self.headers = method, version, headers
        self.length = self.size = self.lines = 0
        self.is_chunked = self.awaits_continue = False
        self.keeps_alive = version == "1.1"
        self._read_headers()
        if not target.startswith(b"/"):
            target = _origin_form(target, self.header(b"host"))
        if b"#" in target:
            raise _bad("the path holds a fragment, which is for the caller alone")
        self.raw_path, _, self.query = target.partition(b"?")
        self.path = self.raw_path.decode("ascii")  # the parser lets nothing else through
        if "%" in self.path:
            self.path = unquote(self.path)

    def header(self, name: bytes) -> bytes:
        """The value of the first header of this lower-case name; empty where there is none."""
        return next((value for each, value in self.headers if each == name), b"")

    def _read_headers(self) -> None:
        """What decides over the message itself. Raises RefusedError."""
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1  # which hosts are served is not for the connection to judge
            elif name == b"content-length":
                self.length = int(value)  # one alone, and digits alone, else the parser refuses it
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked" or self.version != "1.1":
                    raise _bad("the only Transfer-Encoding is chunked, in HTTP/1.1")
                self.is_chunked = True
            elif name == b"connection":
                self.keeps_alive = self.keeps_alive and b"close" not in _tokens(value)
            elif name == b"expect":
                self.awaits_continue = value.lower() == b"100-continue" and self.version == "1.1"
        if hosts > 1 or (not hosts and self.version == "1.1"):
            raise _bad(f"send one Host header; this request has {hosts or 'none'}")


class HeadReader:
    """Reads the heads of one connection, one after the other."""

    __slots__ = ("_headers", "_is_whole", "_lines", "_parser", "_tail", "_target", "size")

    def __init__(self) -> None:
        self._parser: httptools.HttpRequestParser | None = None
        self._tail = b""
        self._begin()

    def feed(self, data: bytes) -> tuple[Head, int] | None:
        """The head that ``data`` completes, and where it ends in it; None until one does.

        Raises RefusedError for what is no head, or too large a one.
        """
        start = 0
        if self._parser is None:
            if data[0] in b"\r\n":  # empty lines before a request: RFC 9112, 2.2
                start = len(data) - len(data.lstrip(b"\r\n"))
            if start < len(data):
                self._parser = httptools.HttpRequestParser(self)
        found = data.find(_END, start) if not self._tail else (self._tail + data).find(_END)
        end = len(data) if found < 0 else found + len(_END) - len(self._tail)
        self._count(data, end)
        if self._parser is None:
            return None
        self._parse(data[start:end] if start or end < len(data) else data)
        if found < 0:
            self._tail = (self._tail + data[start:])[-len(_END) + 1 :]
            return None
        return self._finish(), end

    def _begin(self) -> None:
        self._parser, self._tail = None, b""
        self._target, self._headers = b"", Headers()
        self._lines = 0
        self.size = 0
        """Bytes of a head whose end is yet to come."""
        self._is_whole = False

    def _count(self, data: bytes, end: int) -> None:
        self.size += end
        self._lines += data.count(b"\n", 0, end)
        check_size(self.size, self._lines - 1)  # the empty line at the end is none of them

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nobody here speaks anything else, so it is a request like others
        except httptools.HttpParserError as error:
            raise _bad(f"this is not HTTP/1.1: {error}") from None

    def _finish(self) -> Head:
        parser = self._parser
        if parser is None or not self._is_whole:
            raise _bad("this is not HTTP/1.1")
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _bad(f"this is HTTP/{version}; send HTTP/1.1")
        head = Head(parser.get_method().decode(), self._target, version, self._headers)
        head.size, head.lines = self.size, self._lines - 1
        self._begin()
        return head

    # --- what the parser calls

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.strip(_BLANK)))

    def on_headers_complete(self) -> None:
        self._is_whole = True


def check_size(size: int, lines: int) -> None:
    """Raise RefusedError for a head that is larger than any may be."""
    if size > HEAD_BYTES or lines > HEAD_LINES:
        detail = f"a head has at most {HEAD_BYTES >> 10} KiB and {HEAD_LINES} lines"
        raise RefusedError(problems.HEAD_TOO_LARGE, detail)


def _bad(detail: str) -> RefusedError:
    return RefusedError(problems.BAD_REQUEST, detail)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def _origin_form(target: bytes, host: bytes) -> bytes:
    """The path and query of a target that names its host too, the one of Host: RFC 9112, 3.2.2."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise _bad("the path must begin with a slash")
    if found[1].lower() != host.lower():
        raise _bad("the path names another host than Host does")
    return found[2] if found[2].startswith(b"/") else b"/" + found[2]
