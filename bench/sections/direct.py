"""A direct call of 13 floats, at 1, 16 and 64 connections."""

from __future__ import annotations

from bench import wrk
from bench.options import Bench
from bench.systems import BODY, DIRECT

CONNECTIONS = (1, 16, 64)


def run(bench: Bench) -> None:
    for _ in bench.each_round("direct"):
        for name, system in DIRECT.items():
            with system() as place:
                wrk.post(place.url, BODY, connections=4, seconds=1)  # warm, leaving no backlog
                for connections in CONNECTIONS:
                    bench.measure_load(f"direct.{name}", place, BODY, connections)
