"""How what an instance serves is set up, and how it and the process come to an orderly end.

An end is orderly where the host asks for it: the instance is idle, worn or of old code, or the tree
goes down. The host bounds it: a process that is not gone in time is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import inspect
import logging
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from skipper.instance.finder import own_modules

if TYPE_CHECKING:  # a process that only reads has no need of it yet
    from skipper.function.decorators import Function

log = logging.getLogger(__name__)

_ENTERS = (("__enter__",), ("__aenter__", "__enter__"))
_ENDS = (("__exit__", "close"), ("__aexit__", "__exit__", "aclose", "close"))
"""By whether its calls are ``async``: of these the first that a class has is called, or awaited."""


class ServedState:
    """The one object of a class that is served; of a plain function there is none.

    Of an ``async def`` function it is entered on the loop that runs the calls.
    """

    def __init__(self, function: Function[..., Any]) -> None:
        self._function = function
        self._object: Any = None
        self._is_async = function.signature.is_async

    def __enter__(self) -> None:
        self._make()
        self._first(_ENTERS)

    def __exit__(self, *_: object) -> None:
        with _told(self._function.name):
            self._first(_ENDS)
        self._let_go()

    async def __aenter__(self) -> None:
        self._make()
        await _done(self._first(_ENTERS))

    async def __aexit__(self, *_: object) -> None:
        with _told(self._function.name):
            await _done(self._first(_ENDS))
        self._let_go()

    def _make(self) -> None:
        if inspect.isclass(self._function.target):
            self._object = self._function.callable

    def _let_go(self) -> None:
        self._object = None
        vars(self._function).pop("callable", None)

    def _first(self, names: tuple[tuple[str, ...], ...]) -> Any:
        """Call the first of these that the object's class has, and not what it makes up."""
        kind = type(self._object)
        for name in names[self._is_async] if self._object is not None else ():
            if callable(getattr(kind, name, None)):
                arguments = (None, None, None) if name in ("__exit__", "__aexit__") else ()
                return getattr(self._object, name)(*arguments)
        return None


async def _done(value: Any) -> None:
    if inspect.isawaitable(value):
        await value


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Log what a block raises: nobody waits for it, and the next step is due all the same."""
    try:
        yield
    except BaseException as error:
        error.__context__ = None  # that the process was asked to end
        log.error("%s did not end as it should", name, exc_info=error)


def ignore_sigterm() -> None:
    """Let nothing interrupt the end: it has begun."""
    # A handler and not SIG_IGN, which programs that are started now would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)


def end_process() -> None:
    """Do what Python does at the end of a program, which one that was forked does not come to.

    Threads that are no daemons are waited for, ``atexit`` and ``weakref.finalize`` run, and what
    the project's modules hold is let go of, with its temporary files.
    """
    ignore_sigterm()
    with _told("a thread"):
        threading._shutdown()  # type: ignore[attr-defined] # as multiprocessing does in its forks
    with _told("what was registered with atexit"):
        atexit._run_exitfuncs()
    others = (thread for thread in threading.enumerate() if not thread.name.startswith("skipper-"))
    if [*others] == [threading.main_thread()]:  # one that goes on would find its module empty
        for module in own_modules():
            vars(module).clear()
        gc.collect()
