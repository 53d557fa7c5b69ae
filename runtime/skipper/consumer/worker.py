"""PROCESS that consumes one pool's queue: a Celery worker whose pool runs nothing.

Every message is handed to the pool's host (:mod:`skipper.consumer.relay`) and acknowledged when the
host has taken its ids. This process imports no user code, keeps no state that matters, and outlives
brokers, hosts and any message; it ends on SIGTERM or with its launcher.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from celery.concurrency.base import BasePool
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from kombu import compression

from skipper.consumer.relay import Relay
from skipper.failpoints import failpoint
from skipper.role import LAUNCHER_GONE, Role
from skipper.tasks import broker

STOP_S = 3.0
"""How long a stop may take. What is cut short goes back to the queue, or is found in the ledger."""
RETRY_S = 2.0
"""The longest pause between attempts to reach the broker."""

_log = logging.getLogger(__name__)


class UnackedMessage:
    """One message on its way to the host. Celery holds it by a weak reference only."""

    def __init__(self, accept: Callable[..., object], done: Callable[..., object]) -> None:
        self._accept, self._done = accept, done
        self._since = time.monotonic()

    def taken(self) -> None:
        """The host has the ids: acknowledge the message and be done with it."""
        now = time.monotonic()
        try:
            failpoint("consumer.taken")
            self._accept(os.getpid(), now)
            failpoint("consumer.acknowledged")
            self._done((0, None, now - self._since))
        except Exception:  # noqa: BLE001 - whatever it is, it must not break the worker's loop
            _log.exception("a message that the host has taken was not acknowledged")

    def terminate(self, signal: object = None) -> None:
        """Nothing runs here that could be terminated."""


class RelayPool(BasePool):
    """Celery's pool over a :class:`Relay`: a task has been run when the host has taken its ids."""

    uses_semaphore = False
    signal_safe = False

    def __init__(self, relay: Relay, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._relay = relay
        self._jobs: set[UnackedMessage] = set()

    def register_with_event_loop(self, hub: Any) -> None:
        """Called for every new connection to the broker: the hub has forgotten our socket then."""
        self._relay.attach(hub)

    def on_apply(
        self,
        target: object,
        args: Any,
        kwargs: object,
        *,
        accept_callback: Callable[..., object],
        callback: Callable[..., object],
        **_: object,
    ) -> UnackedMessage:
        request = args[2]
        job = UnackedMessage(accept_callback, callback)
        self._relay.hand_over(request["args"][0], job.taken)
        return job

    def flush(self) -> None:
        """The connection is lost and with it every right to acknowledge; all is delivered again."""
        failpoint("consumer.cut_off")
        self._relay.forget()

    def on_stop(self) -> None:
        self._relay.close()

    on_terminate = on_stop

    def terminate_job(self, pid: object, signal: object = None) -> None:
        """Tasks are cancelled in their host, by id."""


class IdsConsumer(Consumer):
    """Celery's consumer, made to survive any message and any outage."""

    channel_errors: tuple[type[BaseException], ...]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Whatever a transport makes of bytes that others put into the queue, the answer is a new
        # connection; Celery's own answer to an exception it does not know is to end the process.
        self.channel_errors = (*self.channel_errors, Exception)
        self._discarded = 0
        self._is_away = False
        self._was_ready = False
        """Since it was last connected."""

    def ensure_connected(self, conn: Any) -> Any:
        """Try for ever, at most 2 s apart (Celery would wait up to 30 s), and log once."""
        self.first_connection_attempt = False
        while True:
            try:
                return conn.ensure_connection(
                    self._on_away,
                    max_retries=None,
                    interval_start=0.1,
                    interval_step=0.3,
                    interval_max=RETRY_S,
                    callback=state.maybe_shutdown,
                )
            except Exception as error:  # noqa: BLE001 - it lets us not in, and kombu does not try again
                self._on_away(error, RETRY_S)
                self._pause()

    def _on_away(self, error: Exception, interval: float) -> None:
        del interval
        if not self._is_away:
            self._is_away = True
            _log.warning("broker is away: %s", error)

    def _pause(self) -> None:
        time.sleep(RETRY_S)
        state.maybe_shutdown()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """A broker that lets us in and refuses us the queue is not asked again at once."""
        if not self._was_ready:
            self._pause()
        self._was_ready = False
        super().on_connection_error_after_connected(exc)

    def on_ready(self) -> None:
        super().on_ready()
        self._was_ready = True
        channel = self.task_consumer.channel
        broker.keep_client(channel)
        # RabbitMQ cancels a consumer whose queue is deleted or moves. py-amqp raises then, but in
        # the first 0.1 s of a connection Celery swallows that, and consumes nothing ever after.
        for tag in getattr(channel, "callbacks", ()):
            channel.cancel_callbacks[tag] = self._on_cancelled
        if self._is_away:
            self._is_away = False
            _log.info("broker is back")

    def _on_cancelled(self, tag: str) -> None:
        self.hub.call_soon(self._reconnect)

    def _reconnect(self) -> NoReturn:
        raise ConnectionError("the broker cancelled this consumer")

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            try:
                ids = broker.ids_of(message.headers, message.content_type, message.body)
            except ValueError as error:
                self.on_decode_error(message, error)
                return
            failpoint("consumer.received")
            # Headers have powers (eta, expires, timelimit, stamps) that no message of ours uses.
            message.headers = broker.headers_of(ids)
            handle(message)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drop a message that is none of ours."""
        self._discarded += 1
        if self._discarded & (self._discarded - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            _log.warning("dropped a message: %s; %d so far", exc, self._discarded)
        message.reject_log_error(_log, self.connection_errors)


def make_worker(role: Role, relay: Relay) -> WorkController:
    """The worker of ``role``'s pool: one queue, an event loop, no talk with other workers."""
    settings = role.settings
    worker = WorkController(
        app=broker.make_app(settings),
        hostname=f"{role.name}@{socket.gethostname()}",
        queues=[broker.queue_name(settings, role.pool)],
        pool_cls=partial(RelayPool, relay),
        pool_putlocks=False,
        consumer_cls=IdsConsumer,
        concurrency=broker.PREFETCH,
        ready_callback=lambda _: role.ready(),
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
    )
    # Without it Celery falls back to a loop that blocks for seconds and never calls the pool.
    assert worker.use_eventloop
    return worker


def main() -> int:
    """Consume until asked to stop."""
    role = Role.start("Hand the broker's messages for one pool to its host.")
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    if role.control is not None:
        threading.Thread(target=_watch_launcher, args=(role.control,), daemon=True).start()
    # Tracebacks about what a lost connection has swallowed, an acknowledgement or its own end: that
    # it is lost, and found again, others log.
    for noisy in ("celery.worker.request", "celery.worker.loops"):
        logging.getLogger(noisy).disabled = True
    _refuse_compression()
    worker = make_worker(role, Relay(role.settings.run_dir / f"{role.pool}.sock"))
    signal.signal(signal.SIGTERM, partial(_on_stop, worker.hub))
    worker.start()
    return worker.exitcode or 0


def _watch_launcher(control: socket.socket) -> NoReturn:
    """A thread of its own, since Celery's loop stands still while the broker is away."""
    with contextlib.suppress(OSError):  # a reset: it went without reading all we wrote
        while control.recv(4096):
            pass
    os._exit(LAUNCHER_GONE)


def _on_stop(hub: Any, *_: object) -> None:
    """Let the loop end the worker. From a thread, which wakes the loop and bounds its time."""

    def stop() -> None:
        state.should_stop = 0
        hub.call_soon(lambda: None)
        time.sleep(STOP_S)
        os._exit(0)

    threading.Thread(target=stop, daemon=True).start()


def _refuse_compression() -> None:
    """Make a compressed message garbage: kombu would inflate it before anybody sees its size."""

    def refuse(data: bytes) -> NoReturn:
        raise ValueError("compressed")

    registry: Any = compression  # untyped
    for content_type in registry.encoders():
        registry.register(refuse, refuse, content_type)
