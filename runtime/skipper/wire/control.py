"""What crosses the launcher's two kinds of socket, as lines of JSON.

Its children write to their control channel (:mod:`skipper.role`): :class:`RoleReady`,
:class:`RoleFailed`. Commands ask it over its socket in the run folder: :class:`GetStatus`,
:class:`StopTree`. Either side may be of another version, since an upgrade must not keep anybody
from stopping what runs, so unknown members are ignored and unknown messages are None.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypedDict


class RoleReady(NamedTuple):
    """The child serves."""

    def to_line(self) -> bytes:
        """What is sent."""
        return _line({"event": "ready"})


class RoleFailed(NamedTuple):
    """The child cannot start, and ends."""

    reason: str

    def to_line(self) -> bytes:
        """What is sent."""
        return _line({"event": "failed", "reason": self.reason})


RoleEvent = RoleReady | RoleFailed


def parse_role_event(line: bytes) -> RoleEvent | None:
    """What a child wrote; None for what is no event that this version knows."""
    match _parsed(line):
        case {"event": "ready"}:
            return RoleReady()
        case {"event": "failed", "reason": str(reason)}:
            return RoleFailed(reason)
    return None


class GetStatus(NamedTuple):
    """How is the tree? Answered with :class:`TreeStatus`."""

    def to_line(self) -> bytes:
        """What is sent."""
        return _line({"do": "status"})


class StopTree(NamedTuple):
    """End the tree, at once with ``kill``. The connection then lasts until the launcher's end."""

    kill: bool = False

    def to_line(self) -> bytes:
        """What is sent."""
        return _line({"do": "down", "kill": self.kill})


LauncherQuestion = GetStatus | StopTree


def parse_launcher_question(line: bytes) -> LauncherQuestion | None:
    """What the launcher was asked; None for what is no question that this version knows."""
    match _parsed(line):
        case {"do": "status"}:
            return GetStatus()
        case {"do": "down", **members}:
            return StopTree(kill=bool(members.get("kill")))
    return None


class ChildStatus(TypedDict):
    """One child of the launcher. A dict, because ``skipper status --json`` prints it as it came."""

    name: str
    pid: int | None
    state: str
    """``starting``, ``ready``, ``restarting`` or ``stopped``."""
    restarts: int
    since: float
    """When it came into that state, in seconds since the epoch."""
    reason: str
    """Why it is not ready; empty where nobody knows."""


class TreeStatus(TypedDict):
    """The launcher and its children."""

    pid: int
    url: str | None
    """Of the gateway; None where the tree has none."""
    project: str
    started_at: float
    ready: bool
    stopping: bool
    children: list[ChildStatus]


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
