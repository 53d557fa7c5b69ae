"""The pool's socket: gateways, other hosts and the consumer connect here, each over one link."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from skipper.errors import SkipperError
from skipper.pool.checks import InputChecks
from skipper.pool.direct.lane import DirectLane
from skipper.pool.direct.queue import DirectCall
from skipper.pool.durable.claimer import Claimer
from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind, FrameProtocol
from skipper.wire.handshake import introduced, introduction, mismatch
from skipper.wire.messages import (
    Answer,
    AnyQuestion,
    CatalogueSnapshot,
    Hello,
    LinkRole,
    RenewModels,
    parse_question,
)

log = logging.getLogger(__name__)

MODELS_S = 1.0
"""How long a new link may wait for the host to look for new models."""
_CALLERS = (LinkRole.GATEWAY, LinkRole.HOST)
"""Who calls functions, and so gets to know what is served and what has changed."""


class Peer:
    """One link: who is at the other end, and which of its calls are under way."""

    def __init__(self, connection: FrameProtocol, role: str) -> None:
        self.role = role
        self.send = connection.send
        self.follows = False
        """Whether it is sent what is served and what has changed."""
        self.calls: dict[int, DirectCall] = {}

    def answer(self, id_: int, payload: bytes) -> None:
        """Send the reply to one of its calls."""
        self.calls.pop(id_, None)
        self.send(FrameKind.REPLY, id_, payload)


class Links:
    """Serves ``<pool>.sock``. ``answer`` answers questions, ``describe`` has what is served.

    Whoever connects introduces itself first. With a peer of another version this host does not
    talk: that is logged, once for each such process.
    """

    def __init__(
        self,
        path: Path,
        direct: DirectLane,
        tasks: Claimer,
        checks: InputChecks,
        *,
        answer: Callable[[AnyQuestion], Awaitable[Answer]],
        describe: Callable[[], CatalogueSnapshot],
    ) -> None:
        self._path, self._direct, self._tasks, self._checks = path, direct, tasks, checks
        self._answer, self._describe = answer, describe
        self._strangers: set[FrameProtocol] = set()
        """Connections whose other end has not introduced itself yet."""
        self._peers: dict[FrameProtocol, Peer] = {}
        self._refused: dict[Hello, str] = {}
        """Processes that this host does not talk to, with why."""
        self._changed: defaultdict[int, dict[str, None]] = defaultdict(dict)
        """By kind of frame: tasks that the links are about to be sent a hint of."""
        self._jobs: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> None:
        """Listen. The folder is this user's alone, and the socket too."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: FrameProtocol(self._on_frames, self._on_lost, self._on_connected),
                str(self._path),
            )
        finally:
            os.umask(before)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in (*self._peers, *self._strangers):
            connection.transport.close()
        self._path.unlink(missing_ok=True)

    @property
    def has_consumer(self) -> bool:
        return any(peer.role == LinkRole.CONSUMER for peer in self._peers.values())

    @property
    def consumer_problem(self) -> str:
        """Why this host does not talk to the consumer that came last; empty where none came."""
        reasons = [
            reason for hello, reason in self._refused.items() if hello.role == LinkRole.CONSUMER
        ]
        return reasons[-1] if reasons else ""

    # --- what goes out unasked

    def publish_catalogue(self) -> None:
        """Send every caller what this pool serves now."""
        payload = self._describe().to_json()
        for peer in self._peers.values():
            if peer.follows:
                peer.send(FrameKind.CATALOGUE, 0, payload)

    def publish_tasks(self, ids: Iterable[str]) -> None:
        """Hint to callers that these tasks' records have changed."""
        self._publish(FrameKind.TASKS, ids)

    def publish_task_events(self, ids: Iterable[str]) -> None:
        """Hint to gateways that these tasks have new events."""
        self._publish(FrameKind.TASK_EVENTS, ids)

    def _publish(self, kind: int, ids: Iterable[str]) -> None:
        """One frame goes for all that change at the same moment."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._send_changed)
        self._changed[kind] |= dict.fromkeys(ids)

    def _send_changed(self) -> None:
        changed, self._changed = self._changed, defaultdict(dict)
        for kind, ids in changed.items():
            if ids:
                self._send_hint(kind, "\n".join(ids).encode())

    def _send_hint(self, kind: int, payload: bytes) -> None:
        for peer in self._peers.values():
            # only gateways have somebody who reads events along
            if peer.follows and (kind == FrameKind.TASKS or peer.role == LinkRole.GATEWAY):
                peer.send(kind, 0, payload)

    # --- connections

    def _on_connected(self, connection: FrameProtocol) -> None:
        sock = connection.transport.get_extra_info("socket")
        if not frames.peer_is_us(sock, os.getuid()):
            log.warning("a link from another user was refused")
            connection.transport.abort()
            return
        self._strangers.add(connection)
        connection.send(FrameKind.HELLO, 0, introduction(LinkRole.HOST))

    def _on_lost(self, connection: FrameProtocol) -> None:
        self._strangers.discard(connection)
        peer = self._peers.pop(connection, None)
        for call in peer.calls.values() if peer else ():
            self._direct.cancel(call)

    def _on_hello(self, connection: FrameProtocol, first: Frame) -> Peer | None:
        """The other end has introduced itself. None where it is of another version."""
        hello = introduced(first)
        if reason := mismatch(f"the {hello.role} (pid {hello.pid})", hello.protocol, "this host"):
            if hello not in self._refused:
                log.error(reason)
            self._refused[hello] = reason
            connection.transport.close()
            return None
        self._refused = {each: r for each, r in self._refused.items() if each.role != hello.role}
        self._strangers.discard(connection)
        peer = self._peers[connection] = Peer(connection, hello.role)
        if hello.role in _CALLERS:
            self._spawn(self._welcome(peer))
        return peer

    async def _welcome(self, peer: Peer) -> None:
        """Send a new caller what is served; from here on it is sent what changes.

        Calls may come from it that count on models which were published while there was no link to
        ask this host over.
        """
        with contextlib.suppress(TimeoutError, SkipperError):
            await asyncio.wait_for(self._answer(RenewModels()), MODELS_S)
        peer.follows = True
        peer.send(FrameKind.CATALOGUE, 0, self._describe().to_json())

    # --- frames

    def _on_frames(self, connection: FrameProtocol, received: list[Frame]) -> None:
        peer = self._peers.get(connection)
        if peer is None and (peer := self._on_hello(connection, received.pop(0))) is None:
            return
        for kind, id_, payload in received:
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
                self._on_message(peer, kind, id_, payload)

    def _on_message(self, peer: Peer, kind: int, id_: int, payload: bytes) -> None:
        """A frame that is not about a call."""
        if kind == FrameKind.TAKE:
            ids = payload.decode("ascii", "replace").split("\n")
            self._tasks.take(ids, partial(peer.send, FrameKind.TAKEN, id_))
        elif kind == FrameKind.CHECK:
            self._checks.submit(peer, id_, payload)
        elif kind == FrameKind.NUDGE:
            self._tasks.nudge(payload.decode("ascii", "replace"))
        elif kind == FrameKind.ASK:
            self._spawn(self._reply(peer, id_, payload))

    async def _reply(self, peer: Peer, id_: int, payload: bytes) -> None:
        try:
            answer = await self._answer(parse_question(payload))
        except (SkipperError, ValueError) as error:
            peer.send(FrameKind.REFUSED, id_, str(error).encode())
        else:
            peer.send(FrameKind.ANSWER, id_, answer.to_json())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
