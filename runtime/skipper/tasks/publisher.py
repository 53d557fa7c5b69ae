"""Makes the ids of accepted tasks known to the broker, on nobody's time.

What is lost or doubled here the ledger makes good, so nothing waits for the broker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

from skipper.failpoints import failpoint
from skipper.settings.model import Settings
from skipper.tasks import broker

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


class Publisher:
    """Sends ids to the pools' queues from a thread of its own; a context manager.

    Never keeps its caller waiting and never raises. A message whose connection turns out to be
    dead is sent once more over a new one; while the broker is away ids are dropped and counted,
    since hosts find them in the ledger.
    """

    def __init__(
        self, settings: Settings, connect: Callable[[Settings], broker.Line] = broker.KombuLine
    ) -> None:
        self._settings, self._open = settings, connect
        self._wake = threading.Condition()
        self._waiting: dict[str, deque[str]] = {}
        self._backlog = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._line: broker.Line | None = None
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
        self._thread.join(broker.ANSWER_S)

    @property
    def is_up(self) -> bool:
        """Whether the broker answered last time; at rest it is asked every second."""
        return self._line is not None and self._is_up is True

    @property
    def dropped(self) -> int:
        """Ids that were left to the ledger."""
        return self._refused + self._dropped  # one counter for each thread that counts

    def publish(self, pool: str, ids: Sequence[str]) -> None:
        """Send ``ids`` to ``pool`` as soon as may be, up to 16 in a message.

        Not those of a pool that the project has no longer: nobody would take them off its queue.
        """
        if not ids or pool not in self._settings.pools:
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
            ids = [waiting.popleft() for _ in range(min(len(waiting), broker.IDS_PER_MESSAGE))]
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
                failpoint("publisher.sending")
                line.send(pool, ids)
                failpoint("publisher.sent")
            except Exception as error:  # noqa: BLE001 - kombu's transports share no base class
                self._lose(error)
            else:
                self.published += len(ids)
                self._doubt_until = 0.0
                self._found(is_up=True)
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
                    self._found(is_up=True)
                return

    def _lines(self) -> Iterator[broker.Line]:
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
                    self._give_up(broker.reason(error))
                    return False
                time.sleep(0.05)
            else:
                return True

    def _give_up(self, reason: str) -> None:
        """Drop what comes until it is time to try again."""
        self._retry_at = time.monotonic() + _RETRY_S
        self._found(is_up=False, reason=reason)

    def _lose(self, error: Exception) -> None:
        failpoint("publisher.lost")
        assert self._line is not None
        self._line.abandon()
        self._line = None
        if self._is_up:
            _log.info("connection to the broker lost: %s", broker.reason(error))

    def _found(self, *, is_up: bool, reason: str = "") -> None:
        """Keep whether the broker answers, and log that once per outage."""
        if is_up and self._is_up is False:
            missed = self.dropped - self._dropped_before
            _log.info("broker is back; %d ids were left to the ledger", missed)
        elif not is_up and self._is_up is not False:
            self._dropped_before = self.dropped
            _log.warning("broker is away, tasks go on through the ledger: %s", reason)
        self._is_up = is_up
