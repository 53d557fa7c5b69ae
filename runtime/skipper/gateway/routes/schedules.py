"""``/v1/schedules``: what runs at times of the clock, and the verbs of whoever looks after it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from skipper import problems
from skipper.gateway.answers import Json, accepted_response
from skipper.gateway.context import Context
from skipper.gateway.problems import Problem
from skipper.gateway.routes.parameters import Name
from skipper.ledger import schedules
from skipper.ledger.records import Schedule
from skipper.settings.model import ScheduleSettings
from skipper.tasks.documents import timestamp


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1/schedules", tags=["schedules"])
    _add_reads(router, context)
    _add_verbs(router, context)
    return router


def _add_reads(router: APIRouter, context: Context) -> None:
    @router.get("", summary="List schedules")
    async def page() -> Any:
        found = await context.ledger.read(schedules.present)
        items = {each.declared.name: _shown(each) for each in found}
        tables = context.settings.schedules
        items = {name: _unserved(name, table) for name, table in tables.items()} | items
        return Json({"items": [items[name] for name in sorted(items)], "next": None})

    @router.get("/{name}", summary="Look at one schedule")
    async def schedule(name: Name) -> Any:
        found = await context.ledger.read(partial(schedules.get, name=name))
        table = context.settings.schedules.get(name)
        if found is None and table is not None:
            return Json(_unserved(name, table))
        return Json(_shown(_there(context, name, found)))


def _add_verbs(router: APIRouter, context: Context) -> None:
    @router.post("/{name}/run", status_code=202, summary="Run it now, whatever its times")
    async def run(name: Name) -> Any:
        return await _run(context, name)

    @router.post("/{name}/pause", summary="Let it rest until it is resumed")
    async def pause(name: Name) -> Any:
        found = await context.ledger.write(partial(schedules.pause, name=name))
        return Json(_shown(_there(context, name, found)))

    @router.post("/{name}/resume", summary="Have it go on with its next time")
    async def resume(name: Name) -> Any:
        found = await context.ledger.write(partial(schedules.resume, name=name))
        return Json(_shown(_there(context, name, found)))


async def _run(context: Context, name: str) -> Response:
    task = await context.intake.run_schedule(name)
    if task is None:
        raise _missing(context, name)
    return await accepted_response(context, task)


def _there(context: Context, name: str, found: Schedule | None) -> Schedule:
    if found is None:
        raise _missing(context, name)
    return found


def _missing(context: Context, name: str) -> Problem:
    if (table := context.settings.schedules.get(name)) is not None:
        detail = f"schedule {name!r} is to run {table.function!r}, which no pool serves"
        return Problem(problems.UNKNOWN_FUNCTION, detail)
    return Problem(problems.NOT_FOUND, f"there is no schedule {name!r}")


def _shown(schedule: Schedule) -> dict[str, Any]:
    """A schedule as callers see it."""
    declared = schedule.declared
    return {
        "name": declared.name,
        "function": declared.function,
        "kind": declared.kind,
        "pool": declared.pool,
        "cron": declared.cron,
        "timezone": declared.timezone,
        "missed": declared.missed,
        "overlap": declared.overlap,
        "body": json.loads(declared.body or b"{}"),
        "origin": declared.origin,
        "state": "paused" if schedule.is_paused else "active",
        "next_at": timestamp(schedule.next_at),
        "last_at": timestamp(schedule.last_at),
        "last_task": schedule.last_task_id,
    }


def _unserved(name: str, table: ScheduleSettings) -> dict[str, Any]:
    """A schedule of the settings whose function no pool has served yet, or any longer."""
    return {
        "name": name,
        "function": table.function,
        "kind": None,
        "pool": None,
        "cron": table.cron,
        "timezone": table.timezone,
        "missed": table.missed,
        "overlap": table.overlap,
        "body": table.body,
        "origin": "settings",
        "state": "unserved",
        "next_at": None,
        "last_at": None,
        "last_task": None,
    }
