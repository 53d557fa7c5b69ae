"""Runs calls of one loaded function, one at a time, or one batch at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from skipper.errors import Cancelled
from skipper.failpoints import failpoint
from skipper.instance.batch import run_batch
from skipper.instance.calls import Calls, IncomingCall, Items
from skipper.instance.jobs import ModelRef
from skipper.instance.link import HostGoneError, HostLink
from skipper.wire import frames
from skipper.wire.calls import CHECK, STREAM
from skipper.wire.frames import Frame, FrameKind

_WHATEVER = contextlib.suppress(Exception)
"""Around what the function may have closed or replaced: its standard streams."""


def serve(link: HostLink, calls: Calls) -> None:
    """Run calls until the host hangs up."""
    runner = _Runner(link, calls)
    signal.signal(signal.SIGTERM, runner.terminated)
    with contextlib.suppress(HostGoneError):
        while not runner.is_ended:
            frame = link.next()
            if frame.kind == FrameKind.CALL:
                runner.answer(frame)
            elif frame.kind == FrameKind.BATCH:
                runner.answer_batch(frames.Splitter().feed(frame.payload))
            elif frame.kind == FrameKind.MODEL:
                calls.take_model(ModelRef.model_validate_json(frame.payload))


class _Runner:
    def __init__(self, link: HostLink, calls: Calls) -> None:
        self._link, self._calls = link, calls
        self._is_in_call = self._is_task = False
        self.is_ended = False
        """Told to end while it ran a call: it takes no other, which had no part in it."""
        self._pid = os.getpid()

    def terminated(self, signum: int, frame: types.FrameType | None) -> None:
        """SIGTERM stops the call that runs, or an idle process."""
        del signum, frame
        if not self._is_in_call:
            raise SystemExit(0)
        self.is_ended = True
        raise Cancelled

    def answer(self, frame: Frame) -> None:
        """Run one call and send its reply."""
        if self._calls.batch:
            self.answer_batch([frame])
            return
        asked = IncomingCall(frame)
        checks = asked.head.flags & CHECK
        reply = self._calls.checked(asked.body) if checks else self._run(asked)
        self._link.send(FrameKind.REPLY, asked.id, reply)
        self._link.forget(asked.id)

    def answer_batch(self, calls: list[Frame]) -> None:
        """Run calls as one and send their replies together."""
        batch = [IncomingCall(frame) for frame in calls]
        self._begin(batch[-1])  # the last to come has the most time left
        try:
            sizes, replies = run_batch(self._calls, batch)
        finally:
            self._end(batch[-1].id)
        told = [frames.pack(FrameKind.SIZE, size) for size in sizes]
        told += [frames.pack(FrameKind.REPLY, id_, reply) for id_, reply in replies.items()]
        self._link.send_packed(b"".join(told))
        for asked in batch:
            self._link.forget(asked.id)

    def _begin(self, asked: IncomingCall) -> None:
        self._is_task = self._calls.enter(asked)
        self._is_in_call = True

    def _end(self, id_: int) -> None:
        self._is_in_call = False
        for stream in (sys.stdout, sys.stderr):
            with _WHATEVER:
                stream.flush()
        if os.getpid() != self._pid:  # the function forked, and its child came back here
            os._exit(0)
        if self._is_task:
            failpoint("instance.ran")
        self._calls.leave(id_)

    def _run(self, asked: IncomingCall) -> bytes:
        """The reply to one call, whatever the function does."""
        calls = self._calls
        try:
            kwargs = calls.arguments(asked)
        except ValidationError as error:
            return calls.invalid(error)
        except BaseException as error:  # noqa: BLE001 - a validator of the user's own may raise anything
            return calls.failure(error)
        try:
            self._begin(asked)
            try:
                value = calls.target(**kwargs)
                if calls.signature.streams:
                    return self._stream(asked, value)
                return calls.result(asked, value)
            finally:
                self._end(asked.id)
        except HostGoneError:
            raise
        except BaseException as error:  # noqa: BLE001 - what a function raises is data, SystemExit too
            return calls.failure(error)

    def _stream(self, asked: IncomingCall, items: Iterator[Any]) -> bytes:
        calls = self._calls
        if not asked.wants(STREAM):
            whole = Items(calls)
            for item in items:
                whole.add(item)
            return calls.good(whole.json())
        self._link.send(FrameKind.SERVED, asked.id, calls.served)
        for item in items:
            if not self._link.take_credit(asked.id):
                raise Cancelled
            self._link.send(FrameKind.ITEM, asked.id, calls.dump(item))
        return calls.good(b"")
