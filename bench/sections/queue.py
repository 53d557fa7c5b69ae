"""A queue of 100,000 waiting tasks: what it takes of memory, and how fast it drains."""

from __future__ import annotations

import json
import time
from pathlib import Path

from bench import peers, tree, wrk
from bench.calls import Caller, calling, until
from bench.options import Bench
from bench.processes import memory_mb
from bench.sections.tasks import BODY, CONNECTIONS

WAITING = 100_000
_FUNCTION = "plain.nothing"
_LIMIT_S = 1800.0
_TENTHS = 10


def run(bench: Bench) -> None:
    """One round, whatever is asked for: a hundred thousand tasks take minutes to end."""
    with tree.tree_of(["plain.py"]) as found, calling(found.port) as caller:
        count = bench.scaled(WAITING, 100)
        gate = found.settings.project_dir / "go"
        _hold_all_slots(found, caller, gate)
        _note_memory(bench, "before", found)
        bench.figures.add("queue.submitted.per_s", _submit(found, count, bench.seconds))
        _note_memory(bench, "waiting", found)
        gate.touch()
        _drain(bench, found, caller, count)
        _note_memory(bench, "after", found)


def _hold_all_slots(found: tree.Tree, caller: Caller, gate: Path) -> None:
    """Have every slot for tasks run one that waits for ``gate``."""
    slots = found.pool(caller)["task_slots"]
    body = json.dumps({"until": str(gate)}).encode()
    for _ in range(slots):
        caller.post(tree.path("plain.hold"), body)
    until(lambda: found.pool(caller)["tasks_running"] == slots, 60.0, "every slot is held")


def _submit(found: tree.Tree, count: int, seconds: float) -> float:
    """Submit until as many tasks wait; how many a second were accepted."""
    accepted, began = 0, time.monotonic()
    while accepted < count:
        load = wrk.post(
            found.url(_FUNCTION),
            BODY,
            connections=CONNECTIONS,
            seconds=min(seconds, 5.0),
            headers={"Prefer": "respond-async"},
        )
        accepted += load.requests
    return accepted / (time.monotonic() - began)


def _drain(bench: Bench, found: tree.Tree, caller: Caller, count: int) -> None:
    """Time each tenth of the tasks: the last ones should not end slower than the first."""
    began = last = time.monotonic()
    for tenth in range(1, _TENTHS + 1):
        wanted = count * tenth // _TENTHS
        until(
            lambda wanted=wanted: found.succeeded(caller, _FUNCTION) >= wanted,  # type: ignore[misc] # binds the loop's value
            _LIMIT_S,
            f"{wanted} tasks have ended",
            0.1,
        )
        now = time.monotonic()
        bench.figures.add(f"queue.tenth_{tenth}.per_s", count / _TENTHS / (now - last))
        last = now
    bench.figures.add("queue.drained.per_s", count / (last - began))
    peers.say(f"queue: {count} tasks ended within {last - began:.0f} s")


def _note_memory(bench: Bench, when: str, found: tree.Tree) -> None:
    for role, pid in found.pids().items():
        if role in ("gateway", "scheduler", "cpu", "cpu-consumer", "broker"):
            bench.figures.add(f"queue.{when}.{role}_mb", memory_mb(pid))
