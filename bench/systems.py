"""What is measured beside each other, each alone on the machine while it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import peers, tree
from bench.calls import calling
from bench.processes import Server, free_port, running, start, wait_for_answer

ROW = "[0.00632,18.0,2.31,0.0,0.538,6.575,65.2,4.09,1.0,296.0,15.3,396.9,4.98]"
BODY = f'{{"x":{ROW}}}'
"""13 floats."""
HOUSE = '{"x":[0.00632,18.0,2.31,0.0,0.538,6.575,65.2,4.09,1.0,296.0,15.3,4.98]}'
"""The inputs of the Boston model, which leaves one of the columns out."""
MODEL = peers.WORK / "boston.keras"


class Place(NamedTuple):
    """Where something can be called."""

    port: int
    path: str
    servers: tuple[Server, ...] = ()
    """What answers there, and works for it."""
    instances: Callable[[], int] | None = None
    """How many instances serve its direct calls now, where the system has a say in that."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def cpu_s(self) -> float:
        """What all its processes have used of the processors so far, in seconds."""
        return sum(server.cpu_s() for server in self.servers)


System = Callable[[], contextlib.AbstractContextManager[Place]]
"""Starts something for as long as the block lasts, and gives where it answers."""


def uvicorn(app: str, port: int) -> list[str | Path]:
    """The command that serves an app of bench/apps as fast as uvicorn does."""
    command: list[str | Path] = [peers.PYTHON, "-m", "uvicorn", app, "--port", str(port)]
    return [*command, "--loop", "uvloop", "--http", "httptools", "--no-access-log"]


def bentoml(port: int) -> list[str | Path]:
    command: list[str | Path] = [peers.PYTHON, "-m", "bentoml", "serve", "bento:Sum"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--quiet"]


def litserve(port: int) -> list[str | Path]:
    return [peers.PYTHON, "lit.py", str(port)]


def peer(name: str, command: Callable[[int], list[str | Path]], body: str = BODY) -> System:
    """A peer's server as a system under test."""

    @contextlib.contextmanager
    def serving() -> Iterator[Place]:
        port = free_port()
        with running(start(command(port), name)) as server:
            wait_for_answer(server, port, "/predict", body.encode())
            yield Place(port, "/predict", (server,))

    return serving


@contextlib.contextmanager
def skipper() -> Iterator[Place]:
    """The function on Skipper."""
    with tree.tree_of(["plain.py"]) as found:
        yield place_of(found, "plain.total")


def place_of(found: tree.Tree, function: str) -> Place:
    """Where a function of a tree is called, and how many instances it has."""

    def instances() -> int:
        with calling(found.port) as caller:
            return len(found.instances(caller, function))

    return Place(found.port, tree.path(function), (found.server,), instances)


DIRECT: dict[str, System] = {
    "starlette": peer("starlette", lambda port: uvicorn("raw:app", port)),
    "bare": peer("bare", lambda port: uvicorn("bare:app", port)),
    "fastapi": peer("fastapi", lambda port: uvicorn("fast:app", port)),
    "litserve": peer("litserve", litserve),
    "bentoml": peer("bentoml", bentoml),
    "skipper": skipper,
}


def keras_model() -> Path:
    """The model that everybody serves, made once."""
    if not MODEL.exists():
        table = peers.ROOT / "functions" / "data" / "boston_housing.csv"
        with running(start([peers.PYTHON, "boston.py", table, MODEL], "boston")) as server:
            if code := server.process.wait(300):
                raise RuntimeError(f"the Keras model could not be made: exit code {code}")
    return MODEL
