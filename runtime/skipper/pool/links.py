"""The pool's socket: gateways, other hosts and the consumer connect here, each over one link."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from skipper.errors import SkipperError
from skipper.pool.answers import Answers
from skipper.pool.background import Background
from skipper.pool.checks import InputChecks
from skipper.pool.direct.lane import DirectLane
from skipper.pool.direct.queue import DirectCall
from skipper.pool.durable.claimer import Claimer
from skipper.pool.peers import Peers
from skipper.values.spool import Spool
from skipper.wire import frames
from skipper.wire.calls import spooled_in_reply
from skipper.wire.frames import Frame, FrameKind, FrameProtocol
from skipper.wire.handshake import introduced, introduction, mismatch
from skipper.wire.messages import LinkRole, RenewModels, parse_question

log = logging.getLogger(__name__)

MODELS_S = 1.0
"""How long a new link may wait for the host to look for new models."""
_CALLERS = (LinkRole.GATEWAY, LinkRole.HOST)
"""Who calls functions, and so gets to know what is served and what has changed."""


class Peer:
    """One connection whose other end has introduced itself, and its calls that are under way."""

    def __init__(self, connection: FrameProtocol, spool: Spool) -> None:
        self.send, self._spool = connection.send, spool
        self.calls: dict[int, DirectCall] = {}

    def answer(self, id_: int, payload: bytes) -> None:
        """Send the reply to one of its calls."""
        self.calls.pop(id_, None)
        self.send(FrameKind.REPLY, id_, payload)

    def discard(self, payload: bytes) -> None:
        """Forget what a reply that nobody waits for has in the spool."""
        self._spool.remove(spooled_in_reply(payload))


@dataclass(frozen=True, kw_only=True)
class Receivers:
    """Who gets what comes over the links: calls, ids of tasks, inputs to be checked, questions.

    In ``spool`` lies what replies refer to.
    """

    direct: DirectLane
    claimer: Claimer
    checks: InputChecks
    answers: Answers
    spool: Spool


class Links:
    """Serves ``<pool>.sock``.

    Whoever connects introduces itself first. With a peer of another version this host does not
    talk: that is logged, once for each such process.
    """

    def __init__(self, path: Path, peers: Peers, receivers: Receivers) -> None:
        self._path, self._peers, self._receivers = path, peers, receivers
        self._strangers: set[FrameProtocol] = set()
        """Connections whose other end has not introduced itself yet."""
        self._open: dict[FrameProtocol, Peer] = {}
        self._background = Background()
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
        for connection in (*self._open, *self._strangers):
            connection.transport.close()
        self._path.unlink(missing_ok=True)

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
        self._peers.remove(connection)
        peer = self._open.pop(connection, None)
        for call in peer.calls.values() if peer else ():
            self._receivers.direct.cancel(call)

    def _on_hello(self, connection: FrameProtocol, first: Frame) -> Peer | None:
        """The other end has introduced itself. None where it is of another version."""
        hello = introduced(first)
        if reason := mismatch(f"the {hello.role} (pid {hello.pid})", hello.protocol, "this host"):
            if self._peers.refuse(hello, reason):
                log.error(reason)
            connection.transport.close()
            return None
        self._strangers.discard(connection)
        self._peers.add(connection, hello)
        peer = self._open[connection] = Peer(connection, self._receivers.spool)
        if hello.role in _CALLERS:
            self._background.spawn(self._welcome(connection))
        return peer

    async def _welcome(self, connection: FrameProtocol) -> None:
        """Send a new caller what is served; from here on it is sent what changes.

        Calls may come from it that count on models which were published while there was no link to
        ask this host over.
        """
        with contextlib.suppress(TimeoutError, SkipperError):
            await asyncio.wait_for(self._receivers.answers.to(RenewModels()), MODELS_S)
        self._peers.follow(connection)

    # --- frames

    def _on_frames(self, connection: FrameProtocol, received: list[Frame]) -> None:
        peer = self._open.get(connection)
        if peer is None and (peer := self._on_hello(connection, received.pop(0))) is None:
            return
        direct = self._receivers.direct
        for kind, id_, payload in received:
            if kind == FrameKind.CALL:
                call = direct.submit(peer, id_, payload)
                if call is not None:
                    peer.calls[id_] = call
            elif kind == FrameKind.CANCEL:
                if (call := peer.calls.pop(id_, None)) is not None:
                    direct.cancel(call)
            elif kind == FrameKind.CREDIT:
                if (call := peer.calls.get(id_)) is not None:
                    direct.credit(call, payload)
            else:
                self._on_message(peer, kind, id_, payload)

    def _on_message(self, peer: Peer, kind: int, id_: int, payload: bytes) -> None:
        """A frame that is not about a call."""
        if kind == FrameKind.TAKE:
            ids = payload.decode("ascii", "replace").split("\n")
            self._receivers.claimer.take(ids, partial(peer.send, FrameKind.TAKEN, id_))
        elif kind == FrameKind.CHECK:
            self._receivers.checks.submit(peer, id_, payload)
        elif kind == FrameKind.NUDGE:
            self._receivers.claimer.nudge(payload.decode("ascii", "replace"))
        elif kind == FrameKind.ASK:
            self._background.spawn(self._reply(peer, id_, payload))

    async def _reply(self, peer: Peer, id_: int, payload: bytes) -> None:
        try:
            answer = await self._receivers.answers.to(parse_question(payload))
        except (SkipperError, ValueError) as error:
            peer.send(FrameKind.REFUSED, id_, str(error).encode())
        else:
            peer.send(FrameKind.ANSWER, id_, answer.to_json())
