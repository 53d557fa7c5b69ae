"""HTTP as bytes on a socket: what no well-behaved client sends."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

LIMIT_S = 30
"""How long an answer may take on a machine that is busy with other work."""
_PIECE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One response: its status, its headers by lower-case name, its body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Raw:
    """One connection to the gateway at ``url``. ``receive_buffer`` is the kernel's, in bytes."""

    def __init__(self, url: str, *, limit_s: int = LIMIT_S, receive_buffer: int = 0) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        self.host = parts.netloc
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(limit_s)
        self._socket.connect((host, port))
        self._read = b""

    def send(self, *pieces: bytes) -> None:
        """Send each piece in a segment of its own."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self._socket.sendall(piece)

    def fileno(self) -> int:
        """For ``select``."""
        return self._socket.fileno()

    def send_some(self, data: bytes | memoryview) -> int:
        """Send what the gateway takes at once; how much that was, 0 where it has closed."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return 0

    def request(self, method: str, path: str, *headers: str, body: bytes = b"") -> Answer:
        """Send a whole request with the Host that is right, and read its answer."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", *headers]
        if body:
            lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self.answer(with_body=method != "HEAD")

    def answer(self, *, with_body: bool = True) -> Answer:
        """The next response. Raises EOFError where the gateway closes instead."""
        head = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        status = int(first.split()[1])
        if status == 100:
            return self.answer(with_body=with_body)
        body = b""
        if not with_body or status in (204, 304):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size + 2)[:-2]
            self._until(b"\r\n")
        else:
            body = self._exactly(int(headers.get("content-length", 0)))
        return Answer(status=status, headers=headers, body=body)

    def closes_within(self, seconds: float) -> bool:
        """Whether the gateway ends the connection by then, whatever it sends before."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            with contextlib.suppress(TimeoutError):
                try:
                    if not self._socket.recv(_PIECE):
                        return True
                except ConnectionError:
                    return True
        return False

    def close(self) -> None:
        self._socket.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._read:
            self._more()
        found, _, self._read = self._read.partition(end)
        return found + end

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        found, self._read = self._read[:size], self._read[size:]
        return found

    def _more(self) -> None:
        piece = self._socket.recv(_PIECE)
        if not piece:
            raise EOFError(f"the gateway closed the connection; read so far: {self._read[:200]!r}")
        self._read += piece
