"""``/livez``, ``/readyz`` and ``/metrics``: for machines that look after this one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

import skipper
from skipper.errors import SkipperError
from skipper.gateway.context import Context
from skipper.ledger import hosts, tasks, totals
from skipper.ledger.records import Beat
from skipper.task import State

ANSWER_S = 2.0
"""How long a pool, or the ledger, may take to answer whoever looks after this machine."""
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
STILL_S = 10.0
"""A scheduler whose heartbeat has not moved for so long between two looks does no rounds."""
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Readiness:
    """Ready once everything has been up; after that, unless it drains or reaches no pool."""

    def __init__(self, context: Callable[[], Context]) -> None:
        self._context = context
        self._rounds = Rounds()
        self._was_ready = False
        self.is_draining = False

    async def checks(self) -> dict[str, str]:
        """What is looked at, and what is wrong with it (empty: nothing)."""
        context = self._context()
        checks = await self._ledger()
        checks["broker"] = (
            ""
            if context.publisher.is_up
            else "not reachable; tasks are accepted and start a little later"
        )
        asked = await asyncio.gather(
            *(link.ask("pool", ANSWER_S) for link in context.directory.links.values()),
            return_exceptions=True,
        )
        for pool, answer in zip(context.directory.links, asked, strict=True):
            checks[f"pool {pool}"] = str(answer) if isinstance(answer, BaseException) else ""
            if isinstance(answer, dict):
                checks[f"consumer {pool}"] = "" if answer["consumer"] else "not connected yet"
        loading = context.directory.loading()
        checks["functions"] = f"still reading {', '.join(loading)}" if loading else ""
        broken = context.directory.broken()
        if context.settings.run.strict and broken:
            checks["functions"] = f"broken: {', '.join(item.file for item in broken)}"
        return checks

    def judge(self, checks: dict[str, str]) -> bool:
        """Whether calls should be sent here."""
        context = self._context()
        if not any(checks.values()):
            self._was_ready = True
        reaches_some = any(link.is_up for link in context.directory.links.values())
        strict = context.settings.run.strict and bool(context.directory.broken())
        return self._was_ready and reaches_some and not self.is_draining and not strict

    async def _ledger(self) -> dict[str, str]:
        """The ledger, and by its heartbeats the scheduler."""
        told = ""
        try:
            beats = await asyncio.wait_for(self._context().ledger.read(hosts.beats), ANSWER_S)
        except (SkipperError, TimeoutError) as error:
            told = str(error) or "does not answer"
        else:
            self._rounds.look(beats)
        return {"ledger": told, "scheduler": self._rounds.problem}


class Rounds:
    """Whether schedulers do their rounds, as their heartbeats tell between two looks.

    A heartbeat at the first look may be that of a scheduler that was killed long ago.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: frozenset[Beat] | None = None
        self._moved_at: float | None = None

    def look(self, beats: Iterable[Beat]) -> None:
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


def routes(context: Callable[[], Context], readiness: Readiness) -> APIRouter:
    """The routes; ``context`` gives what the running gateway has."""
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
            lines = (
                f"[{'-' if wrong else '+'}]{name} {wrong or 'ok'}\n"
                for name, wrong in checks.items()
            )
            text = "".join(lines) + text
        return PlainTextResponse(text, 200 if is_ready else 503)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Any:
        return Response("".join(await _metrics(context())), 200, media_type=_TEXT)

    return router


async def _metrics(context: Context) -> list[str]:
    links = context.directory.links
    asked = await asyncio.gather(
        *(link.ask("metrics", ANSWER_S) for link in links.values()), return_exceptions=True
    )
    pools = {
        pool: answer for pool, answer in zip(links, asked, strict=True) if isinstance(answer, dict)
    }
    lines = [
        *_sample("skipper_build_info", "gauge", "Version.", [({"version": skipper.__version__}, 1)])
    ]
    lines += _sample("skipper_calls_total", "counter", "Direct calls answered.", _calls(pools))
    for key, name, text in (
        (
            "call_duration",
            "skipper_call_duration_seconds",
            "Direct calls, from the host's receipt to the answer.",
        ),
        ("task_wait", "skipper_task_wait_seconds", "From when a task could run to its claim."),
        ("cold_start", "skipper_cold_start_seconds", "Starting an instance of a function."),
        ("batch_size", "skipper_batch_size", "Items that ran as one."),
    ):
        lines += _histogram(
            name,
            text,
            ((f, p, h) for p, answer in pools.items() for f, h in answer[key].items()),
        )
    depths, ended = await _of_tasks(context)
    depths += [({"pool": pool, "lane": "direct"}, told["queued"]) for pool, told in pools.items()]
    lines += _sample("skipper_queue_depth", "gauge", "Calls and tasks that wait.", depths)
    lines += _sample(
        "skipper_tasks_total", "counter", "Tasks that reached a terminal state.", ended
    )
    lines += _sample("skipper_instances", "gauge", "Instances by state.", _instances(pools))
    reloads: dict[str, int] = {}
    for answer in pools.values():
        for outcome, count in answer["reloads"].items():
            reloads[outcome] = reloads.get(outcome, 0) + count
    lines += _sample(
        "skipper_reloads_total",
        "counter",
        "Changed files followed.",
        [({"outcome": o}, n) for o, n in reloads.items()],
    )
    return lines


Sample = tuple[dict[str, str], float]
Samples = Iterable[Sample]


async def _of_tasks(context: Context) -> tuple[list[Sample], list[Sample]]:
    """What the ledger counts: tasks that wait, by pool, and those that have ended."""
    try:
        waiting, ended = await context.ledger.read(
            lambda conn: (tasks.counts(conn), totals.read(conn))
        )
    except SkipperError:
        return [], []
    queued: list[Sample] = [
        ({"pool": pool, "lane": "tasks"}, waiting.get((pool, State.QUEUED), 0))
        for pool in context.settings.pools
    ]
    return queued, [(total._asdict(), count) for total, count in ended.items()]


def _calls(pools: dict[str, Any]) -> Samples:
    for pool, answer in pools.items():
        for function, outcome, count in answer["calls"]:
            yield {"function": function, "pool": pool, "outcome": outcome}, count


def _instances(pools: dict[str, Any]) -> Samples:
    counted: dict[tuple[str, str], int] = {}
    for answer in pools.values():
        for function, state in answer["instances"]:
            counted[function, state] = counted.get((function, state), 0) + 1
    for (function, state), count in counted.items():
        yield {"function": function, "state": state}, count


def _sample(name: str, kind: str, text: str, samples: Samples) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{name}{_labels(labels)} {value!r}\n"


def _histogram(
    name: str,
    text: str,
    series: Iterable[tuple[str, str, dict[str, Any]]],
) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} histogram\n"
    for function, pool, histogram in series:
        labels, seen = {"function": function, "pool": pool}, 0
        bounds = (*map(str, histogram["bounds"]), "+Inf")
        for bound, count in zip(bounds, histogram["counts"], strict=True):
            seen += count
            yield f"{name}_bucket{_labels(labels | {'le': bound})} {seen}\n"
        yield f"{name}_sum{_labels(labels)} {histogram['sum']!r}\n"
        yield f"{name}_count{_labels(labels)} {seen}\n"


def _labels(labels: dict[str, str]) -> str:
    told = (f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels.items())
    return "{" + ",".join(told) + "}"
