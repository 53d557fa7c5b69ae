"""Runs one round from a fresh project to its verdict."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.checker import Evidence, Violation, check
from tests.chaos.driver import Driver
from tests.chaos.history import Effects, History
from tests.chaos.look import Look, drained, look, states
from tests.chaos.machine import END_LIMIT_S, TERMINATED, until
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import Round, faults, orders
from tests.chaos.report import Outcome, outcome
from tests.chaos.tree import Tree, planted

DRAIN_LIMIT_S = 120.0
"""From the last fault until every task has ended; the longest pause between attempts is in it."""
SETTLE_S = 5.0


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
        planted(folder, round_.backend, round_.machines) as tree,
        History(folder / "history.jsonl") as history,
    ):
        tree.start()
        plan = orders(round_)
        seen = asyncio.run(_strike(round_, tree, history))
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
        _keep(folder, violations)
        return outcome(round_, evidence, violations, time.monotonic() - begun)


async def _strike(round_: Round, tree: Tree, history: History) -> Look:
    """Load and blows, until all is quiet; then what the tree says."""
    plan = orders(round_)
    driver = Driver(tree.url, plan, history, round_.seed)
    nemesis = Nemesis(tree, driver, history, plan)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(tree, nemesis))
        driving = group.create_task(driver.run())
        await nemesis.run(faults(round_))
        await drained(tree.url, DRAIN_LIMIT_S)
        driver.end()
        await driving
        await drained(tree.url, DRAIN_LIMIT_S)
        watching.cancel()
    return await look(tree.url)


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


def _traces(tree: Tree) -> Iterator[Violation]:
    """Errors that the runtime itself logged with a traceback: nobody's promise, everybody's bug."""
    found: Counter[str] = Counter()
    logs = "\n".join(machine.log.read_text() for machine in tree.machines)
    for line in logs.splitlines():
        if "Traceback (most recent call last)" in line:
            entry = json.loads(line)
            text = str(entry.get("traceback") or entry.get("message"))
            found[f"{entry.get('name')}: {text.strip().rpartition(chr(10))[2]}"] += 1
    for text, number in found.items():
        yield Violation("traces", f"{number} x {text}")


def _keep(folder: Path, violations: list[Violation]) -> None:
    lines = [f"{violation.kind}: {violation.text}\n" for violation in violations]
    (folder / "violations.txt").write_text("".join(lines))
