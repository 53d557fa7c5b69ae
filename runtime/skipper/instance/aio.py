"""Runs calls of one ``async def`` function: several at once on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pydantic import ValidationError

from skipper.instance.calls import IncomingCall, Items, ServedFunction
from skipper.instance.held import held_by
from skipper.instance.jobs import CALLS_AT_ONCE
from skipper.instance.link import CLOSED_CODE, HostGoneError, HostLink, LinkClosedError
from skipper.outcomes import Outcome
from skipper.wire.calls import STREAM, problem
from skipper.wire.frames import Frame, FrameKind


async def serve(link: HostLink, function: ServedFunction) -> None:
    """Run the calls of ``function`` that come over ``link``, side by side, until the host hangs up.

    A thread reads, the event loop runs the function.
    """
    await _AsyncServer(link, function).run()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main``, which serves, on a new event loop.

    Raises LinkClosedError where the function has closed the descriptors of loop or link.
    """
    try:
        asyncio.run(main)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise LinkClosedError from None
        raise


class _AsyncServer:
    def __init__(self, link: HostLink, function: ServedFunction) -> None:
        self._link, self._function = link, function
        self._running: dict[int, asyncio.Task[bytes]] = {}
        self._ready: set[int] = set()
        """Calls that have come and not begun: whoever takes an id out, loop or reader, has it."""
        self._thread = threading.get_ident()
        self._pid = os.getpid()
        self._over = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        # So many, because a stream that nobody reads holds a thread, and so does a call that waits
        # for another.
        loop.set_default_executor(ThreadPoolExecutor(4 * CALLS_AT_ONCE))
        loop.add_signal_handler(signal.SIGTERM, self._terminated)
        threading.Thread(target=self._read, args=(loop,), daemon=True, name="skipper-link").start()
        await self._over.wait()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                frame = self._link.next()
                if frame.kind == FrameKind.RECALL:
                    self._give_back(frame.id, loop)
                    continue
                if frame.kind == FrameKind.CALL:
                    self._ready.add(frame.id)
                loop.call_soon_threadsafe(self._take, frame)
        except HostGoneError:
            loop.call_soon_threadsafe(self._over.set)
        except (LinkClosedError, OSError):
            os._exit(CLOSED_CODE)

    def _give_back(self, id_: int, loop: asyncio.AbstractEventLoop) -> None:
        """Send a call back that the loop has not begun: something else holds it."""
        if self._is_taken(id_):
            return
        self._link.send(FrameKind.RECALL, id_, held_by(self._thread).encode())
        loop.call_soon_threadsafe(self._go_on)

    def _is_taken(self, id_: int) -> bool:
        """Whether a call has begun or has been given back; if not, it is the asker's from here."""
        try:
            self._ready.remove(id_)
        except KeyError:
            return True
        return False

    def _go_on(self) -> None:
        with contextlib.suppress(HostGoneError, LinkClosedError):  # the reader finds the same
            self._link.send(FrameKind.RECALL, 0)

    def _take(self, frame: Frame) -> None:
        if frame.kind == FrameKind.CALL:
            task = asyncio.get_running_loop().create_task(self._reply(frame))
            self._running[frame.id] = task
            task.add_done_callback(partial(self._answer, frame.id))
        elif (
            frame.kind == FrameKind.CANCEL and (running := self._running.get(frame.id)) is not None
        ):
            running.cancel()
        elif frame.kind == FrameKind.FORGET:
            self._function.forget_models(frame)
        elif frame.kind == FrameKind.THREADS:
            self._function.take_threads(frame)
        elif frame.kind == FrameKind.FOLLOWS:
            self._function.follow_deployments(frame)

    def _terminated(self) -> None:
        if not self._running:
            self._over.set()
        for task in list(self._running.values()):
            task.cancel()

    def _answer(self, id_: int, task: asyncio.Task[bytes]) -> None:
        del self._running[id_]
        if not self._running:
            self._function.rest(after_task=False)
        if not task.cancelled() and not task.result():
            return  # it was given back
        self._ready.discard(id_)
        # Here too, because a task that is cancelled before its first step runs no line of `_reply`.
        reply = self._cancelled() if task.cancelled() else task.result()
        try:
            self._link.send(FrameKind.REPLY, id_, reply)
        except HostGoneError:
            self._over.set()
        except LinkClosedError:
            os._exit(CLOSED_CODE)
        self._link.forget(id_)

    async def _reply(self, frame: Frame) -> bytes:
        if self._is_taken(frame.id):
            return b""
        call = IncomingCall(frame)
        try:
            return await self._replied(call)
        finally:
            call.close()

    async def _replied(self, call: IncomingCall) -> bytes:
        function = self._function
        try:
            kwargs = function.arguments(call)
        except ValidationError as error:
            return function.invalid(error)
        except BaseException as error:  # noqa: BLE001 - a validator of the user's own may raise anything
            return function.failure(error)
        try:
            function.enter(call)
            kwargs |= function.asked_models(kwargs)
            if function.signature.streams:
                return await self._stream(call, function.target(**kwargs))
            return function.result(call, await function.target(**kwargs))
        except asyncio.CancelledError:
            return self._cancelled()
        except BaseException as error:  # noqa: BLE001 - what a function raises is data, SystemExit too
            return function.failure(error)
        finally:
            if os.getpid() != self._pid:  # the function forked, and its child came back here
                os._exit(0)
            with contextlib.suppress(HostGoneError, LinkClosedError):  # the reply finds the same
                function.leave(call.id)

    def _cancelled(self) -> bytes:
        return problem(Outcome.CANCELLED, "the run was cancelled", self._function.served)

    async def _stream(self, call: IncomingCall, items: Any) -> bytes:
        function = self._function
        if call.wants(STREAM):
            self._link.send(FrameKind.SERVED, call.id, function.serving)
            async for item in items:
                text = function.dump(item)
                if not await self._credit(call.id, text):
                    raise asyncio.CancelledError
                self._link.send(FrameKind.ITEM, call.id, text)
            return function.success(b"")
        whole = Items(function)
        async for item in items:
            whole.add(item)
        return function.success(whole.json())

    async def _credit(self, id_: int, item: bytes) -> bool:
        """Wait until this item may be sent. False where the caller wants no more."""
        if (may_go := self._link.credit_now(id_, item)) is None:
            return await asyncio.to_thread(self._link.take_credit, id_, item)
        await asyncio.sleep(0)  # because the function itself may never wait, and others run beside
        return may_go
