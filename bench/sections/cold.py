"""The first answer of a new TensorFlow instance, its template warm, against the import itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

from bench import peers, tree
from bench.calls import Caller, calling, until
from bench.options import Bench
from bench.sections.keras import store_model
from bench.systems import HOUSE

_IMPORT = "import keras, tensorflow"
_STARTS = 5
"""New instances of each kind in a round; their middle is the round's figure."""
_GONE_S = 10.0


def run(bench: Bench) -> None:
    with tree.tree_of(["nets.py"]) as found, calling(found.port) as caller:
        store_model(found)
        for _ in bench.each_round("cold"):
            bench.figures.add("cold.import.s", import_s())
            for name, function in (("without_model", "bare"), ("with_model", "predict")):
                times = sorted(first_s(found, caller, f"nets.{function}") for _ in range(_STARTS))
                bench.figures.add(f"cold.{name}.s", times[len(times) // 2])


def import_s() -> float:
    """How long a process of its own takes to import TensorFlow, with its files in memory."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _IMPORT], check=True, env=peers.environment())
    return time.monotonic() - began


def first_s(found: tree.Tree, caller: Caller, function: str) -> float:
    """End the instances of a function, then time the answer of the next one."""
    for pid in found.instances(caller, function):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not found.instances(caller, function), _GONE_S, "its instances are gone")
    began = time.monotonic()
    caller.post(tree.path(function), HOUSE.encode())
    return time.monotonic() - began
