"""Forks from a TensorFlow template that each build, fit and predict: does none ever hang?

Every call is answered by an instance that has just been forked and is killed afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from bench import peers, tree
from bench.calls import Caller, calling, until
from bench.figures import Figures, Spread
from bench.options import Bench

FORKS = 1000
_FUNCTIONS = ("fits.first", "fits.second")
"""Called side by side: the one template forks for both."""
_SAY_EVERY = 50
_SHOWN = 5


def run(bench: Bench) -> None:
    """Once, whatever the number of rounds: it is the forks that are many."""
    told, began = [], time.monotonic()
    for each in forks(bench.scaled(FORKS, 4)):
        told.append(each)
        if len(told) % _SAY_EVERY == 0:
            peers.say(f"forks: {len(told)}, the last within {each['s']:.1f} s")
    bench.figures.add("forks.template.s", time.monotonic() - began)
    sum_up(bench.figures, told)
    for failed in [each for each in told if each["status"] != 200][:_SHOWN]:
        bench.note(f"A fork answered {failed['status']}: {failed['body']}")


def sum_up(figures: Figures, told: list[dict[str, Any]]) -> None:
    """What many forks come to."""
    good = [each for each in told if each["status"] == 200]
    figures.add("forks.template.done", len(good))
    figures.add("forks.template.failed", len(told) - len(good))
    if good:
        times = Spread.of(each["s"] for each in good)
        figures.add("forks.template.starts", len({each["start"] for each in good}))
        figures.add("forks.template.p50_s", times.median)
        figures.add("forks.template.longest_s", times.high)


def forks(count: int) -> Iterator[dict[str, Any]]:
    """What became of each fork: its process, status, seconds from the call to the answer."""
    with tree.tree_of(["fits.py"]) as found, calling(found.port) as caller:
        if not all(template["forks"] for template in found.templates(caller)):
            raise RuntimeError("a template has several threads: instances would be spawned")
        idle: SimpleQueue[str] = SimpleQueue()

        def fork_one(number: int) -> dict[str, Any]:
            function = idle.get()
            try:
                with calling(found.port) as own:
                    return fork(found, own, function, number)
            finally:
                idle.put(function)

        for function in _FUNCTIONS:
            idle.put(function)
        with ThreadPoolExecutor(len(_FUNCTIONS)) as callers:
            yield from callers.map(fork_one, range(count))


def fork(found: tree.Tree, caller: Caller, function: str, number: int) -> dict[str, Any]:
    """Call a function that has no instance, and end the one that has answered."""
    until(lambda: not found.instances(caller, function), 10.0, "the last instance is gone")
    began = time.monotonic()
    answer = caller.ask("POST", tree.path(function), json.dumps({"number": number}).encode())
    lasted = time.monotonic() - began
    told: dict[str, Any] = {"status": answer.status, "s": lasted}
    if answer.status == 200:
        told |= answer.json()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(told["pid"]), signal.SIGKILL)
    else:
        told["body"] = answer.body.decode("utf-8", "replace")
    return told
