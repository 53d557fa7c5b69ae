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
from skipper.instance.calls import IncomingCall, Items, ServedFunction
from skipper.instance.lifetime import ignore_sigterm
from skipper.instance.link import HostGoneError, HostLink
from skipper.wire import frames
from skipper.wire.calls import STREAM
from skipper.wire.frames import Frame, FrameKind

_ANYTHING = contextlib.suppress(Exception)
"""Around the standard streams, which the function may have closed or replaced."""


def serve(link: HostLink, function: ServedFunction) -> None:
    """Run the calls of ``function`` that come over ``link``, in turn, until the host hangs up.

    SIGTERM raises :class:`Cancelled` in the call that runs, and this returns after it. Raises
    LinkClosedError where the function has closed the socket.
    """
    runner = _Runner(link, function)
    signal.signal(signal.SIGTERM, runner.terminated)
    link.gives_back = True
    if function.threads is not None:
        function.threads.listen()
    with _ending(), contextlib.suppress(HostGoneError):
        while not runner.is_ended:
            frame = link.next()
            if frame.kind == FrameKind.CALL:
                runner.answer(frame)
            elif frame.kind == FrameKind.BATCH:
                runner.answer_batch(frames.Splitter().feed(frame.payload))
            elif frame.kind == FrameKind.FORGET:
                function.forget_models(frame)
            elif frame.kind == FrameKind.THREADS:
                function.take_threads(frame)
            elif frame.kind == FrameKind.FOLLOWS:
                function.follow_deployments(frame)


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """After the block SIGTERM is ignored, which comes just as the host hangs up."""
    try:
        yield
    finally:
        ignore_sigterm()


class _Runner:
    def __init__(self, link: HostLink, function: ServedFunction) -> None:
        self._link, self._function = link, function
        self._is_in_call = self._is_task = False
        self.is_ended = False
        """SIGTERM came during a call. It takes no other, which would have no part in that."""
        self._pid = os.getpid()

    def terminated(self, signum: int, frame: types.FrameType | None) -> None:
        """Handle SIGTERM: stop the call that runs, or else the process."""
        del signum, frame
        if not self._is_in_call:
            raise SystemExit(0)
        self.is_ended = True
        raise Cancelled

    def answer(self, frame: Frame) -> None:
        """Run one call and send its reply."""
        if self._function.batch:
            self.answer_batch([frame])
            return
        call = IncomingCall(frame)
        reply = self._run(call)
        call.close()
        self._link.send(FrameKind.REPLY, call.id, reply)
        self._link.forget(call.id)

    def answer_batch(self, received: list[Frame]) -> None:
        """Run calls as one and send their replies together."""
        batch = [IncomingCall(frame) for frame in received]
        self._begin(batch[-1])  # because the last to come has the most time left
        try:
            sizes, replies = run_batch(self._function, batch)
        finally:
            self._end(batch[-1].id)
        for call in batch:
            call.close()
        packed = [frames.pack(FrameKind.SIZE, size) for size in sizes]
        packed += [frames.pack(FrameKind.REPLY, id_, reply) for id_, reply in replies.items()]
        self._link.send_packed(b"".join(packed))
        for call in batch:
            self._link.forget(call.id)

    def _begin(self, call: IncomingCall) -> None:
        self._is_task = self._function.enter(call)
        self._is_in_call = True

    def _end(self, id_: int) -> None:
        self._is_in_call = False
        # Before the reply, because what is in the pipes by then counts as printed by this call.
        for stream in (sys.stdout, sys.stderr):
            with _ANYTHING:
                stream.flush()
        if os.getpid() != self._pid:  # the function forked, and its child came back here
            os._exit(0)
        if self._is_task:
            failpoint("instance.ran")
        self._function.rest(after_task=self._is_task)
        self._function.leave(id_)

    def _run(self, call: IncomingCall) -> bytes:
        """The reply to one call, whatever the function does."""
        function = self._function
        try:
            kwargs = function.arguments(call)
        except ValidationError as error:
            return function.invalid(error)
        except BaseException as error:  # noqa: BLE001 - a validator of the user's own may raise anything
            return function.failure(error)
        try:
            self._begin(call)
            try:
                value = function.target(**kwargs | function.asked_models(kwargs))
                if function.signature.streams:
                    return self._stream(call, value)
                return function.result(call, value)
            except HostGoneError:
                raise
            # Here, because a failure names the models that the call has asked for, too.
            except BaseException as error:  # noqa: BLE001 - what a function raises is data, SystemExit too
                return function.failure(error)
            finally:
                self._end(call.id)
        except HostGoneError:
            raise
        except BaseException as error:  # noqa: BLE001 - it was interrupted at its very end
            return function.failure(error)

    def _stream(self, call: IncomingCall, items: Iterator[Any]) -> bytes:
        function = self._function
        if not call.wants(STREAM):
            whole = Items(function)
            for item in items:
                whole.add(item)
            return function.success(whole.json())
        self._link.send(FrameKind.SERVED, call.id, function.serving)
        for item in items:
            text = function.dump(item)
            if not self._link.take_credit(call.id, text):
                raise Cancelled
            self._link.send(FrameKind.ITEM, call.id, text)
        return function.success(b"")
