"""HTTP as the measuring side speaks it: one kept connection, and patience at the start."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ANSWER_S = 120.0
_IDLE_S = 2.0
"""A connection that was idle for longer is made again: servers close it after a few seconds."""


class Answer(NamedTuple):
    """A reply, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class CallError(Exception):
    """A server answered something else than it was to; says what."""


class Caller:
    """One connection to a server on this machine, made when it is needed."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
        self._used = 0.0

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request and its answer, whatever it is. Raises OSError where there is none."""
        if time.monotonic() - self._used > _IDLE_S:
            self._connection.close()
        kind = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, body, kind | (headers or {}))
            reply = self._connection.getresponse()
            told = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, told, reply.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if isinstance(error, OSError):
                raise
            raise ConnectionError(str(error)) from error
        finally:
            self._used = time.monotonic()

    def get(self, path: str) -> Any:
        return self._good("GET", path, None, None).json()

    def text(self, path: str) -> str:
        return self._good("GET", path, None, None).body.decode()

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        """The answer, which must be a good one. Raises CallError."""
        return self._good("POST", path, body, headers)

    def close(self) -> None:
        self._connection.close()

    def _good(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None
    ) -> Answer:
        answer = self.ask(method, path, body, headers)
        if answer.status >= 300:
            told = answer.body[:500].decode("utf-8", "replace")
            raise CallError(f"{method} {path} answered {answer.status}: {told}")
        return answer


@contextlib.contextmanager
def calling(port: int) -> Iterator[Caller]:
    caller = Caller(port)
    try:
        yield caller
    finally:
        caller.close()


def until(condition: Callable[[], object], limit_s: float, what: str, step_s: float = 0.02) -> None:
    """Return once ``condition()`` is true. Raises TimeoutError, which says ``what`` never came."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(step_s)


def answers(port: int, path: str, body: bytes) -> bool:
    """Whether a call over a new connection is answered well."""
    with calling(port) as caller:
        try:
            return caller.ask("POST", path, body).status < 300
        except OSError:
            return False
