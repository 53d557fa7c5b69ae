"""How fast the machine is by itself, so that figures of another one can be set beside these."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import disk
from bench.options import Bench

_TURNS = 1_000_000
_TRIPS = 5_000
_MESSAGE = bytes(128)
_ECHO = """
import socket, sys
stream = socket.socket(fileno=int(sys.argv[1]))
while data := stream.recv(4096):
    stream.sendall(data)
"""


def run(bench: Bench) -> None:
    for _ in bench.each_round("speed"):
        bench.figures.add("speed.machine.loop_ms", loop_ms())
        bench.figures.add("speed.machine.trip_us", trip_us())
        with tempfile.TemporaryDirectory(prefix="skipper-bench-") as folder:
            bench.figures.add("speed.machine.fdatasync_ms", disk.fdatasync_ms(Path(folder)))


def loop_ms() -> float:
    """How long one thread of Python takes to add up a million numbers, one by one."""
    began, total = time.perf_counter(), 0
    for number in range(_TURNS):
        total += number & 7
    return (time.perf_counter() - began) * 1000


def trip_us() -> float:
    """The middle of the times of a message to another process and back, over a unix stream."""
    times = []
    with _echo() as stream:
        for _ in range(_TRIPS):
            began = time.perf_counter()
            stream.sendall(_MESSAGE)
            stream.recv(4096)
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


@contextlib.contextmanager
def _echo() -> Iterator[socket.socket]:
    """A stream to a process that sends back what it gets."""
    ours, theirs = socket.socketpair()
    number = str(theirs.fileno())
    command = [sys.executable, "-c", _ECHO, number]
    with theirs:
        process = subprocess.Popen(command, pass_fds=[int(number)])
    with process, ours:
        yield ours
