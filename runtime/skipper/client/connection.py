"""What both clients share: where the gateway is, how to reach it, what a lost connection means."""

from __future__ import annotations

import contextlib
import difflib
import re
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from skipper.client.messages import LostError, Outlet, Reply, Request
from skipper.errors import DeadlineError, SettingsError, UnavailableError
from skipper.settings.environment import client_environment
from skipper.settings.redaction import Redactor
from skipper.settings.urls import masked_url, secrets_in
from skipper.task import State

if TYPE_CHECKING:
    import ssl

    import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 5.0
"""How long a connection may take to come about."""
MAP_WIDTH = 16
"""How many calls of one ``map`` are under way at once."""
_MEANT = {
    **dict.fromkeys(("run_function", "predict", "execute", "request", "post", "remote"), "call"),
    **dict.fromkeys(("submit", "delay", "apply_async", "enqueue", "start", "queue"), "spawn"),
    **dict.fromkeys(("status", "get_task", "tasks", "result", "wait"), "task"),
    **dict.fromkeys(("put", "upload_file", "add_file"), "upload"),
}
"""What other clients call our verbs."""
_KEEPALIVE_S = 30.0
"""Less than the 75 s after which the gateway closes an idle connection, and than the minute that
proxies allow: none is used as it closes."""


class HttpConnection:
    """Where the gateway is, which key it gets, and how long a call may take."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``url`` defaults to ``$SKIPPER_URL``, else port 8000; the key to ``$SKIPPER_API_KEY``.

        A gateway on a unix socket is at ``unix:///path/of/the.socket``; ``tls`` is for one whose
        certificate this machine's authorities do not vouch for.

        ``timeout``, in seconds, bounds each ``call``, its waiting for a task included. By default
        only the function's own deadline does. Raises SettingsError for what is no URL or no key.
        """
        environment_url, environment_key = client_environment()
        self.url = (url or environment_url or DEFAULT_URL).rstrip("/")
        self._socket, self._tls = _socket_of(self.url), tls
        self._api_key = _checked(api_key or environment_key)
        self._shown = masked_url(self.url)
        self._redact = Redactor([*secrets_in(self.url), self._api_key or ""])
        self.timeout_s = timeout

    def __getattr__(self, name: str) -> Any:
        """Say which verb was meant, of one that there is not."""
        verbs = [each for each in dir(type(self)) if not each.startswith("_")]
        meant = _MEANT.get(name) or next(iter(difflib.get_close_matches(name, verbs, 1, 0.6)), None)
        hint = f"; did you mean {meant!r}?" if meant else f"; there are {', '.join(verbs)}."
        kind = type(self).__name__
        raise AttributeError(f"{kind} has no {name!r}{hint}", name=name, obj=self)

    def client_options(self) -> dict[str, Any]:
        """Arguments of httpx's client."""
        key = self._api_key
        return {
            "base_url": "http://localhost" if self._socket else self.url,
            "headers": {"user-agent": "skipper"}
            | ({"authorization": f"Bearer {key}"} if key else {}),
        }

    def transport_options(self) -> dict[str, Any]:
        """Arguments of httpx's transport."""
        import httpx

        return {
            "limits": httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
            "uds": self._socket,
            "socket_options": None if self._socket else _keep_alive(),
            # Not for plain HTTP, because reading the certificate bundle takes longer than a call.
            "verify": self._tls or self.url.startswith("https://"),
        }

    def options_of(self, request: Request) -> dict[str, Any]:
        """``request`` as arguments of httpx's ``request``."""
        import httpx

        return {
            "method": request.method,
            "url": request.path,
            "params": request.query,
            "headers": headers_of(request),
            # No limit for a free connection, because waiting for one is the caller's own doing.
            "timeout": httpx.Timeout(
                request.timeout_s, connect=min(CONNECT_S, request.timeout_s or CONNECT_S), pool=None
            ),
        }

    def loss_of(self, error: Exception, request: Request) -> UnavailableError | DeadlineError:
        """The error for a request that got no answer."""
        import httpx

        if isinstance(error, httpx.ReadTimeout):
            text = f"{self._shown} has not answered within {request.timeout_s:.3g} s."
            return UnavailableError(text) if request.is_repeatable else DeadlineError(text)
        reason = self._redact(str(error))
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            text = (
                f"Nothing answers at {self._shown} ({reason}). Is it running? `skipper up` "
                "starts it."
            )
            return LostError(text, was_sent=False)
        reason = f"{type(error).__name__}: {reason}".rstrip(": ")
        text = f"The connection to {self._shown} broke before the answer came ({reason})."
        if not request.is_repeatable:
            text += " The function may have run."
        return LostError(text, was_sent=True)


def headers_of(request: Request) -> dict[str, str]:
    """The request's headers, the length of a body that is sent piece by piece included."""
    content = request.content
    if content is None or isinstance(content, bytes) or content.size is None:
        return dict(request.headers)
    return {**request.headers, "content-length": str(content.size)}


class Saving:
    """A file that an answer's content goes to; it is there once it is whole, and not before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")

    def __enter__(self) -> Self:
        self._stream = self._part.open("xb")
        return self

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stream.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


def saving(to: Path | Outlet) -> Saving | Outlet:
    """What takes the content of an answer, in a ``with`` block."""
    return to if isinstance(to, Outlet) else Saving(to)


def _checked(key: str | None) -> str | None:
    """A key that a header can carry. Raises SettingsError, without it, for any other.

    The library would say what is wrong, and the key with it.
    """
    if key and not re.fullmatch("[!-~]+", key):
        where = "ends with a line break" if key.endswith("\n") else "has blanks or is not ASCII"
        raise SettingsError(f"The API key {where}: write it without, as the gateway has it.")
    return key


def _socket_of(url: str) -> str | None:
    """The unix socket that ``url`` names; None for another URL. Raises SettingsError for none."""
    import httpx

    if url.startswith("unix:"):
        parts = urlsplit(url)
        if parts.netloc or not parts.path.startswith("/"):
            raise SettingsError(
                f"url = {masked_url(url)!r}: write unix:///, and the whole path of the socket."
            )
        return unquote(parts.path)
    with contextlib.suppress(httpx.InvalidURL):  # which is said with a part of it
        parsed = httpx.URL(url)
        if parsed.scheme in ("http", "https") and parsed.host:
            return None
    raise SettingsError(f"url = {masked_url(url)!r}: write it out, such as {DEFAULT_URL}.")


def _keep_alive() -> list[tuple[int, int, int]]:
    """Socket options that end a call whose gateway's machine has vanished, within a minute."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # macOS lacks the first
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def reply_of(response: httpx.Response, to: Path | Outlet | None = None) -> Reply:
    """A response that has been read, or written ``to`` somewhere, without httpx."""
    content = b"" if to is not None else response.content
    saved = to if isinstance(to, Path) else None
    headers = response.headers
    return Reply(status=response.status_code, headers=headers, content=content, saved=saved)


class TaskView:
    """What both handles share: the task as it was seen last."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task

    @property
    def id(self) -> str:
        return str(self._task["id"])

    @property
    def function(self) -> str:
        """The name of the function that it runs."""
        return str(self._task["function"])

    @property
    def state(self) -> State:
        """The state at the last look; ``status()`` looks again."""
        return State(self._task["state"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"
