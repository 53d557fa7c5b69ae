"""Strikes the tree as planned, and watches how each place recovers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from tests.chaos.driver import Driver
from tests.chaos.history import History
from tests.chaos.machine import END_LIMIT_S, TERMINATED, parent_of
from tests.chaos.plan import STOP_S, Fault, How, Order
from tests.chaos.tree import Tree
from tests.integration.services import Server

RECOVERY_LIMIT_S = 60.0
BROKER_REST_S = 5.0
"""A RabbitMQ takes long to start; this long it may then serve."""
_FIND_S = 1.0
_STEP_S = 0.05
_SLICE_S = 0.1
_LATER, _POSTPONED = 3, 30
"""A fault that finds nobody comes after the next three; so often in a round."""
_MOMENT_S, _LONG_MOMENT_S = 2.0, 10.0
_LONG_MS = 500
_LOOK_S = 0.001


class Nemesis:
    """One round's blows. ``driver`` is let go a little further before each of them."""

    def __init__(
        self, tree: Tree, driver: Driver, history: History, orders: Sequence[Order]
    ) -> None:
        self._tree, self._driver, self._history = tree, driver, history
        self._tasks = len(orders)
        self._all = {order.nonce for order in orders}
        self._long = {order.nonce for order in orders if order.body["ms"] >= _LONG_MS}
        self._broker_is_back = asyncio.Event()
        self._broker_is_back.set()
        self._latest: dict[str, int] = {}
        self.is_restarting = False
        """Whether the launcher is gone because it was killed here."""

    async def run(self, faults: list[Fault]) -> None:
        """Strike every fault; done when the last place has recovered, or ran out of time."""
        whole_s = sum(fault.pause_s for fault in faults) or 1.0
        left, postponed = deque(faults), 0
        async with asyncio.TaskGroup() as watchers:
            while left:
                fault = left.popleft()
                await self._pause(fault.pause_s, self._tasks * fault.pause_s / whole_s)
                if await self._strike(fault, watchers):
                    continue
                # A template, mostly: there is none until an instance is started again.
                postponed += 1
                if postponed > _POSTPONED:
                    self._history.add("missed", role=fault.role)
                    continue
                if len(left) < _LATER:
                    await self._strike(replace(fault, role="instance"), watchers)
                left.insert(_LATER, fault)
            self._driver.release_all()

    async def _pause(self, seconds: float, quota: float) -> None:
        """Wait, and release ``quota`` orders evenly meanwhile."""
        begun, released = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            due = int(quota * passed / seconds)
            self._driver.release(due - released)
            released = due
            await asyncio.sleep(min(_SLICE_S, seconds - passed))
        self._driver.release(round(quota) - released)

    async def _strike(self, fault: Fault, watchers: asyncio.TaskGroup) -> bool:
        """Strike once; False where there was nobody to strike."""
        if fault.role == "launcher":
            await self._strike_launcher(fault.how)
        elif fault.role == "broker" and self._tree.broker is not None:
            await self._broker_is_back.wait()
            await asyncio.sleep(BROKER_REST_S)
            strike = self._strike_server if fault.how == "kill" else self._pause_server
            watchers.create_task(strike(self._tree.broker))
        elif (target := await self._find(fault)) is None:
            return False
        else:
            self._hit(fault, *(await self._at_moment(fault) or target), watchers)
        return True

    async def _at_moment(self, fault: Fault) -> tuple[str, int] | None:
        """Wait for the fault's moment, a while at most; the process that it is about, if any."""
        if fault.moment == "submit":
            self._driver.submitting.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._driver.submitting.wait(), _MOMENT_S)
        elif fault.moment in ("start", "end"):
            hosts = await asyncio.to_thread(self._tree.hosts)
            # Who falls asleep must do so over a task, not just after it.
            wanted, limit_s = (
                (self._long, _LONG_MOMENT_S) if fault.how == "stop" else (self._all, _MOMENT_S)
            )
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

    def _hit(self, fault: Fault, name: str, pid: int, watchers: asyncio.TaskGroup) -> None:
        number = signal.SIGKILL if fault.how == "kill" else signal.SIGSTOP
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        self._history.add("fault", role=fault.role, how=fault.how, name=name, pid=pid)
        if fault.how == "stop":
            watchers.create_task(self._wake(name, pid))
        elif fault.role not in ("instance", "template"):
            self._latest[name] = pid
            watchers.create_task(self._see_back(fault.role, name, pid))

    async def _find(self, fault: Fault) -> tuple[str, int] | None:
        """A process of the role. Waits a while where there is none at this moment."""
        end = time.monotonic() + _FIND_S
        while not (targets := await asyncio.to_thread(self._tree.targets, fault.role)):
            if time.monotonic() > end:
                return None
            await asyncio.sleep(_STEP_S)
        return sorted(targets)[int(fault.draw * len(targets))]

    async def _see_back(self, role: str, name: str, pid: int) -> None:
        """Time the recovery, unless the place is struck again before."""
        begun = counted = time.monotonic()
        while not await asyncio.to_thread(self._tree.is_back, name, pid):
            if self._latest[name] != pid:
                return
            if not self._broker_is_back.is_set():  # a consumer is ready when it consumes
                counted = time.monotonic()
            if time.monotonic() - counted > RECOVERY_LIMIT_S:
                self._history.add("recovery", role=role, name=name, seconds=None)
                return
            await asyncio.sleep(_STEP_S)
        self._history.add("recovery", role=role, name=name, seconds=time.monotonic() - begun)

    async def _wake(self, name: str, pid: int) -> None:
        await asyncio.sleep(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self._history.add("woken", name=name, pid=pid)

    async def _strike_server(self, server: Server) -> None:
        self._broker_is_back.clear()
        begun = time.monotonic()
        self._history.add("fault", role="broker", how="kill", name="broker", pid=0)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        seconds = time.monotonic() - begun
        self._history.add("recovery", role="broker", name="broker", seconds=seconds)
        self._broker_is_back.set()

    async def _pause_server(self, server: Server) -> None:
        self._broker_is_back.clear()
        self._history.add("fault", role="broker", how="stop", name="broker", pid=0)
        server.pause()
        await asyncio.sleep(STOP_S)
        server.resume()
        self._broker_is_back.set()

    async def _strike_launcher(self, how: How) -> None:
        """Kill, cut off or end the launcher, see the whole tree go, start another."""
        self._history.add("fault", role="launcher", how=how, name="launcher", pid=0)
        begun, self.is_restarting = time.monotonic(), True
        if (code := await asyncio.to_thread(self._tree.end_launcher, how)) != TERMINATED:
            self._history.add("left", processes=[f"the launcher ended with {code}"])
        while left := await asyncio.to_thread(self._tree.leftovers):
            if time.monotonic() - begun > END_LIMIT_S:
                told = [f"{process.pid} {process.name()}" for process in left]
                self._history.add("left", processes=told)
                break
            await asyncio.sleep(_STEP_S)
        self._history.add("gone", seconds=time.monotonic() - begun)
        await asyncio.to_thread(self._tree.start)
        self.is_restarting = False
        seconds = time.monotonic() - begun
        self._history.add("recovery", role="launcher", name="launcher", seconds=seconds)
