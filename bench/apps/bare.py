"""Two bare hops: HTTP, a relay, one instance, and the same way back. `uvicorn bare:app`.

The app hands each body over a unix stream to a relay, a process of its own, which hands it over
another to the one instance, which validates it and answers. There are no names, deadlines, limits
or metrics: what is left is what three processes cost on this machine, whatever they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import cast

import uvloop
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_HEAD = struct.Struct("!IQ")
"""Before each body: its length, and the number of its call on this stream."""
_CHUNK = 1 << 18


class Row(BaseModel):
    x: list[float]


def frame(call: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body), call) + body


def taken(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """The whole frames at the head of ``buffer``, which afterwards holds the rest alone."""
    at = 0
    while len(buffer) >= (start := at + _HEAD.size):
        size, call = _HEAD.unpack_from(buffer, at)
        if len(buffer) < start + size:
            break
        at = start + size
        yield call, bytes(buffer[start:at])
    del buffer[:at]


class _Stream(asyncio.Protocol):
    """One end of a stream of frames; its process ends with it."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.calls = itertools.count()
        self.buffer = bytearray()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed.cancel()


class Answers(_Stream):
    """The app's end: bodies go out, and each caller waits for its own answer."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, asyncio.Future[bytes]] = {}

    def ask(self, body: bytes) -> asyncio.Future[bytes]:
        call = next(self.calls)
        self.waiting[call] = answer = asyncio.get_running_loop().create_future()
        self.transport.write(frame(call, body))
        return answer

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        for call, body in taken(self.buffer):
            if not (answer := self.waiting.pop(call)).done():
                answer.set_result(body)


class Instance(_Stream):
    """The relay's end towards the instance, where calls have numbers of the relay's own."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[int, tuple[App, int]] = {}

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        for number, body in taken(self.buffer):
            app, call = self.asked.pop(number)
            app.transport.write(frame(call, body))


class App(_Stream):
    """The relay's end towards the app."""

    def __init__(self, instance: Instance) -> None:
        super().__init__()
        self.instance = instance

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        for call, body in taken(self.buffer):
            number = next(self.instance.calls)
            self.instance.asked[number] = self, call
            self.instance.transport.write(frame(number, body))


async def relay(stream: socket.socket) -> None:
    """Hand calls on and answers back until the app is gone."""
    loop = asyncio.get_running_loop()
    _, instance = await loop.create_unix_connection(Instance, sock=started("answer"))
    _, app = await loop.create_unix_connection(lambda: App(instance), sock=stream)
    with contextlib.suppress(asyncio.CancelledError):
        await app.closed


def answer(stream: socket.socket) -> None:
    """The instance: it waits for a body, validates it, answers."""
    row, buffer = TypeAdapter(Row), bytearray()
    while data := stream.recv(_CHUNK):
        buffer += data
        frames = [
            frame(call, to_json({"y": sum(row.validate_json(body).x)}))
            for call, body in taken(buffer)
        ]
        stream.sendall(b"".join(frames))


def started(role: str) -> socket.socket:
    """Start a process of this file; the stream to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        subprocess.Popen([sys.executable, __file__, role, str(number)], pass_fds=[number])
    return ours


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    transport, app.state.relay = await loop.create_unix_connection(Answers, sock=started("relay"))
    yield
    transport.close()


async def predict(request: Request) -> Response:
    answered = await request.app.state.relay.ask(await request.body())
    return Response(answered, media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])], lifespan=_lifespan)

if __name__ == "__main__":
    role, number = sys.argv[1:]
    stream = socket.socket(fileno=int(number))
    if role == "relay":
        uvloop.run(relay(stream))
    else:
        answer(stream)
