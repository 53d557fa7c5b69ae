"""What a call costs where 1, 100 and 1,000 functions are registered and one is called."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import tree, wrk
from bench.calls import calling
from bench.options import Bench
from bench.processes import cpu_s, memory_mb
from bench.systems import BODY

COUNTS = (1, 100, 1000)
_PER_FILE = 20
_CALLED = "many0.total0"
_FUNCTION = """

@skipper.inference
def total{number}(x: list[float]) -> dict[str, float]:
    return {{"y": sum(x)}}
"""


def run(bench: Bench) -> None:
    for _ in bench.each_round("growth"):
        for count in COUNTS:
            began = time.monotonic()
            with tree.tree_of(list(_files(count))) as found:
                bench.figures.add(f"growth.{count}.ready_s", time.monotonic() - began)
                _measure(bench, f"growth.{count}", found)


def _measure(bench: Bench, name: str, found: tree.Tree) -> None:
    roles = {role: pid for role, pid in found.pids().items() if role in ("gateway", "cpu")}
    wrk.post(found.url(_CALLED), BODY, connections=16, seconds=1)  # warm
    before = {role: cpu_s(pid) for role, pid in roles.items()}
    load = wrk.post(found.url(_CALLED), BODY, connections=16, seconds=bench.seconds)
    used = {role: cpu_s(pid) - before[role] for role, pid in roles.items()}
    bench.figures.add(f"{name}.per_s", load.per_s)
    for role, seconds in used.items():
        bench.figures.add(f"{name}.{role}_us_per_call", seconds / load.requests * 1e6)
        bench.figures.add(f"{name}.{role}_mb", memory_mb(roles[role]))
    bench.figures.add(f"{name}.us_per_call", sum(used.values()) / load.requests * 1e6)
    with calling(found.port) as caller:
        running = {each["function"] for each in found.pool(caller)["instances"]}
    bench.figures.add(f"{name}.idle_processes", len(running - {_CALLED}))


def _files(count: int) -> Iterator[tuple[str, str]]:
    """Files that define so many functions between them."""
    for file in range(-(-count // _PER_FILE)):
        numbers = range(min(_PER_FILE, count - file * _PER_FILE))
        text = "import skipper\n" + "".join(_FUNCTION.format(number=n) for n in numbers)
        yield f"many{file}.py", text
