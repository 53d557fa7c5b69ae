"""The receiver of the campaign's webhook: a server that writes down each event as it arrives."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from skipper_webhooks import SignatureError, verify
from tests.chaos.history import History

NAME = "receiver"
"""Of its webhook."""


class Receiver:
    """A server on loopback, in threads of its own; a context manager.

    An entry of the history, ``event``, has the event's ``id`` and ``type`` and, of an end, ``task``
    and ``state``. One with a wrong signature is ``forged``, and refused.
    """

    def __init__(self, history: History) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.ended: set[str] = set()
        """Tasks whose ends have arrived."""
        self._history = history
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, body: bytes, headers: Any) -> HTTPStatus:
        """Write an event down; the status to answer."""
        try:
            event_id = verify(body, headers, self.secret)
        except SignatureError as error:
            self._history.add("forged", error=str(error), body=body.decode("utf-8", "replace"))
            return HTTPStatus.UNAUTHORIZED
        event = json.loads(body)
        task = event["data"].get("task", {})
        self._history.add(
            "event", id=event_id, type=event["type"], task=task.get("id"), state=task.get("state")
        )
        self.ended.add(task.get("id"))
        return HTTPStatus.NO_CONTENT


class _Server(ThreadingHTTPServer):
    def __init__(self, receiver: Receiver) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.receiver = receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.receiver.take(body, self.headers))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: the history has it."""
