"""Strikes the tree as planned, and watches how each place recovers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

from tests.chaos.driver import Driver
from tests.chaos.history import History
from tests.chaos.machine import END_LIMIT_S, TERMINATED, parent_of
from tests.chaos.plan import STOP_S, Fault, How
from tests.chaos.tree import Tree
from tests.integration.services import Server

RECOVERY_LIMIT_S = 60.0
REST_S = 3.0
"""A RabbitMQ or a whole tree takes long to start; this long it may then serve."""
_FIND_S, _TEMPLATE_S = 30.0, 2.0
"""How long a fault waits for somebody of its role. A template is started when an instance is: after
the second time an instance is killed for it."""
_STEP_S = 0.05
_MOMENT_S, _LONG_MOMENT_S = 2.0, 10.0
_LONG_MS = 500
_LOOK_S = 0.001


class Nemesis:
    """One round's blows. Blows to one role come one after another, those to others meanwhile."""

    def __init__(self, tree: Tree, driver: Driver, history: History) -> None:
        self._tree, self._driver, self._history = tree, driver, history
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._broker_is_back = asyncio.Event()
        self._broker_is_back.set()
        self._broker_turn = asyncio.Lock()
        """Held while the broker is away, or must not go: no tree starts without one."""
        self._latest: dict[str, int] = {}
        self._watchers: defaultdict[str, set[asyncio.Task[None]]] = defaultdict(set)
        self.to_come: Counter[str] = Counter()
        """Blows that are planned and not yet struck, by role."""
        self.is_restarting = False
        """Whether the launcher is gone because it was killed here."""

    async def run(self, faults: Sequence[Fault]) -> None:
        """Strike every fault at its time; done when the last has been struck."""
        self.to_come.update(fault.role for fault in faults)
        async with asyncio.TaskGroup() as blows:
            for fault in faults:
                await asyncio.sleep(fault.pause_s)
                blows.create_task(self._strike_planned(fault))

    async def recovered(self) -> None:
        """Wait until every place that was struck has come back, or has run out of time."""
        for role in list(self._watchers):
            await self._recovered(role)

    async def _recovered(self, role: str) -> None:
        while watchers := self._watchers[role]:
            await asyncio.gather(*watchers)

    async def _strike_planned(self, fault: Fault) -> None:
        await self.strike(fault)
        self.to_come[fault.role] -= 1

    async def strike(self, fault: Fault) -> None:
        """Strike once: in its turn, after the recovery unless it is hasty, at its moment."""
        async with self._turns[fault.role]:
            if not fault.is_hasty:
                await self._recovered(fault.role)
            if fault.role == "launcher":
                await self._strike_tree(fault)
            elif fault.role == "broker" and self._tree.broker is not None:
                await self._strike_server(self._tree.broker, fault.how)
            elif (target := await self._find(fault)) is None:
                self._history.add("missed", role=fault.role)
            else:
                self._hit(fault, *(await self._at_moment(fault) or target))

    def watch(self, role: str, name: str, pid: int) -> None:
        """Watch the place ``name`` recover from the death of ``pid``."""
        if role not in ("instance", "template", "launcher"):  # nobody waits for one's successor
            self._latest[name] = pid
            self._spawn(role, self._see_back(role, name, pid))

    # --- whom, and when ---

    async def _find(self, fault: Fault) -> tuple[str, int] | None:
        """A process of the role. Waits a while where there is none at this moment."""
        begun, is_lured = time.monotonic(), False
        while not (targets := await asyncio.to_thread(self._tree.targets, fault.role)):
            waited_s = time.monotonic() - begun
            if waited_s > _FIND_S:
                return None
            if fault.role == "template" and waited_s > _TEMPLATE_S and not is_lured:
                is_lured = True
                await self.strike(replace(fault, role="instance", moment="start"))
            await asyncio.sleep(_STEP_S)
        return sorted(targets)[int(fault.draw * len(targets))]

    async def _at_moment(self, fault: Fault) -> tuple[str, int] | None:
        """Wait for the fault's moment, a while at most; the process that it is about, if any."""
        if fault.moment == "submit":
            self._driver.submitting.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._driver.submitting.wait(), _MOMENT_S)
        elif fault.moment in ("start", "end"):
            hosts = await asyncio.to_thread(self._tree.hosts)
            # Who falls asleep must do so over a task, not just after it.
            least_ms, limit_s = (
                (_LONG_MS, _LONG_MOMENT_S) if fault.how == "stop" else (0, _MOMENT_S)
            )
            wanted = {
                each.nonce for each in self._driver.orders if each.body.get("ms", -1) >= least_ms
            }
            pid = await self._next_effect(fault.moment, wanted, limit_s)
            if fault.role in ("host", "instance") and (host := parent_of(pid)) in hosts:
                return hosts[host], host if fault.role == "host" else pid
        return None

    async def _next_effect(self, what: str, wanted: set[str], limit_s: float) -> int:
        """The pid of the next of the ``wanted`` functions to write ``what``; 0 where none does."""
        end = time.monotonic() + limit_s
        with self._tree.effects.open() as log:
            log.seek(0, os.SEEK_END)
            while time.monotonic() < end:
                for line in log:
                    _, _, pid, nonce, said = line.split()
                    if said == what and nonce in wanted:
                        return int(pid)
                await asyncio.sleep(_LOOK_S)
        return 0

    # --- the blow, and the recovery ---

    def _hit(self, fault: Fault, name: str, pid: int) -> None:
        number = signal.SIGKILL if fault.how == "kill" else signal.SIGSTOP
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        self._history.add("fault", role=fault.role, how=fault.how, name=name, pid=pid)
        if fault.how == "stop":
            self._spawn(fault.role, self._wake(name, pid))
        else:
            self.watch(fault.role, name, pid)

    def _spawn(self, role: str, watching: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(watching)
        self._watchers[role].add(task)
        task.add_done_callback(self._watchers[role].discard)

    async def _see_back(self, role: str, name: str, pid: int) -> None:
        """Time the recovery, unless the place is struck again before."""
        begun = time.monotonic()
        while not await asyncio.to_thread(self._tree.is_back, name, pid):
            if self._latest.get(name) != pid:
                return
            if self._must_wait(role):
                begun = time.monotonic()
            if time.monotonic() - begun > RECOVERY_LIMIT_S:
                self._history.add("recovery", role=role, name=name, seconds=None)
                return
            await asyncio.sleep(_STEP_S)
        self._history.add("recovery", role=role, name=name, seconds=time.monotonic() - begun)

    def _must_wait(self, role: str) -> bool:
        """Whether nobody of the role can come back now, for want of a tree, or of a broker."""
        return self.is_restarting or (role == "consumer" and not self._broker_is_back.is_set())

    async def _wake(self, name: str, pid: int) -> None:
        await asyncio.sleep(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self._history.add("woken", name=name, pid=pid)

    async def _strike_server(self, server: Server, how: How) -> None:
        """Kill or pause a broker that is a server of its own, and have it back."""
        async with self._broker_turn:
            self._broker_is_back.clear()
            begun = time.monotonic()
            self._history.add("fault", role="broker", how=how, name="broker", pid=server.pid)
            if how == "kill":
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                seconds = time.monotonic() - begun
                self._history.add("recovery", role="broker", name="broker", seconds=seconds)
            else:
                server.pause()
                await asyncio.sleep(STOP_S)
                server.resume()
            self._broker_is_back.set()
        await asyncio.sleep(REST_S)

    async def _strike_tree(self, fault: Fault) -> None:
        """Kill, cut off or end the launcher, see the whole tree go, start another.

        It then lives at least as long as that took, so that there is a tree half of the time.
        """
        if not fault.is_hasty:  # else it starts again when the broker is back
            async with self._broker_turn:
                pass
        self._history.add("fault", role="launcher", how=fault.how, name="launcher", pid=0)
        begun, self.is_restarting = time.monotonic(), True
        await self._end_tree(fault.how)
        waited = time.monotonic()
        async with self._broker_turn:
            begun += time.monotonic() - waited
            await asyncio.to_thread(self._tree.start)
        self.is_restarting = False
        seconds = time.monotonic() - begun
        self._history.add("recovery", role="launcher", name="launcher", seconds=seconds)
        await asyncio.sleep(max(REST_S, seconds))

    async def _end_tree(self, how: How) -> None:
        self._latest.clear()  # what was about to recover is not there any more
        code = await asyncio.to_thread(self._tree.end_launcher, how)
        ended = time.monotonic()
        if code not in (TERMINATED, -signal.SIGKILL):  # itself killed at a failpoint of its own
            self._history.add("left", processes=[f"the launcher ended with {code}"])
        while left := await asyncio.to_thread(self._tree.leftovers):
            if time.monotonic() - ended > END_LIMIT_S:
                told = [f"{process.pid} {process.name()}" for process in left]
                self._history.add("left", processes=told)
                break
            await asyncio.sleep(_STEP_S)
        self._history.add("gone", seconds=time.monotonic() - ended)
