"""Who changed what: a line for each request that changes something, and for those refused.

Where calls are written down too, that is thousands of lines a second. So a line costs its request
little: most of it is remembered from the one before, and it is written a moment later, in a batch,
by a thread. Calls have a file to themselves, that no number of them pushes out who has cancelled a
task or paused a schedule.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
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
"""So many are written at once, whenever that is."""
FAILURES_A_SECOND = 50
"""Lines about requests that changed nothing; of a flood, the others are counted."""
MAX_PATH = 300
"""Characters of a path that is none of the gateway's own."""
_REMEMBERED = 1000
_WAITING = 4 << 20
"""Bytes that wait for the disk; what comes then is dropped, and counted."""
_CLOSE_S = 1.0
_CALLS, _INVOKE = "/v1/functions/", "/invoke"

Later = Callable[[float, Callable[[], None]], object]
"""Has something done after so many seconds."""
Put = Callable[[bytes], None]


class AuditedRequest(NamedTuple):
    """One request and how it ended: what it has in common with many others."""

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


def _later(seconds: float, do: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, do)


class Audit:
    """Takes requests, and puts their lines to ``changes`` and ``calls``; None: nowhere.

    ``name`` is the gateway's. ``redact`` takes secrets out of what callers have written: a key may
    stand in a path.
    """

    def __init__(
        self,
        changes: Put | None = None,
        calls: Put | None = None,
        *,
        name: str = "gateway",
        redact: Callable[[str], str] = str,
        later: Later = _later,
    ) -> None:
        self._changes = Batch(changes, later) if changes is not None else None
        self._calls = Batch(calls, later) if calls is not None else None
        self._name, self._redact, self._later = name, redact, later
        self._failures = 0
        # Because most calls differ from others in their times and ids alone.
        self._common = lru_cache(maxsize=_REMEMBERED)(self._made)

    @property
    def is_on(self) -> bool:
        """Whether anything is written down at all."""
        return self._changes is not None

    @property
    def has_calls(self) -> bool:
        """Whether calls that become no task are written down, too."""
        return self._calls is not None

    def record(self, request: AuditedRequest, request_id: str, task: str = "") -> None:
        """Keep a request whose answer begins; ``task`` is the id of the task that it made.

        Of requests that changed nothing only so many are kept. Cheap, as every call pays for it.
        """
        text, is_call, is_failure = self._common(request)
        batch = self._calls if is_call and not task else self._changes
        if batch is None or (is_failure and self._is_flood()):
            return
        if not request_ids.is_own(request_id):
            request_id = self._redact(request_id)
        if task:
            text = f'{text}, "task": "{task}"'
        # Nothing in an id needs escaping, by what is taken for one.
        batch.add(f'{{"ts": {time.time():.3f}, {text}, "request": "{request_id}"}}\n')

    def flush(self) -> None:
        """Put what waits."""
        for batch in (self._changes, self._calls):
            if batch is not None:
                batch.flush()

    def _is_flood(self) -> bool:
        if not self._failures:
            self._later(1.0, self._next_second)
        self._failures += 1
        return self._failures > FAILURES_A_SECOND

    def _next_second(self) -> None:
        count, self._failures = self._failures - FAILURES_A_SECOND, 0
        if count > 0 and self._changes is not None:
            self._changes.add(missing(count, "requests that changed nothing came too fast"))

    def _made(self, request: AuditedRequest) -> tuple[str, bool, bool]:
        """What the lines of such requests have in common; whether they call; whether they fail.

        A call that fails has run, and is a call like others.
        """
        client, key, method, path, status, reason = request
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
        is_call = bool(function) and not reason
        return json.dumps(record)[1:-1], is_call, not is_call and status >= 400


class Batch:
    """Lines that wait for others, to be put together."""

    def __init__(self, put: Put, later: Later) -> None:
        self._put, self._later = put, later
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        lines = self._lines
        lines.append(line)
        if len(lines) == 1:
            self._later(FLUSH_S, self.flush)
        elif len(lines) >= BATCH:
            self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._put("".join(lines).encode())


def function_of(path: str) -> str:
    """The function that is called at ``path``; empty for any other path."""
    if path.startswith(_CALLS) and path.endswith(_INVOKE):
        return path[len(_CALLS) : -len(_INVOKE)]
    return ""


def outcome_of(status: int) -> str:
    """A status in a word."""
    if status == 0:
        return "left"
    return "ok" if status < 400 else "rejected" if status < 500 else "failed"


def missing(count: int, why: str) -> str:
    """The line in place of ``count`` others."""
    record = {"ts": round(time.time(), 3), "level": "warning", "name": "gateway"}
    return json.dumps(record | {"message": f"{count} lines are missing: {why}"}) + "\n"


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
        audit = Audit(changes, calls, name=name, redact=Redactor(secrets_of(settings)))
        stack.callback(audit.flush)
        yield audit


@contextlib.contextmanager
def _sink(folder: Path, file: str, total: int) -> Iterator[Put]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shared = SharedFile(folder, total, file)
    sink = LogSink(
        shared.write,
        limit=min(_WAITING, shared.share),
        dropped=lambda count: missing(count, "the disk is too slow").encode(),
    )
    try:
        yield sink.put
    finally:
        if sink.close(_CLOSE_S):
            shared.close()
