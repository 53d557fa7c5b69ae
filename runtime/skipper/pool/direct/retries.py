"""Direct calls that are tried again after a pause, as ``retries=`` of their functions says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

from skipper.outcomes import RETRIED
from skipper.pool.backoff import longest_pause_s, pause_s
from skipper.pool.direct import replies
from skipper.pool.direct.queue import DirectCall
from skipper.settings.pools import PoolSettings
from skipper.wire import calls


class Retries:
    """Owns the calls that pause: no more, in number and bytes, than may wait in the pool.

    Each is handed to ``again`` at the end of its pause, whether or not its caller is there still.
    """

    def __init__(self, settings: PoolSettings, again: Callable[[DirectCall], None]) -> None:
        self._settings, self._again = settings, again
        self.count = self._bytes = 0

    def takes(self, call: DirectCall, payload: bytes) -> bool:
        """Whether a call whose run has ended with this reply is tried again. If so it pauses."""
        if payload[0] not in RETRIED or not self._may_go_on(call):
            return False
        problem = json.loads(calls.parse_reply(payload)[2])
        if not problem.get("retryable", True):  # ``retry_on`` omits what it raised
            return False
        call.failures += 1
        call.instance = None
        self._pause(call, payload)
        return True

    def _may_go_on(self, call: DirectCall) -> bool:
        spec, room = call.queue.spec, self._settings.queue_mb * (1 << 20)
        if call.failures >= spec.retries or call.is_answered or call.has_streamed:
            return False
        if self.count >= self._settings.queue_total or self._bytes + call.size > room:
            return False
        longest_s = longest_pause_s(spec.backoff_s, call.failures + 1)
        return time.monotonic() + longest_s < call.deadline

    def _pause(self, call: DirectCall, payload: bytes) -> None:
        spec = call.queue.spec
        pause = pause_s(spec.backoff_s, call.failures)
        progress = f"run {call.failures} of {spec.max_attempts} failed"
        replies.log_failure(call, payload, f": {progress}, again in {pause:.1f} s")
        self.count += 1
        self._bytes += call.size
        asyncio.get_running_loop().call_later(pause, self._ended, call)

    def _ended(self, call: DirectCall) -> None:
        self.count -= 1
        self._bytes -= call.size
        self._again(call)
