"""Others that use a tree while something happens to it, and what they notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx
import psutil

from tests.acceptance.tree import Tree


class Busy:
    """Does something again and again, on a thread of its own, until the block ends."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done = 0
        self.slowest_s = 0.0
        self.values: list[Any] = []
        """What it came to, but the same value once in a row."""
        self.troubles: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                value = self._do()
            except (AssertionError, httpx.HTTPError) as error:
                self.troubles.append(f"{error!r}"[:1000])
            else:
                if self.values[-1:] != [value]:
                    self.values.append(value)
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self.done += 1


def calls(tree: Tree, name: str = "bad.bystander", body: Any = None) -> Busy:
    """Direct calls, one after the other."""
    return Busy(lambda: tree.value(name, body))


def tasks(tree: Tree, name: str = "bad.bystander", body: Any = None) -> Busy:
    """Tasks, one after the other."""

    def run() -> Any:
        response = tree.invoke(name, body, prefer="wait=30")
        assert response.status_code == 200, response.text
        return response.json()

    return Busy(run)


class Watch:
    """How much the memory of some processes grows while the block lasts, MiB at most."""

    def __init__(self, **pids: int) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = {name: self._used(name) for name in pids}
        self.growth = dict.fromkeys(pids, 0.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            for name, before in self._before.items():
                self.growth[name] = max(self.growth[name], self._used(name) - before)

    def _used(self, name: str) -> float:
        used: int = self._processes[name].memory_info().rss
        return used / (1 << 20)
