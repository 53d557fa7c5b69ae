"""From the start of a server to its first good answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import tree
from bench.options import Bench
from bench.processes import Server, free_port, running, start, wait_for_answer
from bench.systems import BODY, Place, bentoml, litserve, uvicorn

Starting = Callable[[], contextlib.AbstractContextManager[tuple[Server, Place]]]


def run(bench: Bench) -> None:
    starts: dict[str, Starting] = {
        "uvicorn": lambda: peer("uvicorn", lambda port: uvicorn("fast:app", port)),
        "litserve": lambda: peer("litserve", litserve),
        "bentoml": lambda: peer("bentoml", bentoml),
        "skipper": lambda: skipper("plain.py"),
        "skipper_beside_tensorflow": lambda: skipper("plain.py", "nets.py"),
    }
    for _ in bench.each_round("start"):
        for name, starting in starts.items():
            began = time.monotonic()
            with starting() as (server, place):
                wait_for_answer(server, place.port, place.path, BODY.encode())
                bench.figures.add(f"start.{name}.s", time.monotonic() - began)


@contextlib.contextmanager
def peer(name: str, command: Callable[[int], list[str | Path]]) -> Iterator[tuple[Server, Place]]:
    place = Place(free_port(), "/predict")
    with running(start(command(place.port), name)) as server:
        yield server, place


@contextlib.contextmanager
def skipper(*files: str) -> Iterator[tuple[Server, Place]]:
    with tree.planted(files) as folder, tree.up(folder, ready=False) as found:
        yield found.server, Place(found.port, tree.path("plain.total"))
