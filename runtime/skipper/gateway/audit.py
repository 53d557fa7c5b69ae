"""Who changed what: a line for each request that changes something, and for those refused.

Calls are answered thousands of times a second, so a line costs its request no more than a tuple: it
is written out a moment later, in a batch, by a thread. Calls have a file to themselves, that no
number of them pushes out who has cancelled a task or paused a schedule.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from skipper.gateway import request_ids
from skipper.settings.masking import secrets_of
from skipper.settings.model import Settings
from skipper.settings.redaction import Redactor
from skipper.sink import LogSink, SharedFile

CHANGES_FILE, CALLS_FILE = "audit.jsonl", "audit-calls.jsonl"
FLUSH_S = 0.25
"""How long a line waits for others to be written with it."""
BATCH = 200
"""So many are written at once, whenever that is: making lines of more would hold up calls."""
FAILURES_A_SECOND = 50
"""Lines about requests that changed nothing; of a flood, the others are counted."""
MAX_PATH = 300
"""Characters of a path that is none of the gateway's own."""
_WAITING = 4 << 20
"""Bytes that wait for the disk; what comes then is dropped, and counted."""
_CLOSE_S = 1.0
_CALLS, _INVOKE = "/v1/functions/", "/invoke"

Later = Callable[[float, Callable[[], None]], object]
"""Has something done after so many seconds."""
Put = Callable[[bytes], None]


class Request(NamedTuple):
    """One request, as it ended. What many have in common comes first."""

    client: str
    key: str
    """The first characters of the digest of the key that let it in; empty without keys."""
    method: str
    path: str
    """Of at most :data:`MAX_PATH` characters."""
    status: int
    """0 where the caller left before it was answered."""
    reason: str
    """Why it was refused; empty for one that was let in."""
    at: float
    request_id: str
    """As :mod:`~skipper.gateway.request_ids` takes or makes them: nothing in it needs escaping."""
    task: str = ""
    """The id of the task that it began."""


_IN_COMMON = 6


def _later(seconds: float, do: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, do)


class Audit:
    """Takes requests, and puts their lines to ``changes`` and ``calls``; None: nowhere."""

    def __init__(
        self,
        changes: Put | None = None,
        calls: Put | None = None,
        *,
        lines: Lines | None = None,
        later: Later = _later,
    ) -> None:
        self._changes, self._calls = changes, calls
        self._lines, self._later = lines or Lines("gateway"), later
        self._new: list[Request] = []
        self._failures = self._missing = 0
        self.is_on = changes is not None
        self.has_calls = calls is not None

    def record(self, request: Request) -> None:
        """Keep a request that was answered. Cheap, because every call pays for it."""
        new = self._new
        new.append(request)
        if len(new) == 1:
            self._later(FLUSH_S, self.flush)
        elif len(new) >= BATCH:
            self.flush()

    def refused(self, request: Request) -> None:
        """Keep a request that changed nothing, as far as there are not too many of them."""
        if not self.is_on:
            return
        if not self._failures:
            self._later(1.0, self._next_second)
        self._failures += 1
        if self._failures > FAILURES_A_SECOND:
            self._missing += 1
        else:
            self.record(request)

    def flush(self) -> None:
        """Put what waits."""
        new, self._new = self._new, []
        changes, calls = self._lines(new)
        for put, made in ((self._changes, changes), (self._calls, calls)):
            if put is not None and made:
                put("".join(made).encode())

    def _next_second(self) -> None:
        if self._missing and self._changes is not None:
            self._changes(missing(self._missing, "refused requests came too fast"))
        self._failures = self._missing = 0


def function_of(path: str) -> str:
    """The function that is called at ``path``; empty for any other path."""
    if path.startswith(_CALLS) and path.endswith(_INVOKE):
        return path[len(_CALLS) : -len(_INVOKE)]
    return ""


class Lines:
    """Makes lines of JSON, as those of the log; ``name`` is the gateway's.

    ``redact`` takes secrets out of what callers have written: a key may stand in a path.
    """

    def __init__(self, name: str, redact: Callable[[str], str] = str) -> None:
        self._name, self._redact = name, redact
        # Because most calls differ from others in their times and ids alone.
        self._rest = lru_cache(maxsize=1000)(self._made)

    def __call__(self, requests: Iterable[Request]) -> tuple[list[str], list[str]]:
        """Those of changes and refusals, and those of calls."""
        changes: list[str] = []
        calls: list[str] = []
        for request in requests:
            rest, is_call = self._rest(request[:_IN_COMMON])
            _, _, _, _, _, _, at, id_, task = request
            if not request_ids.is_own(id_):
                id_ = self._redact(id_)
            if task:
                changes.append(
                    f'{{"ts": {at:.3f}, {rest}, "request": "{id_}", "task": "{task}"}}\n'
                )
            else:
                lines = calls if is_call else changes
                lines.append(f'{{"ts": {at:.3f}, {rest}, "request": "{id_}"}}\n')
        return changes, calls

    def _made(self, common: tuple[str, str, str, str, int, str]) -> tuple[str, bool]:
        """What a line has besides, and whether it is of a function that was called."""
        client, key, method, path, status, reason = common
        path = self._redact(path)
        record: dict[str, Any] = {
            "level": "info" if 0 < status < 400 else "warning",
            "name": self._name,
            "message": f"{method} {path}",
            "address": client,
            "key": key or None,
        }
        if function := function_of(path):
            record["function"] = function
        elif path.startswith("/v1/"):
            record["object"] = "/".join(path.split("/")[2:4])
        record |= {"status": status, "outcome": reason or outcome_of(status)}
        return json.dumps(record)[1:-1], bool(function) and not reason


def outcome_of(status: int) -> str:
    """A status in a word."""
    if status == 0:
        return "left"
    return "ok" if status < 400 else "rejected" if status < 500 else "failed"


def missing(count: int, why: str) -> bytes:
    """The line in place of ``count`` others."""
    record = {"ts": round(time.time(), 3), "level": "warning", "name": "gateway"}
    return json.dumps(record | {"message": f"{count} lines are missing: {why}"}).encode() + b"\n"


@contextlib.contextmanager
def open_audit(settings: Settings, name: str) -> Iterator[Audit]:
    """The audit of the gateway ``name`` while the block lasts, as the settings want it."""
    wanted, folder = settings.log.audit, settings.state_dir / "logs"
    if wanted == "off":
        yield Audit()
        return
    total = (settings.retention.audit_mb << 20) // 2
    with contextlib.ExitStack() as stack:
        changes = stack.enter_context(_sink(folder, CHANGES_FILE, total))
        calls = None
        if wanted == "all":
            calls = stack.enter_context(_sink(folder, CALLS_FILE, total))
        audit = Audit(changes, calls, lines=Lines(name, Redactor(secrets_of(settings))))
        stack.callback(audit.flush)
        yield audit


@contextlib.contextmanager
def _sink(folder: Path, file: str, total: int) -> Iterator[Put]:
    shared = SharedFile(folder, total, file)
    limit = min(_WAITING, shared.share)
    sink = LogSink(
        shared.write, limit=limit, dropped=lambda count: missing(count, "the disk is too slow")
    )
    try:
        yield sink.put
    finally:
        if sink.close(_CLOSE_S):
            shared.close()
