"""What each further TensorFlow instance takes of the machine's memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench import tree
from bench.calls import Caller, calling
from bench.options import Bench
from bench.processes import memory_mb, own_memory_mb
from bench.sections.keras import store_model
from bench.systems import HOUSE

_INSTANCES = 4
_HOLD_S = 3.0


def run(bench: Bench) -> None:
    for _ in bench.each_round("memory"):
        with tree.tree_of(["nets.py"]) as found, calling(found.port) as caller:
            store_model(found)
            for name, function in (("with_model", "held"), ("without_model", "held_bare")):
                _measure(bench, name, _many(found, caller, f"nets.{function}"))


def _measure(bench: Bench, name: str, pids: list[int]) -> None:
    own = [own_memory_mb(pid) for pid in pids]
    bench.figures.add(f"memory.{name}.private_mb", sum(o for o, _ in own) / len(own))
    bench.figures.add(f"memory.{name}.pss_mb", sum(p for _, p in own) / len(own))
    bench.figures.add(f"memory.{name}.resident_mb", sum(map(memory_mb, pids)) / len(pids))


def _many(found: tree.Tree, caller: Caller, function: str) -> list[int]:
    """Several instances of a function, each of which has answered."""
    _call_at_once(found, function)  # brings them up, one after the other
    _call_at_once(found, function)
    pids = found.instances(caller, function)
    if len(pids) < _INSTANCES:
        raise RuntimeError(f"{len(pids)} instances serve {function}, not {_INSTANCES}")
    return pids


def _call_at_once(found: tree.Tree, function: str) -> None:
    body = f'{HOUSE[:-1]},"seconds":{_HOLD_S}}}'.encode()

    def call(_: int) -> None:
        with calling(found.port) as own:
            own.post(tree.path(function), body)

    with ThreadPoolExecutor(_INSTANCES) as callers:
        list(callers.map(call, range(_INSTANCES)))
