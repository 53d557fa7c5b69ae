"""Who is linked to this host, and what it sends them unasked."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from skipper.pool.catalogue import Catalogue
from skipper.wire.frames import FrameKind, FrameProtocol
from skipper.wire.messages import Hello, LinkRole


class Peers:
    """The processes at the other ends of the pool's links, by what they are."""

    def __init__(self, catalogue: Catalogue, host_id: str) -> None:
        self._catalogue, self._host_id = catalogue, host_id
        self._roles: dict[FrameProtocol, str] = {}
        self._followers: dict[FrameProtocol, None] = {}
        """Those who are sent what is served and what has changed."""
        self._refused: dict[Hello, str] = {}
        """Processes that this host does not talk to, with why."""
        self._changed: defaultdict[int, dict[str, None]] = defaultdict(dict)
        """By kind of frame: tasks of which a hint is about to be sent."""

    # --- who is there

    def add(self, connection: FrameProtocol, hello: Hello) -> None:
        """This process is at the other end of a link."""
        self._refused = {each: r for each, r in self._refused.items() if each.role != hello.role}
        self._roles[connection] = hello.role

    def remove(self, connection: FrameProtocol) -> None:
        """A link is closed."""
        self._roles.pop(connection, None)
        self._followers.pop(connection, None)

    def refuse(self, hello: Hello, reason: str) -> bool:
        """This host does not talk to a process; whether that is new."""
        is_new = hello not in self._refused
        self._refused[hello] = reason
        return is_new

    @property
    def has_consumer(self) -> bool:
        return LinkRole.CONSUMER in self._roles.values()

    @property
    def consumer_problem(self) -> str:
        """Why this host does not talk to the consumer that came last; empty where none came."""
        reasons = [
            reason for hello, reason in self._refused.items() if hello.role == LinkRole.CONSUMER
        ]
        return reasons[-1] if reasons else ""

    # --- what goes out

    def follow(self, connection: FrameProtocol) -> None:
        """Send a link what is served, and from here on what changes, unless it has closed."""
        if connection in self._roles:
            self._followers[connection] = None
            connection.send(FrameKind.CATALOGUE, 0, self._snapshot())

    def publish_catalogue(self) -> None:
        """Send all followers what this pool serves now."""
        payload = self._snapshot()
        for connection in self._followers:
            connection.send(FrameKind.CATALOGUE, 0, payload)

    def _snapshot(self) -> bytes:
        return self._catalogue.snapshot(self._host_id).to_json()

    def publish_tasks(self, ids: Iterable[str]) -> None:
        """Hint to followers that these tasks' records have changed."""
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
        for connection in self._followers:
            # only gateways have somebody who reads events along
            if kind == FrameKind.TASKS or self._roles[connection] == LinkRole.GATEWAY:
                connection.send(kind, 0, payload)
