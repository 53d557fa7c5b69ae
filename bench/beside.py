"""`python -m bench.beside CHECKOUT`: this checkout beside another one, in turn, in one run.

Both trees are up all the while, and bursts of load go to one and the other in turn; what counts is
the ratio of two bursts that follow each other, since the pace of a machine drifts within seconds.
So with starts. Both checkouts need their own `.venv` (`make setup`).
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench import peers, tree, wrk
from bench.calls import calling
from bench.processes import wait_for_answer
from bench.sections import tasks
from bench.systems import BODY

HERE = Path(sys.executable)
Rate = Callable[[], float]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    other: Path = arguments.checkout / ".venv" / "bin" / "python"
    if not other.exists():
        peers.say(f"{other} is not there: run `make setup` in {arguments.checkout}")
        return 2
    peers.need("wrk", "wrk")
    for name, ratios in _measured(other, arguments.pairs, arguments.only):
        low, high = statistics.quantiles(ratios, n=4)[::2]
        print(
            f"{name:16} {statistics.median(ratios):.3f} (quartiles {low:.3f} to {high:.3f})",
            flush=True,
        )
    return 0


def _measured(other: Path, pairs: int, only: str | None) -> Iterator[tuple[str, list[float]]]:
    """By name: this checkout's figures over the other one's, of each pair. More is better."""
    if only in (None, "starts"):
        yield "starts", _ratios(lambda: _start_rate(HERE), lambda: _start_rate(other), pairs // 2)
    if only == "starts":
        return
    with _tree(HERE) as mine, _tree(other) as theirs:
        if only in (None, "calls"):
            yield from _calls(mine, theirs, pairs)
        if only in (None, "tasks"):
            yield from _tasks(mine, theirs, pairs)


def _calls(mine: tree.Tree, theirs: tree.Tree, pairs: int) -> Iterator[tuple[str, list[float]]]:
    for connections in (16, 1):
        rates = [partial(_call_rate, found, connections) for found in (mine, theirs)]
        yield f"calls, {connections} at once", _ratios(rates[0], rates[1], pairs)


def _tasks(mine: tree.Tree, theirs: tree.Tree, pairs: int) -> Iterator[tuple[str, list[float]]]:
    with calling(mine.port) as one, calling(theirs.port) as two:
        queues = [tasks.of_tree(mine, one), tasks.of_tree(theirs, two)]
        many = [partial(_task_rate, queue) for queue in queues]
        yield "tasks", _ratios(many[0], many[1], pairs // 2)
        single = [partial(_single_rate, queue) for queue in queues]
        yield "one task", _ratios(single[0], single[1], pairs)


def _ratios(mine: Rate, theirs: Rate, pairs: int) -> list[float]:
    """The ratio of each pair; who comes first takes turns."""
    found = []
    for number in range(pairs):
        if number % 2:
            base = theirs()
            found.append(mine() / base)
        else:
            own = mine()
            found.append(own / theirs())
    return found


@contextlib.contextmanager
def _tree(python: Path) -> Iterator[tree.Tree]:
    """A ready, warm tree of a checkout."""
    with tree.planted(["plain.py"]) as folder, tree.up(folder, ready=False, python=python) as found:
        found.wait_ready()
        wrk.post(found.url("plain.total"), BODY, connections=4, seconds=1)
        yield found


def _start_rate(python: Path) -> float:
    """One over the seconds from a start to the first answer."""
    with tree.planted(["plain.py"]) as folder:
        began = time.monotonic()
        with tree.up(folder, ready=False, python=python) as found:
            path = tree.path("plain.total")
            wait_for_answer(found.server, found.port, path, BODY.encode())
            return 1 / (time.monotonic() - began)


def _call_rate(found: tree.Tree, connections: int) -> float:
    return wrk.post(found.url("plain.total"), BODY, connections=connections, seconds=1).per_s


def _task_rate(queue: tasks.Tasks) -> float:
    return tasks.many(queue, 1.0)["ended_per_s"]


def _single_rate(queue: tasks.Tasks) -> float:
    """One over the middle of the times of single tasks."""
    return 1 / tasks.one(queue, 1.0)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("checkout", type=Path, help="the other one, such as a git worktree")
    parser.add_argument("--pairs", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--only", choices=("starts", "calls", "tasks"), help="default: all of them")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
