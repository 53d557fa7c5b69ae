"""The broker: where the ids of accepted tasks wait for a host, one queue per hardware class.

Owns all that is said to Celery and kombu: the queues, the message, the app's settings, and the
publisher. Only ids travel. What is lost or doubled here the ledger makes good, so nothing waits
for the broker on a caller's time.

Celery and kombu are imported where they are used: they would add 0.3 s to a gateway's start.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from skipper.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

TASK_NAME = "skipper.run"
"""The one Celery task there is: functions come and go without Celery's knowing."""

IDS_PER_MESSAGE = 16
PREFETCH = 16
"""Messages that a consumer holds which its host has not taken."""

_MAX_BODY = 8192  # 16 ids need 500 bytes; room for a newer version that sends more of them
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

_ANSWER_S = 3.0
"""How long a broker may take to answer. Above the 1 s that kombu's BRPOP waits in the server."""
_PATIENCE_S = 1.0
"""How long a message waits for a broker that has just gone. The embedded one is back in 0.2 s."""
_RETRY_S = 1.0
_CHECK_S = 1.0
_DOUBT_S = 30.0
"""How long a broker that refused a message over a new connection must prove itself by taking one.
RabbitMQ under a memory or disk alarm answers all but messages."""
_BACKLOG = 10_000
"""Ids that wait for the publisher's thread; beyond it they are left to the ledger."""
_FULL = 20_000
"""Messages in a queue; beyond it ids are left to the ledger. They are wake-ups, and republished: a
backlog of hours would fill any broker, and a full Redis lets nobody even empty it."""

_log = logging.getLogger(__name__)


# --- names, options, app ---------------------------------------------------------------------


def queue_name(settings: Settings, pool: str) -> str:
    """The queue of one pool. It carries the project's id: projects share brokers."""
    return f"skipper.{settings.name}.{pool}"


def queue_of(settings: Settings, pool: str) -> Any:
    """The queue as kombu declares it: durable, and bound to the default exchange alone.

    So there is no binding to lose (Redis keeps those in a key of their own). The type is spelled
    out because a vhost may have another default: docs/decisions/0003-broker.md.
    """
    kombu = _kombu()
    name = queue_name(settings, pool)
    arguments = {"x-queue-type": "classic"} if _is_amqp(settings) else None
    return kombu.Queue(name, kombu.Exchange(""), routing_key=name, queue_arguments=arguments)


def _kombu() -> Any:
    """kombu, as Any: it declares types for less than half of what it has."""
    import kombu

    return kombu


def _is_amqp(settings: Settings) -> bool:
    return settings.broker_url.startswith(("amqp", "pyamqp"))


def transport_options(settings: Settings) -> dict[str, Any]:
    """kombu's options for the kind of broker that the URL names."""
    if _is_amqp(settings):
        return {"confirm_publish": True}
    prefix = f"skipper.{settings.name}"
    return {
        "socket_timeout": _ANSWER_S,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "health_check_interval": 10,
        # What was delivered and not acknowledged lies under these keys. By default they are one
        # set for all of a Redis database, and whoever has the shortest timeout redelivers it all.
        "unacked_key": f"{prefix}.unacked",
        "unacked_index_key": f"{prefix}.unacked.index",
        "unacked_mutex_key": f"{prefix}.unacked.mutex",
        # Only what a consumer held when it was killed waits this long; the ledger is faster.
        "visibility_timeout": 3600,
        "body_encoding": "utf-8",  # the default is base64
    }


def keep_client(channel: Any) -> None:
    """Let a Redis channel keep its client: kombu makes a new one, 0.2 ms, for every command."""
    if hasattr(channel, "Client"):
        channel.Client = functools.cache(channel.Client)  # one for each connection pool


def make_app(settings: Settings) -> Celery:
    """The Celery app of a consumer: a wake-up line without results, events or remote control."""
    from celery import Celery

    # No fixups: one of them imports Django settings, which are user code.
    app = Celery("skipper", set_as_current=False, fixups=())
    # In these two places CELERY_* variables in the environment would win over the settings below.
    app.connection_for_read = _always_to(settings, app.connection_for_read)
    app.backend_cls = "disabled"
    app.conf.update(
        broker_url=settings.broker_url,
        broker_transport_options=transport_options(settings),
        broker_heartbeat=10,  # AMQP: a dead peer is noticed in 20 s, not in 4 minutes
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,
        task_queues=[queue_of(settings, pool) for pool in settings.pools],
        task_default_exchange="",  # else Celery binds the queues to an exchange called celery
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,  # early means at accept_callback: when the host has taken the ids
        worker_prefetch_multiplier=1,  # worker_disable_prefetch would add nothing: bounded so
        worker_enable_prefetch_count_reduction=False,  # accepted messages are done, not running
        # There is never a late acknowledgement to cancel, but False warns at every lost connection.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    app.task(_never_called, name=TASK_NAME)
    return app


def _always_to(settings: Settings, connect: Any) -> Any:
    """``connect``, which opens a connection, with our URL unless it is given another."""

    def connection_for_read(url: str | None = None, **options: Any) -> Any:
        return connect(url or settings.broker_url, **options)

    return connection_for_read


def _never_called(ids: list[str]) -> None:
    """The task's body. The consumer's pool hands ids to the host and calls nothing."""
    raise NotImplementedError(f"Celery is not to run tasks itself: {ids}")


# --- the message -----------------------------------------------------------------------------


def body_of(ids: Sequence[str]) -> list[Any]:
    """The body of a Celery message (protocol 2) whose one argument is ``ids``."""
    return [[list(ids)], {}, {}]


def headers_of(ids: Sequence[str]) -> dict[str, Any]:
    """Its headers."""
    return {"lang": "py", "task": TASK_NAME, "id": ids[0], "ignore_result": True}


def ids_of(headers: object, content_type: object, body: object) -> list[str]:
    """The ids in a message. Raises ValueError with the reason where it is none of ours.

    Whoever can write to the broker can write anything: nothing is believed.
    """
    if not isinstance(headers, Mapping) or headers.get("task") != TASK_NAME:
        raise ValueError(f"not a {TASK_NAME} message")
    if content_type != "application/json":
        raise ValueError("not JSON by its content type")
    text = _text_of(body)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    match value:
        case [[[_, *_] as ids], dict(), dict()] if all(map(_is_id, ids)):
            return list(ids)
    raise ValueError("not a list of task ids")


def _text_of(body: object) -> bytes:
    if isinstance(body, str):
        body = body.encode("utf-8", "replace")
    if not isinstance(body, bytes | bytearray | memoryview):
        raise ValueError("no body")
    if len(body) > _MAX_BODY:
        raise ValueError(f"{len(body)} bytes long")
    return bytes(body)


def _is_id(item: object) -> bool:
    return isinstance(item, str) and _ID.fullmatch(item) is not None


# --- publishing ------------------------------------------------------------------------------


class Line(Protocol):
    """One open connection to the broker, for publishing. It may block, and raise anything."""

    def check(self) -> Mapping[str, int]:
        """Messages that wait in each pool's queue."""

    def send(self, pool: str, ids: Sequence[str]) -> None:
        """Publish one message, and return when the broker has it."""

    def close(self) -> None:
        """Take leave of the broker."""

    def abandon(self) -> None:
        """Let go of a connection that failed."""


class _KombuLine:
    """A :class:`Line` by kombu, on any of its transports."""

    def __init__(self, settings: Settings) -> None:
        kombu = _kombu()
        self._settings = settings
        self._connection = kombu.Connection(
            settings.broker_url,
            connect_timeout=_ANSWER_S,
            transport_options=transport_options(settings),
        )
        self._queues = {pool: queue_of(settings, pool) for pool in settings.pools}
        try:
            # Once per alternative of the URL: the waiting between attempts is the publisher's.
            alternatives = len(self._connection.alt or ())
            self._connection.ensure_connection(max_retries=alternatives, interval_start=0)
            self._bound_waits()
            self._producer = kombu.Producer(self._connection.default_channel)
            keep_client(self._producer.channel)
            self.check()
        except BaseException:
            self.abandon()
            raise

    def _bound_waits(self) -> None:
        """py-amqp waits for ever for an answer unless its socket has a timeout."""
        transport = getattr(self._connection.connection, "transport", None)
        if transport is not None:
            transport.sock.settimeout(_ANSWER_S)

    def check(self) -> Mapping[str, int]:
        """Also makes the queues where they are missing."""
        channel = self._producer.channel
        return {
            pool: queue(channel).queue_declare().message_count
            for pool, queue in self._queues.items()
        }

    def send(self, pool: str, ids: Sequence[str]) -> None:
        """On RabbitMQ this waits for the broker's confirmation, which follows writing to disk."""
        self._producer.publish(
            body_of(ids),
            exchange="",
            routing_key=queue_name(self._settings, pool),
            serializer="json",
            headers=headers_of(ids),
            correlation_id=ids[0],
            delivery_mode="persistent",
            timeout=_ANSWER_S,
            confirm_timeout=_ANSWER_S,
        )

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.release()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.collect()  # release() would ask a dead broker for permission


def probe(settings: Settings) -> str | None:
    """Why the broker cannot be reached, or None where it can. Takes seconds at worst."""
    try:
        _KombuLine(settings).close()
    except Exception as error:  # noqa: BLE001 - kombu's transports share no base class
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


class Publisher:
    """Sends ids to the pools' queues from a thread of its own; a context manager.

    Never keeps its caller waiting and never raises. A message whose connection turns out to be
    dead is sent once more over a new one; while the broker is away ids are dropped and counted,
    since hosts find them in the ledger.
    """

    def __init__(
        self, settings: Settings, connect: Callable[[Settings], Line] = _KombuLine
    ) -> None:
        self._settings, self._open = settings, connect
        self._wake = threading.Condition()
        self._waiting: dict[str, deque[str]] = {}
        self._backlog = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._line: Line | None = None
        self._retry_at = self._check_at = self._doubt_until = 0.0
        self._depths: Mapping[str, int] = {}
        self._is_up: bool | None = None
        self._refused = self._dropped = self._dropped_before = 0
        self.published = 0
        """Ids that the broker has."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send what still waits, for as long as a broker may take to answer."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(_ANSWER_S)

    @property
    def is_up(self) -> bool:
        """Whether the broker answered last time; at rest it is asked every second."""
        return self._line is not None and self._is_up is True

    @property
    def dropped(self) -> int:
        """Ids that were left to the ledger."""
        return self._refused + self._dropped  # one counter for each thread that counts

    def publish(self, pool: str, ids: Sequence[str]) -> None:
        """Send ``ids`` to ``pool`` as soon as may be, up to 16 in a message."""
        if not ids:
            return
        with self._wake:
            if self._backlog + len(ids) > _BACKLOG:
                self._refused += len(ids)
                return
            self._waiting.setdefault(pool, deque()).extend(ids)
            self._backlog += len(ids)
            self._wake.notify()

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, _CHECK_S)
                batch = self._take()
                if batch is None and self._stopping:
                    break
            if batch is not None:
                self._send(*batch)
            if batch is None or time.monotonic() >= self._check_at:
                self._check()
        if self._line is not None:
            self._line.close()

    def _has_work(self) -> bool:
        return bool(self._waiting or self._stopping)

    def _take(self) -> tuple[str, list[str]] | None:
        """The oldest ids of the pool whose turn it is, one message's worth."""
        for pool in self._waiting:
            waiting = self._waiting.pop(pool)
            ids = [waiting.popleft() for _ in range(min(len(waiting), IDS_PER_MESSAGE))]
            self._backlog -= len(ids)
            if waiting:
                self._waiting[pool] = waiting  # at the end: pools take turns
            return pool, ids
        return None

    def _send(self, pool: str, ids: list[str]) -> None:
        if self._depths.get(pool, 0) > _FULL:
            self._dropped += len(ids)
            return
        for line in self._lines():
            try:
                line.send(pool, ids)
            except Exception as error:  # noqa: BLE001 - kombu's transports share no base class
                self._lose(error)
            else:
                self.published += len(ids)
                self._doubt_until = 0.0
                self._tell(is_up=True)
                return
        self._dropped += len(ids)
        if time.monotonic() >= self._retry_at:  # connecting was not what failed
            self._doubt_until = time.monotonic() + _DOUBT_S
            self._give_up("it does not take messages")

    def _check(self) -> None:
        self._check_at = time.monotonic() + _CHECK_S
        for line in self._lines():
            try:
                self._depths = line.check()
            except Exception as error:  # noqa: BLE001 - kombu's transports share no base class
                self._lose(error)
            else:
                if time.monotonic() >= self._doubt_until:
                    self._tell(is_up=True)
                return

    def _lines(self) -> Iterator[Line]:
        """The connection there is, then, if that one failed, one new one."""
        if self._line is not None:
            yield self._line
        if self._line is None and self._connect():
            assert self._line is not None
            yield self._line

    def _connect(self) -> bool:
        """Connect; with patience, unless the broker is known to be away."""
        if time.monotonic() < self._retry_at:
            return False
        deadline = time.monotonic() + (0.0 if self._is_up is False else _PATIENCE_S)
        while True:
            try:
                self._line = self._open(self._settings)
            except Exception as error:  # noqa: BLE001 - kombu's transports share no base class
                if time.monotonic() >= deadline or self._stopping:
                    self._give_up(_reason(error))
                    return False
                time.sleep(0.05)
            else:
                return True

    def _give_up(self, reason: str) -> None:
        """Drop what comes until it is time to try again."""
        self._retry_at = time.monotonic() + _RETRY_S
        self._tell(is_up=False, reason=reason)

    def _lose(self, error: Exception) -> None:
        assert self._line is not None
        self._line.abandon()
        self._line = None
        if self._is_up:
            _log.info("connection to the broker lost: %s", _reason(error))

    def _tell(self, *, is_up: bool, reason: str = "") -> None:
        """Log once per outage."""
        if is_up and self._is_up is False:
            missed = self.dropped - self._dropped_before
            _log.info("broker is back; %d ids were left to the ledger", missed)
        elif not is_up and self._is_up is not False:
            self._dropped_before = self.dropped
            _log.warning("broker is away, tasks go on through the ledger: %s", reason)
        self._is_up = is_up
