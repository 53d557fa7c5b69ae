"""Functions that do what functions should not do, and one that does nothing wrong."""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import skipper

DEEP = 100_000
KINDS: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError, RecursionError)
}
_kept: list[Any] = []


@skipper.data
def bystander() -> dict[str, int]:
    return {"pid": os.getpid()}


# --- raising ---


@skipper.data
def raises() -> None:
    raise ValueError("boom")


@skipper.data
def raises_kind(kind: str) -> None:
    raise KINDS[kind]


@skipper.data
async def raises_kind_awake(kind: str) -> None:
    raise KINDS[kind]


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@skipper.data
def raises_unprintable() -> None:
    raise _UnprintableError


@skipper.data
def raises_at_length() -> None:
    raise ValueError("x" * 10_000_000)


@skipper.data
def raises_from_many() -> None:
    cause: BaseException | None = None
    for number in range(DEEP):
        error = ValueError(f"number {number}")
        error.__cause__, cause = cause, error
    raise ValueError("the last") from cause


@skipper.data
def raises_group() -> None:
    raise ExceptionGroup("both", [ValueError("first"), TypeError("second")])


@skipper.data
def recurses(depth: int = DEEP) -> int:
    return recurses(depth - 1) + 1 if depth else 0


@skipper.data
def says_it_was_cancelled() -> None:
    raise skipper.Cancelled


@skipper.data
async def says_it_was_cancelled_awake() -> None:
    raise asyncio.CancelledError


@skipper.data
def exits() -> None:
    sys.exit(3)


@skipper.data
def reads_input() -> str:
    return input()


# --- dying ---


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


@skipper.data(retries=2)
def kills_itself_again() -> None:
    kills_itself()


@skipper.data
def kills_its_host() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@skipper.data
def closes_every_descriptor() -> str:
    os.closerange(3, 1024)
    return "done"


@skipper.data
async def closes_every_descriptor_awake() -> str:
    os.closerange(3, 1024)
    return "done"


@skipper.data(memory=150)
def devours() -> int:
    eaten = []
    while True:
        eaten.append(bytearray(5 << 20))
        time.sleep(0.02)


# --- staying ---


@skipper.data(timeout=6)
def stops_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@skipper.data(timeout=6)
def oversleeps() -> None:
    time.sleep(60)


@skipper.data(timeout=6)
async def oversleeps_awake() -> None:
    await asyncio.sleep(60)


@skipper.data(timeout=6)
def holds_the_lock() -> None:
    """As C code does that never gives the interpreter back: no signal handler of Python's runs."""
    sum(range(10**13))


@skipper.data(timeout=6)
def ignores_signals() -> None:
    for number in signal.valid_signals():
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)


# --- leaving something behind ---


@skipper.data
def forks() -> str:
    """The child returns as the parent does, which answers."""
    return "child" if os.fork() == 0 else "parent"


@skipper.data
async def forks_awake() -> str:
    return forks()


@skipper.data
def forks_daemons() -> list[int]:
    """Two that nobody is the parent of, one with a child of its own; their process ids."""
    reader, writer = os.pipe()
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                child = subprocess.Popen(["sleep", "600"], start_new_session=True)
                os.write(writer, f"{os.getpid()} {child.pid} ".encode())
                time.sleep(600)
            os._exit(0)
        os.wait()
    found: list[int] = []
    while len(found) < 4:
        found += map(int, os.read(reader, 100).split())
    os.close(reader)
    os.close(writer)
    return found


@skipper.data(idle=1)
def leaves_children() -> list[int]:
    """One in its process group and one out of it; their process ids."""
    commands = [subprocess.Popen(["sleep", "600"], start_new_session=new) for new in (True, False)]
    return [command.pid for command in commands]


@skipper.data
def uses_a_pool() -> list[int]:
    with multiprocessing.Pool(2) as pool:
        return pool.map(abs, range(-3, 0))


@skipper.data
def leaves_a_thread() -> str:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return "done"


@skipper.data(memory=150)
def leaks() -> int:
    """Memory that is never given back; the process that has it. Young ones are not replaced."""
    _kept.append(b"x" * (8 << 18))
    time.sleep(0.7)
    return os.getpid()


# --- printing ---


@skipper.data(timeout="5m")
def chats(lines: int) -> int:
    for number in range(lines):
        print("line", number)
    return lines


@skipper.data(timeout="5m")
def drones(mebibytes: int) -> int:
    """Prints without ever ending a line."""
    for _ in range(mebibytes):
        sys.stdout.write("x" * (1 << 20))
    return mebibytes


@skipper.data
def prints_garbage() -> str:
    sys.stdout.buffer.write(b"\xff\xfe\x00 \x1b[2J\x1b]0;title\x07 beside a title \xc3\n")
    return "done"


@skipper.data
def ends_no_line() -> None:
    print("first")
    print("last", end="")


@skipper.data
def closes_everything() -> str:
    """Its output, that is."""
    sys.stdout.close()
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return "done"


# --- returning ---


@skipper.data
def opaque() -> Any:
    return object()


@skipper.data
def no_numbers() -> list[float]:
    return [float("nan"), float("inf"), -float("inf")]


@skipper.data
def text_bytes() -> Any:
    return "é".encode()


@skipper.data
def other_bytes() -> Any:
    return b"\xff"


@skipper.data
def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@skipper.data
def bulky(megabytes: int) -> str:
    return "x" * (megabytes * 1_000_000)


@skipper.data
def nested() -> Any:
    value: list[Any] = []
    for _ in range(DEEP):
        value = [value]
    return value


@skipper.data
def echo(value: Any) -> Any:
    return value


@skipper.data
def yields_for_ever() -> Iterator[str]:
    while True:
        yield "x" * 1000


@skipper.data
def reports_at_length(*, run: skipper.Run) -> None:
    run.progress(1, 2, note="x" * 1_000_000)
