"""Functions that do what functions should not do, and one that does nothing wrong."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import Any

import skipper


@skipper.data
def bystander() -> dict[str, int]:
    return {"pid": os.getpid()}


@skipper.data
def raises() -> None:
    raise ValueError("boom")


@skipper.data
def exits() -> None:
    sys.exit(3)


@skipper.data
def exits_at_once() -> None:
    os._exit(4)


@skipper.data
def segfaults() -> None:
    ctypes.string_at(0)


@skipper.data
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@skipper.data(timeout=0.5)
def oversleeps() -> None:
    time.sleep(60)


@skipper.data(timeout=0.5)
async def oversleeps_awake() -> None:
    import asyncio

    await asyncio.sleep(60)


@skipper.data
def opaque() -> Any:
    return object()


@skipper.data
def closes_everything() -> str:
    sys.stdout.close()
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return "done"


@skipper.data(memory=200)
def devours() -> int:
    eaten = []
    while True:
        eaten.append(bytearray(10 << 20))
        time.sleep(0.01)


@skipper.data
def chats(lines: int) -> int:
    for number in range(lines):
        print("line", number)
    return lines


@skipper.data
def ends_no_line() -> None:
    print("first")
    print("last", end="")


@skipper.data
def forks() -> str:
    """The child returns as the parent does, which answers."""
    return "child" if os.fork() == 0 else "parent"


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@skipper.data
def raises_unprintable() -> None:
    raise _UnprintableError
