"""``/livez`` and ``/readyz``: whether this gateway lives, and whether it is ready for calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from skipper.errors import SkipperError
from skipper.gateway.context import Context
from skipper.ledger import hosts
from skipper.ledger.records import Beat
from skipper.wire.messages import FunctionState, GetPoolState, PoolState

ANSWER_S = 2.0
"""How long a pool, or the ledger, may take to answer a probe."""
STILL_S = 10.0
"""A scheduler whose heartbeat has not moved for so long does no rounds."""


class Readiness:
    """Ready once everything has been up; after that, unless it drains or reaches no pool."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rounds = Rounds()
        self._was_ready = False
        self._unfit: list[str] = []
        """Versions of models that do not load, and why, as pools have said last."""
        self.is_draining = False

    async def checks(self) -> dict[str, str]:
        """What is checked, and what is wrong with it (empty: nothing)."""
        context = self._context
        checks = await self._ledger()
        checks["broker"] = (
            ""
            if context.publisher.is_up
            else "not reachable; tasks are accepted and start a little later"
        )
        answers = await asyncio.gather(
            *(link.ask(GetPoolState(), ANSWER_S) for link in context.directory.links.values()),
            return_exceptions=True,
        )
        self._unfit = []
        for pool, answer in zip(context.directory.links, answers, strict=True):
            if isinstance(answer, BaseException):
                checks[f"pool {pool}"] = str(answer)
            else:
                checks[f"pool {pool}"] = ""
                checks[f"consumer {pool}"] = consumer_problem(answer)
                self._unfit += unfit_models(answer)
        loading = context.directory.loading()
        checks["functions"] = f"still reading {', '.join(loading)}" if loading else ""
        broken = context.directory.broken()
        if context.settings.run.strict and broken:
            checks["functions"] = f"broken: {', '.join(item.file for item in broken)}"
        return checks

    def faults(self) -> dict[str, str]:
        """What is told beside those checks, and makes nothing unready: other calls are answered."""
        directory = self._context.directory
        told = [
            f"not loaded: {each.function or each.file}: {each.reason}"
            for each in directory.broken()
        ]
        told += [
            ": ".join(filter(None, (item.state, item.spec.name, item.problem)))
            for item in directory.functions()
            if item.state is not FunctionState.LIVE
        ]
        found = {"functions": told, "models": self._unfit}
        return {name: "; ".join(texts) for name, texts in found.items() if texts}

    def judge(self, checks: dict[str, str]) -> bool:
        """Whether calls should be sent here."""
        context = self._context
        if not any(checks.values()):
            self._was_ready = True
        reaches_some = any(link.is_up for link in context.directory.links.values())
        strict = context.settings.run.strict and bool(context.directory.broken())
        return self._was_ready and reaches_some and not self.is_draining and not strict

    async def _ledger(self) -> dict[str, str]:
        """The ledger, and by its heartbeats the scheduler."""
        problem = ""
        try:
            beats = await asyncio.wait_for(self._context.ledger.read(hosts.beats), ANSWER_S)
        except (SkipperError, TimeoutError) as error:
            problem = str(error) or "does not answer"
        else:
            self._rounds.observe(beats)
        return {"ledger": problem, "scheduler": self._rounds.problem}


def consumer_problem(state: PoolState) -> str:
    """What is wrong with a pool's consumer; empty where nothing is."""
    return "" if state.consumer else state.consumer_problem or "not connected yet"


def unfit_models(state: PoolState) -> list[str]:
    """The versions in production that a pool cannot load, with why."""
    return [f"{each.model}@{each.version} on {state.pool}: {each.reason}" for each in state.unfit]


class Rounds:
    """Whether schedulers do their rounds, as the change of their heartbeats shows.

    The first heartbeats prove nothing, because their scheduler may have been killed long ago.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: frozenset[Beat] | None = None
        self._moved_at: float | None = None

    def observe(self, beats: Iterable[Beat]) -> None:
        """Compare heartbeats with those of the last time."""
        now = frozenset(beat for beat in beats if beat.pool == hosts.SCHEDULER)
        if self._seen is not None and now - self._seen:
            self._moved_at = self._clock()
        self._seen = now

    @property
    def problem(self) -> str:
        """What is wrong; empty while a scheduler has lately been seen at work."""
        if self._moved_at is None:
            return "not heard of yet"
        stands_s = self._clock() - self._moved_at
        return f"has done no round for {stands_s:.0f} s" if stands_s > STILL_S else ""


def routes(readiness: Readiness) -> APIRouter:
    """The routes, on what ``readiness`` finds."""
    router = APIRouter(tags=["operations"])

    @router.get("/livez", summary="Whether this gateway lives", response_class=PlainTextResponse)
    async def livez() -> Any:
        return PlainTextResponse("ok\n")

    @router.get(
        "/readyz", summary="Whether calls should be sent here", response_class=PlainTextResponse
    )
    async def readyz(request: Request) -> Any:
        checks = await readiness.checks()
        is_ready = readiness.judge(checks)
        text = "ready\n" if is_ready else "not ready\n"
        if "verbose" in request.query_params:
            checks |= {n: text for n, text in readiness.faults().items() if not checks.get(n)}
            lines = (
                f"[{'-' if wrong else '+'}]{name} {wrong or 'ok'}\n"
                for name, wrong in checks.items()
            )
            text = "".join(lines) + text
        return PlainTextResponse(text, 200 if is_ready else 503)

    return router
