"""Runs one round from a fresh project to its verdict."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skipper.failpoints import FailpointError
from tests.chaos.checker import check
from tests.chaos.driver import Driver
from tests.chaos.evidence import Evidence, Violation
from tests.chaos.history import Effects, History
from tests.chaos.look import Look, delivered, drained, look, paused, states
from tests.chaos.machine import END_LIMIT_S, TERMINATED, until
from tests.chaos.memory import Sample, slopes
from tests.chaos.nemesis import Nemesis
from tests.chaos.origins import TICKING, WATCHED
from tests.chaos.plan import Order, Round, extra, faults, hits, orders
from tests.chaos.receiver import Receiver
from tests.chaos.report import Outcome, figures
from tests.chaos.storage import left_over, on_the_way
from tests.chaos.traps import Traps
from tests.chaos.tree import Tree, planted

DRAIN_LIMIT_S = 120.0
"""From the last fault until every task has ended; the longest pause between attempts is in it."""
SETTLE_S = 5.0
TAPER_S = 30.0
"""While there are blows the load never goes faster than if it had to last this much longer."""
HIT_EVERY_S = 1.0
"""About what a failpoint takes to be hit."""
MEMORY = "memory.jsonl"
_SLICE_S = 0.1
_TRACEBACK = "Traceback (most recent call last)"


class GaveUpError(RuntimeError):
    """The launcher ended by itself."""


def run(
    round_: Round, folder: Path, *, restart: bool = True, settle_s: float = SETTLE_S
) -> Outcome:
    """Run ``round_`` in the folder ``folder``; with ``restart`` a second tree is asked once more.

    For ``settle_s`` after the last task has ended nothing may change.
    """
    begun = time.monotonic()
    with (
        History(folder / "history.jsonl") as history,
        Receiver(history) as receiver,
        planted(folder, receiver, round_.backend, round_.machines) as tree,
    ):
        tree.start()
        plan, seen = asyncio.run(_strike(round_, tree, history, receiver))
        time.sleep(settle_s)
        later = [asyncio.run(states(tree.url))]
        violations = list(_stopped(tree))
        if restart:
            tree.start()
            later.append(asyncio.run(states(tree.url)))
            violations += _stopped(tree)
        evidence = Evidence(
            orders=plan,
            entries=history.entries(),
            effects=Effects.read(tree.effects),
            look=seen,
            later=later,
        )
        violations += [*check(evidence), *_traces(tree)]
        first = tree.machines[0].settings
        violations += asyncio.run(left_over(first, folder / "nothing"))
        _keep(folder, violations)
        shown = figures(
            evidence,
            violations,
            growth=slopes(_samples(tree)) if round_.calm_s else {},
            seconds=time.monotonic() - begun,
        )
        return Outcome(round=round_, violations=tuple(violations), figures=shown)


async def _strike(
    round_: Round, tree: Tree, history: History, receiver: Receiver
) -> tuple[list[Order], Look]:
    """Load and blows, until all is quiet; then what was submitted, and what the tree says."""
    driver = Driver(tree.url, orders(round_), history, round_.seed)
    nemesis = Nemesis(tree, driver, history)
    numbers = itertools.count()
    traps = Traps(
        tree,
        nemesis,
        history,
        submit=lambda kind: driver.add(extra(round_, next(numbers), kind)),
    )
    blows, points = faults(round_), hits(round_)
    blows_s = max(sum(fault.pause_s for fault in blows), HIT_EVERY_S * len(points))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(tree, nemesis))
        weighing = group.create_task(_weigh(tree, driver))
        driving = group.create_task(driver.run())
        taper_s = TAPER_S if blows_s else _SLICE_S
        loading = group.create_task(_load(driver, round_.calm_s or blows_s, taper_s))
        await asyncio.gather(nemesis.run(blows), traps.run(points), asyncio.sleep(round_.calm_s))
        await nemesis.recovered()
        loading.cancel()
        driver.release_all()
        await drained(tree.url, DRAIN_LIMIT_S)
        driver.end()
        await driving
        await paused(tree.url, TICKING, DRAIN_LIMIT_S)
        await drained(tree.url, DRAIN_LIMIT_S)
        await delivered(tree.url, WATCHED, receiver.ended, DRAIN_LIMIT_S)
        await drained(tree.url, DRAIN_LIMIT_S)
        watching.cancel()
        weighing.cancel()
    return driver.orders, await look(tree.url)


async def _load(driver: Driver, seconds: float, taper_s: float) -> None:
    """Release the orders evenly over ``seconds``, but never faster than over ``taper_s``.

    So there is load for as long as the blows take, which only they know.
    """
    ends, due = time.monotonic() + seconds, 0.0
    while True:
        await asyncio.sleep(_SLICE_S)
        due += driver.left * _SLICE_S / max(ends - time.monotonic(), taper_s)
        driver.release(int(due))
        due -= int(due)


async def _weigh(tree: Tree, driver: Driver) -> None:
    """Write down once a second what the long-lived processes hold."""
    with (tree.folder / MEMORY).open("a") as file:
        while True:
            await asyncio.sleep(1.0)
            for name, pid, mb in await asyncio.to_thread(tree.memory):
                sample = Sample(name=name, pid=pid, tasks=driver.accepted, mb=mb)
                file.write(json.dumps(sample) + "\n")


def _samples(tree: Tree) -> list[Sample]:
    lines = (tree.folder / MEMORY).read_text().splitlines()
    return [Sample(*json.loads(line)) for line in lines]


async def _watch(tree: Tree, nemesis: Nemesis) -> None:
    while True:
        await asyncio.sleep(0.5)
        if tree.has_ended and not nemesis.is_restarting:
            raise GaveUpError(f"the launcher ended by itself; see {tree.folder}")


def _stopped(tree: Tree) -> Iterator[Violation]:
    """Stop the tree; what is wrong with its end."""
    codes = tree.stop()
    if set(codes) != {TERMINATED}:
        yield Violation("orphans", f"SIGTERM ended the launchers with {codes}")
    if not until(lambda: not tree.leftovers(), END_LIMIT_S):
        yield Violation("orphans", f"left behind: {tree.leftovers()}")
    for machine in tree.machines:
        if sockets := sorted(path.name for path in machine.settings.run_dir.glob("*.sock")):
            yield Violation("orphans", f"left in the run folder: {sockets}")
        yield from on_the_way(machine.settings)


def _traces(tree: Tree) -> Iterator[Violation]:
    """Errors that the runtime itself logged with a traceback: nobody's promise, everybody's bug.

    Those that a failpoint raised are the campaign's own.
    """
    found: Counter[str] = Counter()
    for machine in tree.machines:
        entries = [json.loads(line) for line in machine.log.read_text().splitlines()]
        found.update(tracebacks(entries))
    for text, number in found.items():
        yield Violation("traces", f"{number} x {text}")


def tracebacks(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Process and last line of each traceback in a log that no failpoint raised."""
    for place, entry in enumerate(entries):
        text = str(entry.get("traceback") or entry.get("message")).strip()
        if _TRACEBACK not in text:
            continue
        if text == f"{_TRACEBACK}:":  # printed, not logged: each line is an entry of its own
            text = _printed(entry.get("name"), entries[place + 1 :])
        if text and FailpointError.__name__ not in text:
            yield f"{entry.get('name')}: {text.rpartition(chr(10))[2]}"


def _printed(name: object, following: Iterable[Mapping[str, Any]]) -> str:
    """The line that ends a traceback which the process ``name`` has begun to print.

    Empty where it was killed before that.
    """
    for entry in following:
        line = str(entry.get("message"))
        if entry.get("name") == name and "logger" not in entry and not line.startswith(" "):
            return "" if line.startswith(_TRACEBACK) else line
    return ""


def _keep(folder: Path, violations: list[Violation]) -> None:
    lines = [f"{violation.kind}: {violation.text}\n" for violation in violations]
    (folder / "violations.txt").write_text("".join(lines))
