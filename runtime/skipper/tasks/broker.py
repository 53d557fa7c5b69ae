"""The broker: where the ids of accepted tasks wait for a host, one queue per hardware class.

Owns all dealings with Celery and kombu: the queues, the message, the app's settings, and a
connection to publish over. Only ids travel. What is lost or doubled here the ledger makes good.

Celery and kombu are imported where they are used: they would add 0.3 s to a gateway's start.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from skipper.settings.model import Settings

if TYPE_CHECKING:
    from celery import Celery

TASK_NAME = "skipper.run"
"""The one Celery task there is: functions come and go without Celery's knowing."""

IDS_PER_MESSAGE = 16
PREFETCH = 16
"""Messages that a consumer holds which its host has not taken."""

_MAX_BODY = 8192  # 16 ids need 500 bytes; room for a newer version that sends more of them
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

ANSWER_S = 3.0
"""How long a broker may take to answer. Above the 1 s that kombu's BRPOP waits in the server."""
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
        "socket_timeout": ANSWER_S,
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


class KombuLine:
    """A :class:`Line` by kombu, on any of its transports."""

    def __init__(self, settings: Settings) -> None:
        kombu = _kombu()
        self._settings = settings
        self._connection = kombu.Connection(
            settings.broker_url,
            connect_timeout=ANSWER_S,
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
            transport.sock.settimeout(ANSWER_S)

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
            timeout=ANSWER_S,
            confirm_timeout=ANSWER_S,
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
        KombuLine(settings).close()
    except Exception as error:  # noqa: BLE001 - kombu's transports share no base class
        return reason(error)
    return None


def reason(error: Exception) -> str:
    """The text of a transport's exception, with its class: many have no text of their own."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
