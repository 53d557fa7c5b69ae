"""How many threads this process computes on, in all libraries that can be told."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import Any

from skipper.instance.link import HostGoneError, HostLink, LinkClosedError
from skipper.instance.plugins import Plugins
from skipper.settings.environment import change_thread_limits
from skipper.wire.frames import Frame, FrameKind

_NATIVE = ("numpy", "scipy", "sklearn", "torch")
"""Libraries that bring native thread pools of their own."""


class ThreadShare:
    """This instance's share of the cores, which its host may change at any time.

    While a plain function runs, a signal tells of a change: libraries count the threads of OpenMP
    per thread, so that they must be told in the one that computes, between two of its steps.
    """

    def __init__(self, link: HostLink, plugins: Plugins, threads: int) -> None:
        self._link, self._plugins = link, plugins
        self._threads, self._in_force = threads, b"%d" % threads
        self._controller: Any = None
        self._modules = 0

    def listen(self) -> None:
        """Follow the host while a function runs, too. For the main thread."""
        signal.signal(signal.SIGURG, self._signalled)  # ignored by whoever does not handle it
        signal.siginterrupt(signal.SIGURG, False)

    def take(self, frame: Frame) -> None:
        """Do as a THREADS frame says, and tell the host what came of it."""
        self._change(frame)
        self._link.send(FrameKind.THREADS, 0, self._in_force)

    def _signalled(self, *_: object) -> None:
        # Whatever goes wrong here would be raised in the middle of the function.
        with contextlib.suppress(Exception):
            if (frames := self._link.poll(FrameKind.THREADS)) is not None:
                for frame in frames[-1:]:
                    self._change(frame)
                self._link.send_if_free(FrameKind.THREADS, 0, self._in_force)

    def _change(self, frame: Frame) -> None:
        self._threads = int(frame.payload)
        change_thread_limits(self._threads)
        self._limit_native()
        self._in_force = b"%d" % min([self._threads, *self._set_elsewhere()])

    def _limit_native(self) -> None:
        if not any(name in sys.modules for name in _NATIVE):
            return
        if self._controller is None or self._modules != len(sys.modules):
            from threadpoolctl import ThreadpoolController

            # Looking for the libraries takes milliseconds: once for the modules that are there.
            self._controller, self._modules = ThreadpoolController(), len(sys.modules)
        self._controller.limit(limits=self._threads)
        torch: Any = sys.modules.get("torch")
        if hasattr(torch, "set_num_threads"):  # it may be half imported
            torch.set_num_threads(self._threads)

    def _set_elsewhere(self) -> list[int]:
        """The threads of libraries that cannot be changed any more."""
        try:
            found = self._plugins.hook.skipper_threads_changed(threads=self._threads)
        except (HostGoneError, LinkClosedError):
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            sys.stderr.write(f"skipper_threads_changed: {type(error).__name__}: {error}\n")
            return []
        return [number for number in found if isinstance(number, int)]
