"""A task's events, read as server-sent events from bytes as they arrive. No I/O.

The standard is WHATWG HTML, section "Server-sent events".
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from skipper.client.flows import RECONNECTS_S, task_path
from skipper.client.messages import Reply, Request
from skipper.client.problems import checked
from skipper.errors import UnavailableError

OK, NO_CONTENT = 200, 204
STREAM_SILENCE_S = 45.0
"""Silence after which a stream counts as lost: three pings of the gateway's are missing."""
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, kw_only=True)
class TaskEvent:
    """What happened to a task: ``state, progress, metric, log, checkpoint`` or, last, ``done``.

    Whoever keeps the ``id`` can go on after this event at any later time.
    """

    id: str
    type: str
    data: Any


class ServerEvent(NamedTuple):
    """One event. ``id`` is the last id that the stream has named, as the standard has it."""

    id: str
    type: str
    data: str


class EventParser:
    """Cuts a byte stream into events. One parser per connection."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_s: float | None = None
        """How long the server wants a client to wait before it connects again."""
        # -sig, because the standard has a byte order mark at the beginning left out.
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._rest = ""
        self._id, self._type = last_id, ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that ``chunk`` completes."""
        text = self._rest + self._decode(chunk)
        # A final CR may be the first half of CRLF, so it waits for what follows.
        held = "\r" if text.endswith("\r") else ""
        *lines, rest = _LINE_END.split(text.removesuffix(held))
        self._rest = rest + held
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        self._set(field, value.removeprefix(" "))
        return None

    def _set(self, field: str, value: str) -> None:
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._type = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value) / 1000

    def _dispatch(self) -> ServerEvent | None:
        # Only now, because an event that broke off halfway must be asked for again.
        self.last_id = self._id
        event = ServerEvent(self.last_id, self._type or "message", "\n".join(self._data))
        is_empty = not self._data
        self._type, self._data = "", []
        return None if is_empty else event


class EventReader:
    """Follows one task's events over as many connections as that takes."""

    def __init__(self, task_id: str, after: str = "") -> None:
        self._task_id = task_id
        self._parser = EventParser(after)
        self._losses = 0
        self.is_done = False

    def connect(self) -> Request:
        """The request for the events after the last one seen."""
        # A new parser, because the old one may hold half an event of the connection that broke.
        last_id = self._parser.last_id
        self._parser = EventParser(last_id)
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        path = task_path(self._task_id) + "/events"
        return Request(method="GET", path=path, headers=headers, timeout_s=STREAM_SILENCE_S)

    def answered(self, reply: Reply) -> None:
        """Take a response that is no stream: the end of all events, or a problem.

        Raises the error that the problem stands for.
        """
        self.is_done = checked(reply).status == NO_CONTENT

    def feed(self, chunk: bytes) -> list[TaskEvent]:
        """The events that ``chunk`` completes."""
        self._losses = 0  # because only losses in a row show that the gateway stays away
        events = [
            TaskEvent(id=event.id, type=event.type, data=json.loads(event.data or "null"))
            for event in self._parser.feed(chunk)
        ]
        self.is_done = self.is_done or any(event.type == "done" for event in events)
        return events

    def pause_s(self, loss: Exception | None) -> float:
        """How long to wait before the next connection. Raises ``loss`` after too many in a row."""
        if self._losses == len(RECONNECTS_S):
            raise loss or UnavailableError("The event stream keeps ending before the task does.")
        self._losses += 1
        return self._parser.retry_s or RECONNECTS_S[self._losses - 1]


class ItemReader:
    """Reads a generator's items, as they come."""

    def __init__(self) -> None:
        self._parser = EventParser()
        self._is_done = False
        self._problem: str | None = None

    def feed(self, chunk: bytes) -> list[Any]:
        """The items that ``chunk`` completes. Once they are taken, :meth:`check`."""
        items = []
        for event in self._parser.feed(chunk):
            if event.type == "item":
                items.append(json.loads(event.data))
            elif event.type == "error":
                self._problem = event.data
            self._is_done = self._is_done or event.type in ("done", "error")
        return items

    def check(self) -> None:
        """Raise the error that the function ended with, if it has."""
        if self._problem is not None:
            status = json.loads(self._problem).get("status", 500)
            checked(Reply(status=status, headers={}, content=self._problem.encode()))

    def end(self) -> None:
        """Raise UnavailableError where the stream has ended before the items have."""
        if not self._is_done:
            raise UnavailableError("The stream broke off before its last item.")
