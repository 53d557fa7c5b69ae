"""Inference at 50 calls a second on one connection, idle and while every core trains."""

from __future__ import annotations

import json
import os
import statistics
import time

from bench import tree
from bench.calls import Caller, calling, until
from bench.options import Bench
from bench.sections.keras import store_model
from bench.systems import HOUSE

PER_S = 50
_LOADS = 5
"""A measurement lasts as long as so many loads: ten calls are to lie above the p99."""
_START_S = 60.0
_TRAIN = "nets.busy"


def run(bench: Bench) -> None:
    with tree.tree_of(["nets.py"]) as found, calling(found.port) as caller:
        store_model(found)
        _keep_rate(caller, 1.0)  # warm
        for _ in bench.each_round("training"):
            _measure(bench, "idle", caller)
            tasks = _train_on_every_core(caller)
            _measure(bench, "busy", caller)
            _stop(caller, tasks)


def _measure(bench: Bench, name: str, caller: Caller) -> None:
    times, errors = _keep_rate(caller, bench.seconds * _LOADS)
    percentiles = statistics.quantiles(times, n=100)
    bench.figures.add(f"training.{name}.p50_ms", percentiles[49] * 1000)
    bench.figures.add(f"training.{name}.p99_ms", percentiles[98] * 1000)
    bench.figures.add(f"training.{name}.errors", errors)


def _keep_rate(caller: Caller, seconds: float) -> tuple[list[float], int]:
    """The times of calls, each from when it was due: a late answer delays nobody's clock."""
    times, errors, began = [], 0, time.perf_counter()
    for number in range(int(seconds * PER_S)):
        due = began + number / PER_S
        time.sleep(max(0.0, due - time.perf_counter()))
        errors += caller.ask("POST", tree.path("nets.predict"), HOUSE.encode()).status != 200
        times.append(time.perf_counter() - due)
    return times, errors


def _train_on_every_core(caller: Caller) -> list[str]:
    """Tasks that train until they are cancelled, as many as there are cores."""
    body = json.dumps({"seconds": 3600}).encode()
    places = [
        caller.post(tree.path(_TRAIN), body).headers["location"] for _ in range(os.cpu_count() or 1)
    ]
    # A task tells progress once its preparations are over and it uses a core.
    until(lambda: all(caller.get(each)["progress"] for each in places), _START_S, "all train")
    return places


def _stop(caller: Caller, places: list[str]) -> None:
    for place in places:
        caller.ask("POST", f"{place}/cancel", b"")
    until(
        lambda: all(caller.get(each)["state"] == "cancelled" for each in places),
        _START_S,
        "all training has stopped",
    )
