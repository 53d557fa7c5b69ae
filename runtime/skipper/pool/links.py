"""The pool's socket: gateways, other hosts and the consumer speak here, each over one link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from skipper.errors import SkipperError
from skipper.pool.direct.lane import DirectLane
from skipper.pool.direct.queue import DirectCall
from skipper.pool.durable.lane import TaskLane
from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind, FrameProtocol

log = logging.getLogger(__name__)

MODELS_S = 1.0
"""How long a new link may wait for the host to look for new models."""


class Peer:
    """One link: who is at the other end, and which of its calls are under way."""

    def __init__(self, protocol: FrameProtocol) -> None:
        self.protocol = protocol
        self.send = protocol.send
        self.role = ""
        self.calls: dict[int, DirectCall] = {}

    def answer(self, id_: int, payload: bytes) -> None:
        """Send the reply to one of its calls."""
        self.calls.pop(id_, None)
        self.send(FrameKind.REPLY, id_, payload)


class Links:
    """Serves ``<pool>.sock``. ``answer`` answers questions, ``describe`` tells what is served."""

    def __init__(
        self,
        path: Path,
        direct: DirectLane,
        tasks: TaskLane,
        *,
        answer: Callable[[dict[str, Any]], Awaitable[Any]],
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self._path, self._direct, self._tasks = path, direct, tasks
        self._answer, self._describe = answer, describe
        self._peers: dict[FrameProtocol, Peer] = {}
        self._changed: defaultdict[int, dict[str, None]] = defaultdict(dict)
        """Tasks of which the links are about to be told."""
        self._jobs: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> None:
        """Listen. The folder is this user's alone, and the socket too."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: FrameProtocol(self._frames, self._lost, self._made), str(self._path)
            )
        finally:
            os.umask(before)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for protocol in list(self._peers):
            protocol.transport.close()
        self._path.unlink(missing_ok=True)

    @property
    def has_consumer(self) -> bool:
        return any(peer.role == "consumer" for peer in self._peers.values())

    def tell_catalogue(self) -> None:
        """Tell every link what this pool serves now."""
        told = self._describe()
        for peer in self._peers.values():
            if peer.role in ("gateway", "host"):
                peer.protocol.send_json(FrameKind.CATALOGUE, 0, told)

    def tell_tasks(self, ids: Iterable[str], kind: int = FrameKind.TASKS) -> None:
        """Hint that these tasks' records have changed or, with ``FrameKind.SAID``, their events.

        One frame goes for all that do at the same moment.
        """
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._send_changed)
        self._changed[kind] |= dict.fromkeys(ids)

    def _send_changed(self) -> None:
        changed, self._changed = self._changed, defaultdict(dict)
        for kind, ids in changed.items():
            self._send_hint(kind, "\n".join(ids).encode())

    def _send_hint(self, kind: int, payload: bytes) -> None:
        listeners = ("gateway",) if kind == FrameKind.SAID else ("gateway", "host")
        for peer in self._peers.values():
            if payload and peer.role in listeners:
                peer.protocol.send(kind, 0, payload)

    def _made(self, protocol: FrameProtocol) -> None:
        sock = protocol.transport.get_extra_info("socket")
        if not frames.peer_is_us(sock, os.getuid()):
            log.warning("a link from another user was refused")
            protocol.transport.abort()
            return
        self._peers[protocol] = Peer(protocol)

    def _lost(self, protocol: FrameProtocol) -> None:
        peer = self._peers.pop(protocol, None)
        for call in peer.calls.values() if peer else ():
            self._direct.cancel(call)

    def _frames(self, protocol: FrameProtocol, frames: list[Frame]) -> None:
        peer = self._peers[protocol]
        for kind, id_, payload in frames:
            if kind == FrameKind.CALL:
                call = self._direct.submit(peer, id_, payload)
                if call is not None:
                    peer.calls[id_] = call
            elif kind == FrameKind.CANCEL:
                if (call := peer.calls.pop(id_, None)) is not None:
                    self._direct.cancel(call)
            elif kind == FrameKind.CREDIT:
                if (call := peer.calls.get(id_)) is not None:
                    self._direct.credit(call)
            else:
                self._hear(peer, kind, id_, payload)

    def _hear(self, peer: Peer, kind: int, id_: int, payload: bytes) -> None:
        """A frame that is not about a call."""
        if kind == FrameKind.TAKE:
            ids = payload.decode("ascii", "replace").split("\n")
            self._tasks.take(ids, partial(peer.protocol.send, FrameKind.TAKEN, id_))
        elif kind == FrameKind.NUDGE:
            self._tasks.nudge(payload.decode("ascii", "replace"))
        elif kind == FrameKind.ASK:
            self._spawn(self._reply(peer.protocol, id_, json.loads(payload)))
        elif kind == FrameKind.HELLO:
            self._greet(peer, json.loads(payload))

    def _greet(self, peer: Peer, hello: dict[str, Any]) -> None:
        role = str(hello.get("role"))
        if role in ("gateway", "host"):
            self._spawn(self._welcome(peer, role))
        else:
            peer.role = role

    async def _welcome(self, peer: Peer, role: str) -> None:
        """Tell a new link what is served; from here on it is told of changes.

        Callers over it may have heard of models while there was no link to ask this host over.
        """
        with contextlib.suppress(TimeoutError, SkipperError):
            await asyncio.wait_for(self._answer({"what": "models"}), MODELS_S)
        peer.role = role
        peer.protocol.send_json(FrameKind.CATALOGUE, 0, self._describe())

    async def _reply(self, protocol: FrameProtocol, id_: int, question: dict[str, Any]) -> None:
        answer = await self._answer(question)
        if not protocol.transport.is_closing():
            protocol.send_json(FrameKind.ANSWER, id_, answer)

    def _spawn(self, work: Any) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
