"""`python -m bench.beside CHECKOUT`: this checkout beside another one, in turn, in one run.

Each round starts a tree of each, one alone on the machine while it is measured, the other one first
in every second round; what is compared is the ratio within a round, since a machine's pace drifts
over minutes. Both checkouts need their own `.venv` (`make setup`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import peers, tree, wrk
from bench.calls import calling
from bench.processes import wait_for_answer
from bench.sections import tasks
from bench.systems import BODY, Place

HERE = Path(sys.executable)
Figures = dict[str, float]
"""Each by its name; of all, more is better."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    other: Path = arguments.checkout / ".venv" / "bin" / "python"
    if not other.exists():
        peers.say(f"{other} is not there: run `make setup` in {arguments.checkout}")
        return 2
    peers.need("wrk", "wrk")
    ratios: dict[str, list[float]] = {}
    for number in range(arguments.rounds):
        mine, theirs = _round(other, arguments.seconds, mine_first=number % 2 == 0)
        for name, value in mine.items():
            ratios.setdefault(name, []).append(value / theirs[name])
        peers.say(f"round {number + 1}: " + ", ".join(_shown(mine, theirs)))
    for name, found in ratios.items():
        low, high = min(found), max(found)
        print(f"{name:18} {statistics.median(found):.3f} ({low:.3f} to {high:.3f})")
    return 0


def _round(other: Path, seconds: float, *, mine_first: bool) -> tuple[Figures, Figures]:
    """What this checkout and the other one do, one after the other."""
    if mine_first:
        mine = dict(_measured(HERE, seconds))
        return mine, dict(_measured(other, seconds))
    theirs = dict(_measured(other, seconds))
    return dict(_measured(HERE, seconds)), theirs


def _measured(python: Path, seconds: float) -> Iterator[tuple[str, float]]:
    """Starts per second; calls per second at 16 connections and at one; tasks per second."""
    with tree.planted(["plain.py"]) as folder:
        began = time.monotonic()
        with tree.up(folder, ready=False, python=python) as found:
            direct = Place(found.port, tree.path("plain.total"))
            wait_for_answer(found.server, found.port, direct.path, BODY.encode())
            yield "starts/s", 1 / (time.monotonic() - began)
            found.wait_ready()
            wrk.post(direct.url, BODY, connections=4, seconds=1)  # warm
            for connections in (16, 1):
                load = wrk.post(direct.url, BODY, connections=connections, seconds=seconds)
                yield f"calls/s at {connections}", load.per_s
            with calling(found.port) as caller:
                queue = tasks.of_tree(found, caller)
                yield "tasks/s", tasks.many(queue, seconds)["ended_per_s"]
                yield "one task/s", 1 / tasks.one(queue, seconds)


def _shown(mine: Figures, theirs: Figures) -> Iterator[str]:
    for name, value in mine.items():
        yield f"{name} {value:.1f} / {theirs[name]:.1f} = {value / theirs[name]:.3f}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("checkout", type=Path, help="the other one, such as a git worktree")
    parser.add_argument("--rounds", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
