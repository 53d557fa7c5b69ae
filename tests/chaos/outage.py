"""A broker that is away for a while, and what callers, running tasks and new tasks notice of it.

``python -m tests.chaos.outage --seconds 60 --backend rabbit`` kills a RabbitMQ of its own and then
starts it again; with ``--backend valkey`` the embedded broker hangs (SIGSTOP): one that is killed
is back in 0.2 s. Prints what was counted; 1 where something failed that should not have.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.acceptance.load import Busy, calls
from tests.acceptance.tree import Gate, Tree, lent, project
from tests.integration.services import private_postgres, private_rabbitmq, project_name

_PLAIN = Path(__file__).parents[1] / "acceptance" / "plain" / "functions"
_FUNCTIONS = ("bad", "bodies", "hold")
_EVERY_S = 0.25
"""Between two submissions."""
_DIRECT = 4
"""Callers at a time."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A tree, and how its broker goes and comes back."""

    tree: Tree
    broker: str
    take_away: Callable[[], None]
    bring_back: Callable[[], None]


@dataclass(kw_only=True)
class Seen:
    """What was noticed of one outage."""

    lasted_s: float = 0.0
    callers: list[Busy] = field(default_factory=list)
    running: list[Any] = field(default_factory=list)
    """Tasks that ran as it began, as they ended."""
    hung: list[Any] = field(default_factory=list)
    """Tasks with a deadline that ran into it meanwhile."""
    accepted: list[Any] = field(default_factory=list)
    """Tasks that were accepted meanwhile, as they ended."""
    accepting_s: list[float] = field(default_factory=list)
    """How long each of those took to be accepted."""
    after_s: float = 0.0
    """From the broker's return until a new task had run."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--backend", choices=("valkey", "rabbit"), default="rabbit")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="outage-"))
    with _site(folder, arguments.backend) as site:
        seen = _outage(site, folder, arguments.seconds)
        print("\n".join(_lines(site, seen)))
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if _is_good(seen) else 1


@contextlib.contextmanager
def _site(folder: Path, backend: str) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        lines = ["[pools.cpu]\ntask_slots = 4", f'[project]\nname = "{project_name()}"']
        server = None
        if backend == "rabbit":
            server = stack.enter_context(private_rabbitmq())
            database = stack.enter_context(private_postgres())
            lines += [f'[broker]\nurl = "{server.url}"', f'[database]\nurl = "{database.url}"']
        texts = {stem: (_PLAIN / f"{stem}.py").read_text() for stem in _FUNCTIONS}
        tree = Tree(project(folder / "project", "\n".join(lines), **texts))
        stack.enter_context(lent(tree))
        tree.ready()
        if server is not None:
            yield Site(
                tree=tree,
                broker="RabbitMQ was killed",
                take_away=server.kill,
                bring_back=server.start,
            )
        else:
            pid = tree.pids()["broker"]
            yield Site(
                tree=tree,
                broker="Valkey hung",
                take_away=lambda: os.kill(pid, signal.SIGSTOP),
                bring_back=lambda: os.kill(pid, signal.SIGCONT),
            )
        tree.end()


def _outage(site: Site, folder: Path, seconds: float) -> Seen:
    tree, seen, gate = site.tree, Seen(), Gate(folder)
    running = [tree.submit("hold.task", gate.body) for _ in range(2)]
    gate.wait_for(2)
    with contextlib.ExitStack() as stack:
        site.take_away()
        begun = time.monotonic()
        body = {"x": 1}
        seen.callers = [
            stack.enter_context(calls(tree, "bodies.add", body)) for _ in range(_DIRECT)
        ]
        hung = [tree.submit("bad.holds_the_lock")]
        accepted = _submit_for(tree, seconds / 2, seen)
        gate.open()
        seen.running = [tree.ended(id_) for id_ in running]
        hung.append(tree.submit("bad.holds_the_lock"))
        accepted += _submit_for(tree, begun + seconds - time.monotonic(), seen)
        seen.lasted_s = time.monotonic() - begun
    site.bring_back()
    back = time.monotonic()
    tree.result(tree.submit("bodies.add", {"x": 1}))
    seen.after_s = time.monotonic() - back
    seen.hung = [tree.ended(id_) for id_ in hung]
    seen.accepted = [tree.ended(id_) for id_ in accepted]
    return seen


def _submit_for(tree: Tree, seconds: float, seen: Seen) -> list[str]:
    """Submit a task now and then for so long; their ids."""
    accepted, ends = [], time.monotonic() + seconds
    while time.monotonic() < ends:
        begun = time.monotonic()
        accepted.append(tree.submit("bodies.add", {"x": 1}))
        seen.accepting_s.append(time.monotonic() - begun)
        time.sleep(_EVERY_S)
    return accepted


# --- what is told --------------------------------------------------------------------------------


def _is_good(seen: Seen) -> bool:
    return (
        not any(caller.troubles for caller in seen.callers)
        and {task["state"] for task in seen.running + seen.accepted} == {"succeeded"}
        and {task["attempt"] for task in seen.running + seen.accepted} == {1}
        and {task["state"] for task in seen.hung} == {"timed_out"}
    )


def _lines(site: Site, seen: Seen) -> Iterator[str]:
    made = sum(caller.done for caller in seen.callers)
    failed = sum(len(caller.troubles) for caller in seen.callers)
    slowest = max(caller.slowest_s for caller in seen.callers)
    waits = [_seconds(task, "created_at", "started_at") for task in seen.accepted]
    yield f"{site.broker}, for {seen.lasted_s:.1f} s"
    yield f"  direct calls meanwhile: {made}, failed: {failed}, slowest: {slowest:.2f} s"
    yield f"  tasks that ran as it began: {_ends(seen.running)}"
    yield (
        f"  tasks that hung, deadline 3 s: {_ends(seen.hung)}, after "
        + ", ".join(f"{_seconds(task, 'started_at', 'finished_at'):.1f} s" for task in seen.hung)
    )
    yield (
        f"  tasks accepted meanwhile: {_ends(seen.accepted)}; accepted within "
        f"{max(seen.accepting_s):.2f} s; waited for their start {statistics.median(waits):.2f} s "
        f"in the median, {max(waits):.2f} s at most"
    )
    yield f"  a task that was submitted at its return had run after {seen.after_s:.2f} s"


def _ends(tasks: list[Any]) -> str:
    states = [task["state"] for task in tasks]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def _seconds(task: Any, since: str, until: str) -> float:
    first, last = (_time(task[name]) for name in (since, until))
    return last - first


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    sys.exit(main())
