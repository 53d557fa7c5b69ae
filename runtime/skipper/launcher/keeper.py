"""Keeps one planned child alive: starts it, waits until it is ready, starts it when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from enum import StrEnum

from skipper.errors import StartError
from skipper.launcher.plan import ChildPlan
from skipper.launcher.process import Child
from skipper.launcher.restarts import FINAL_CODES, History
from skipper.system import exit_words
from skipper.wire.control import ChildStatus

_LAST_OUTPUT_S = 0.2
"""How long a dead child's last output is waited for."""


class ChildState(StrEnum):
    """Where a child stands."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class Keeper:
    """One place in the tree and the child that fills it now.

    ``start`` makes a child, ``ended`` is called with each that died, ``log`` logs a line.
    """

    def __init__(
        self,
        plan: ChildPlan,
        *,
        start: Callable[[ChildPlan], Child],
        ended: Callable[[Child], None],
        log: Callable[..., None],
        history: History | None = None,
    ) -> None:
        self.plan = plan
        self.state = ChildState.STOPPED
        self.restarts = 0
        self.since = time.time()
        self.child: Child | None = None
        self.was_ready = asyncio.Event()
        """Set once and for all when a child of this place was ready for the first time."""
        self.gone = asyncio.Event()
        """Set when nothing is left to wait for here."""
        self.gone.set()
        self._start, self._ended, self._log = start, ended, log
        self._history = history or History()
        self._stopping = asyncio.Event()

    async def keep(self) -> None:
        """Fill this place until :meth:`stop`. Raises StartError when the budget is used up."""
        self.gone.clear()
        try:
            while not self._stopping.is_set():
                self._move(ChildState.RESTARTING if self.restarts else ChildState.STARTING)
                pause = await self._run_once()
                if self._stopping.is_set():
                    break
                self.restarts += 1
                self._move(ChildState.RESTARTING)
                await self._pause(pause)
        finally:
            self._move(ChildState.STOPPED)
            self.gone.set()

    def stop(self) -> None:
        """Ask the child to end and start no other."""
        self.retire()
        if self.child:
            self.child.terminate()

    def retire(self) -> None:
        """Start no other child when this one ends."""
        self._stopping.set()

    def kill(self) -> None:
        self.retire()
        if self.child:
            self.child.kill()

    def status(self) -> ChildStatus:
        """This place for `skipper status`."""
        return ChildStatus(
            name=self.plan.name,
            pid=self.child.pid if self.child else None,
            state=self.state.value,
            restarts=self.restarts,
            since=self.since,
            reason=self.child.reason if self.child else "",
        )

    async def _run_once(self) -> float:
        """Start a child and see it through to its end; seconds until the next start."""
        try:
            child = self._start(self.plan)
        except OSError as error:
            return self._failed(None, f"{self.plan.command[0]}: {error.strerror}")
        self.child = child
        try:
            await self._until_ready(child)
            is_ready, is_late = child.ready.done(), not child.exited.done()
            if is_ready:
                self._became_ready()
            else:
                child.kill()
            begun = time.monotonic()
            code = await child.exited
        finally:
            self.child = None
            self._ended(child)
        if self._stopping.is_set():
            return 0.0
        if is_ready:
            return self._died(code, time.monotonic() - begun)
        return self._failed(code, await self._explain(child, code, is_late=is_late))

    async def _until_ready(self, child: Child) -> None:
        await asyncio.wait(
            (child.ready, child.exited),
            timeout=self.plan.start_limit_s,
            return_when=asyncio.FIRST_COMPLETED,
        )

    def _became_ready(self) -> None:
        self._history.became_ready()
        self.was_ready.set()
        self._move(ChildState.READY)
        if self.restarts:
            self._log("info", f"{self.plan.name} is back", restarts=self.restarts)

    def _died(self, code: int, served_s: float) -> float:
        self._log("warning", f"{self.plan.name} ended ({exit_words(code)}); starting it again")
        return self._history.died(served_s)

    async def _explain(self, child: Child, code: int, *, is_late: bool) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_OUTPUT_S):
                await child.output.ended.wait()
        if child.reason and code in FINAL_CODES:
            return child.reason.rstrip(".")
        message = child.reason or child.output.last_message
        end = f"not ready after {self.plan.start_limit_s:g} s" if is_late else exit_words(code)
        return f"{end}: {message}" if message else end

    def _failed(self, code: int | None, why: str) -> float:
        pause = self._history.failed(code)
        if pause is None:
            raise StartError(self._verdict(why), code=self._exit_code(code))
        self._log("warning", f"{self.plan.name} did not get ready ({why}); starting it again")
        return pause

    def _verdict(self, why: str) -> str:
        starts = self._history.failed_starts
        if starts == 1:
            return f"{self.plan.name} cannot start: {why}"
        return f"{self.plan.name} did not get ready in {starts} starts; the last: {why}"

    def _exit_code(self, code: int | None) -> int:
        return code if code in FINAL_CODES and code is not None else self.plan.failure_code

    async def _pause(self, pause: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    def _move(self, state: ChildState) -> None:
        self.state = state
        self.since = time.time()
