"""`make bench-smoke`: has Skipper become grossly slower? Under a minute, ratios with wide margins.

Nothing is installed: raw Starlette runs from Skipper's own environment, and the load comes from
Python, which costs both sides the same. So the ratios are milder than those of `make bench`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator

from bench import peers, tree
from bench.processes import free_port, running, start, wait_for_answer
from bench.raw import Line
from bench.systems import BODY, Place

CONNECTIONS = 16
SECONDS = 2.0
TRIES = 3
"""A machine that others use makes any single comparison wrong now and then."""
LEAST_DIRECT = 0.15
"""Calls per second, of raw Starlette's. `make bench` finds about three times that."""
LEAST_TASKS = 0.01
"""Tasks ended per second, of raw Starlette's calls: they run at a lower priority than anybody."""


def main() -> int:
    with starlette() as plain, tree.tree_of(["plain.py"]) as found:
        for _ in range(TRIES):
            misses = compare(plain, found)
            if not misses:
                return 0
            peers.say("; ".join(misses))
    return 1


def compare(plain: Place, found: tree.Tree) -> list[str]:
    """What is below its margin in one comparison."""
    base = asyncio.run(rate(plain, BODY))
    direct = asyncio.run(rate(Place(found.port, tree.path("plain.total")), BODY))
    nothing = Place(found.port, tree.path("plain.nothing"))
    tasks = asyncio.run(rate(nothing, '{"n":1}', prefer="wait=30"))  # each caller waits for its own
    peers.say(
        f"raw Starlette {base:.0f}/s, Skipper {direct:.0f}/s ({direct / base:.2f}), "
        f"tasks {tasks:.0f}/s ({tasks / base:.3f})"
    )
    misses = []
    if direct < LEAST_DIRECT * base:
        misses.append(f"direct calls are below {LEAST_DIRECT} of raw Starlette's")
    if tasks < LEAST_TASKS * base:
        misses.append(f"tasks are below {LEAST_TASKS} of raw Starlette's calls")
    return misses


async def rate(place: Place, body: str, **headers: str) -> float:
    """Good answers per second over all connections."""
    ends = time.monotonic() + SECONDS

    async def call_on() -> int:
        line, count = await Line.open(place.port), 0
        while time.monotonic() < ends:
            line.send(place.path, body.encode(), **headers)
            reply = await line.reply()
            if reply.status != 200:
                raise RuntimeError(f"{place.url} answered {reply.status}: {reply.body[:200]!r}")
            count += 1
        line.close()
        return count

    return sum(await asyncio.gather(*(call_on() for _ in range(CONNECTIONS)))) / SECONDS


@contextlib.contextmanager
def starlette() -> Iterator[Place]:
    place = Place(free_port(), "/predict")
    command = [sys.executable, "-m", "uvicorn", "raw:app", "--port", str(place.port)]
    with running(start([*command, "--no-access-log"], "starlette")) as server:
        wait_for_answer(server, place.port, place.path, BODY.encode())
        yield place


if __name__ == "__main__":
    sys.exit(main())
