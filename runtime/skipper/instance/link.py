"""The instance's end of its socket to the host: blocking, shared by the threads of a function."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from skipper.instance.held import held_by
from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind

T = TypeVar("T")

_CHUNK = 1 << 16  # because malloc maps a larger buffer anew for each call
_MAX_CANCELLED = 1024
"""Ids of cancelled calls that are remembered."""
_OUT_OF_REACH = 900
"""The socket's descriptor is moved up to here: code that closes what it did not open begins at 3,
and a number that is free again would be given to a file of the function's."""
OWN = 1 << 63
"""Set in the ids of calls that this instance makes, to part them from those that come to it."""


class HostGoneError(ConnectionError):
    """The host closed the socket: nobody needs this process any more."""


class LinkClosedError(ConnectionError):
    """This process itself has closed the socket: its function did, or it is an instance's fork."""


CLOSED_CODE = 83
"""Exit code of an instance that finds its socket closed: it can answer nobody any more."""


def out_of_reach(sock: socket.socket) -> socket.socket:
    """``sock`` under a higher descriptor; as it is, where the limit of descriptors is lower."""
    with contextlib.suppress(OSError):
        moved = fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_REACH)
        sock.close()
        return socket.socket(fileno=moved)
    return sock


def _why(error: OSError) -> ConnectionError:
    is_closed = error.errno in (errno.EBADF, errno.ENOTSOCK)
    return LinkClosedError() if is_closed else HostGoneError()


class HostLink:
    """Frames to and from the host.

    The serving thread takes calls with :meth:`next`; any thread may :meth:`send`, and
    :meth:`wait_for` the answer to a call of its own. Nobody reads in the background, so an idle
    instance is one thread.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._splitter = frames.Splitter()
        self._inbox: deque[Frame] = deque()
        self._answers: dict[int, Frame] = {}
        self._cancelled: set[int] = set()
        self._credit: dict[int, int] = {}
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._is_reading = False
        self._waiting = 0
        """Threads that another one reads for."""
        self._last_call = 0
        self._taker = threading.get_ident()
        self.gives_back = False
        """Whether calls that wait here go back as soon as a thread reads that the host asks."""

    def close(self) -> None:
        """Close the socket: in a fork of this process, which must not send in its place."""
        self._sock.close()

    def send(self, kind: int, id_: int, *parts: bytes) -> None:
        self.send_packed(frames.pack(kind, id_, *parts))

    def send_packed(self, data: bytes) -> None:
        """Send whole frames. Raises HostGoneError or LinkClosedError."""
        with self._sending:
            try:
                self._sock.sendall(data)
            except OSError as error:
                raise _why(error) from None

    def take_credit(self, id_: int, item: bytes) -> bool:
        """Wait until this item of the stream may be sent: the caller takes some at a time.

        False where the caller wants no more.
        """
        with self._lock:
            if not self._is_reading:
                self._read_what_is_there()
        return self._wait(lambda: self._credit_for(id_, item))

    def credit_now(self, id_: int, item: bytes) -> bool | None:
        """As :meth:`take_credit`, but None where that would have to wait."""
        with self._lock:
            return self._credit_for(id_, item)

    def _credit_for(self, id_: int, item: bytes) -> bool | None:
        if id_ in self._cancelled:
            return False
        left = self._credit.setdefault(id_, frames.FIRST_WINDOW)
        if left <= 0:
            return None
        self._credit[id_] = left - frames.weight(item)
        return True

    def next(self) -> Frame:
        """The next frame that is not an answer; waits for it.

        Raises HostGoneError or LinkClosedError.
        """
        return self._wait(self._first)

    def _first(self) -> Frame | None:
        return self._inbox.popleft() if self._inbox else None

    def ask(self, payload: bytes, kind: int = FrameKind.CALL) -> int:
        """Send a call of this instance's own, or a question to its host; its id."""
        with self._lock:
            self._last_call += 1
            id_ = OWN | self._last_call
        self.send(kind, id_, payload)
        return id_

    def wait_for(self, id_: int) -> Frame:
        """The reply to :meth:`ask`."""
        return self._wait(lambda: self._answers.pop(id_, None))

    def _wait(self, take: Callable[[], T | None]) -> T:
        """Wait until ``take`` finds something. Of several waiting threads one reads for all."""
        with self._lock:
            while (found := take()) is None:
                if self._is_reading:
                    self._waiting += 1
                    self._arrived.wait()
                    self._waiting -= 1
                    continue
                self._is_reading = True
                # Other threads must be able to send, and to wait, while this one reads for all.
                self._lock.release()
                try:
                    data = self._sock.recv(_CHUNK)
                except ConnectionError:  # it left without having read everything
                    data = b""
                except OSError as error:
                    raise _why(error) from None
                finally:
                    self._lock.acquire()
                    self._is_reading = False
                    if self._waiting:
                        self._arrived.notify_all()
                self._take(data)
            return found

    def is_cancelled(self, id_: int) -> bool:
        """Whether the host has cancelled the call by now; never waits."""
        with self._lock:
            if not self._is_reading:
                self._read_what_is_there()
            return id_ in self._cancelled

    def poll(self, kind: int) -> list[Frame] | None:
        """The frames of this kind that have come, which :meth:`next` then leaves out.

        Never waits, so that a signal's handler may ask: None where a thread holds the link or reads
        from it just now.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._is_reading:
                return None
            self._read_what_is_there()
            found = [frame for frame in self._inbox if frame.kind == kind]
            for frame in found:
                self._inbox.remove(frame)
            return found
        finally:
            self._lock.release()

    def send_if_free(self, kind: int, id_: int, payload: bytes) -> bool:
        """:meth:`send`, unless the link sends just now: then False, and this frame is left out."""
        if not self._sending.acquire(blocking=False):
            return False
        try:
            self._sock.sendall(frames.pack(kind, id_, payload))
        except OSError as error:
            raise _why(error) from None
        finally:
            self._sending.release()
        return True

    def forget(self, id_: int) -> None:
        """The call with this id has been answered."""
        self._cancelled.discard(id_)
        self._credit.pop(id_, None)

    def _read_what_is_there(self) -> None:
        try:
            data = self._sock.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        except OSError as error:
            raise _why(error) from None
        self._take(data)

    def _take(self, data: bytes) -> None:
        if not data:
            raise HostGoneError
        for frame in self._splitter.feed(data):
            if frame.kind == FrameKind.CANCEL:
                self._cancelled.add(frame.id)
                if len(self._cancelled) > _MAX_CANCELLED:  # cancels of calls that had just ended
                    self._cancelled = set(sorted(self._cancelled)[_MAX_CANCELLED // 2 :])
            if frame.kind == FrameKind.REPLY:
                self._answers[frame.id] = frame
            elif frame.kind == FrameKind.CREDIT:
                if frame.id in self._credit:  # else the stream has just ended
                    self._credit[frame.id] += frames.credited(frame.payload)
            elif frame.kind == FrameKind.RECALL and self.gives_back:
                self._give_back(frame.id)
            else:
                self._inbox.append(frame)

    def _give_back(self, id_: int) -> None:
        """Send a call back that nobody has taken from here; the host asks again where it cannot."""
        for frame in self._inbox:
            if frame.kind == FrameKind.CALL and frame.id == id_:
                # A signal's handler may have come here, in the middle of the thread that sends.
                if self.send_if_free(FrameKind.RECALL, id_, held_by(self._taker).encode()):
                    self._inbox.remove(frame)
                return
