"""HTTP over bare streams: for callers that hang up in the middle, and look at every byte."""

from __future__ import annotations

import asyncio
from typing import NamedTuple


class Reply(NamedTuple):
    """What came back for one request."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, path: str, body: bytes, **headers: str) -> None:
        """Write a POST, all of it at once; ``x_request_id="…"`` is a header."""
        told = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"{told}Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)

    async def reply(self) -> Reply:
        """The next reply. Raises OSError or EOFError where the connection ends before it."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        parts = (line.partition(b":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in parts}
        body = await self._reader.readexactly(int(headers[b"content-length"]))
        return Reply(int(first.split()[1]), headers, body)

    async def surplus(self, wait_s: float = 0.0) -> bytes:
        """What came that nobody asked for: nothing, if each request has exactly one reply."""
        try:
            async with asyncio.timeout(wait_s):
                return await self._reader.read(1 << 16)
        except TimeoutError:
            return b""

    def close(self) -> None:
        """Hang up, whatever is under way."""
        self._writer.transport.abort()
