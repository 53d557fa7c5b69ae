"""The Keras Boston model at 1 and 64 connections: Skipper with ``batch=64``, LitServe its best."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from bench import peers, tree, wrk
from bench.calls import calling
from bench.options import Bench
from bench.systems import HOUSE, Place, System, keras_model, peer, place_of

WAYS = {"called": (1, 32, 64), "compiled": (1, 64)}
"""How LitServe calls the model, and the batch sizes that are tried."""


def run(bench: Bench) -> None:
    systems = {"skipper": skipper} | {
        f"litserve_{way}_{batch}": litserve(way, batch)
        for way, batches in WAYS.items()
        for batch in batches
    }
    for _ in bench.each_round("keras"):
        for name, system in systems.items():
            with system() as place:
                wrk.post(place.url, HOUSE, connections=4, seconds=1)  # warm, leaving no backlog
                for connections in (1, 64):
                    bench.measure_load(f"keras.{name}", place, HOUSE, connections)


def litserve(way: str, batch: int) -> System:
    def command(port: int) -> list[str | Path]:
        return [peers.PYTHON, "lit_keras.py", str(port), keras_model(), str(batch), way]

    return peer(f"litserve-{way}-{batch}", command, HOUSE)


@contextlib.contextmanager
def skipper() -> Iterator[Place]:
    with tree.tree_of(["nets.py"]) as found:
        store_model(found)
        yield place_of(found, "nets.predict")


def store_model(found: tree.Tree) -> None:
    """Have Skipper take up the model that everybody serves, and answer with it."""
    with calling(found.port) as caller:
        found.run_task(caller, "nets.store", json.dumps({"file": str(keras_model())}).encode())
        caller.post(tree.path("nets.predict"), HOUSE.encode())
