"""What the tree says of itself over REST, read to the last page."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.chaos.plan import digest_of

OPEN = ("queued", "running", "retrying")
_PAGE = 200
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Look:
    """Every task there is, by id; the values of those that succeeded; the versions of the model."""

    tasks: dict[str, dict[str, Any]]
    values: dict[str, Any]
    attempts: dict[str, list[dict[str, Any]]]
    """Of tasks that had more than one."""
    versions: list[dict[str, Any]]


async def drained(url: str, limit_s: float) -> bool:
    """Whether every task came to its end in time."""

    async def is_drained(client: httpx.AsyncClient) -> bool:
        return not [state for state in OPEN if await _first(client, state)]

    return await _seen(url, is_drained, limit_s)


async def delivered(
    url: str, functions: Iterable[str], arrived: Collection[str], limit_s: float
) -> bool:
    """Whether the ends of all tasks of these functions were among ``arrived`` in time."""

    async def is_delivered(client: httpx.AsyncClient) -> bool:
        for function in functions:
            async for task in _items(client, "/v1/tasks", function=function):
                if task["id"] not in arrived:
                    return False
        return True

    return await _seen(url, is_delivered, limit_s)


async def paused(url: str, schedule: str, limit_s: float) -> bool:
    """Pause a schedule; whether it was done in time."""

    async def is_paused(client: httpx.AsyncClient) -> bool:
        answer = await client.post(f"/v1/schedules/{schedule}/pause")
        return answer.status_code == httpx.codes.OK

    return await _seen(url, is_paused, limit_s)


async def _seen(
    url: str, ask: Callable[[httpx.AsyncClient], Awaitable[bool]], limit_s: float
) -> bool:
    """Whether what is asked again and again came true in time."""
    end = time.monotonic() + limit_s
    async with httpx.AsyncClient(base_url=url, timeout=20.0) as client:
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError, KeyError):  # a gateway that was just struck
                if await ask(client):
                    return True
            await asyncio.sleep(0.5)
    return False


async def _first(client: httpx.AsyncClient, state: str) -> list[Any]:
    answer = await client.get("/v1/tasks", params={"state": state, "limit": 1})
    return list(answer.json()["items"])


async def look(url: str) -> Look:
    """Read everything."""
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        tasks = {task["id"]: task async for task in _items(client, "/v1/tasks")}
        good = [id_ for id_, task in tasks.items() if task["state"] == "succeeded"]
        again = [id_ for id_, task in tasks.items() if task["attempt"] > 1]
        return Look(
            tasks=tasks,
            values=await _each(client, good, "result"),
            attempts={
                id_: answer["items"]
                for id_, answer in (await _each(client, again, "attempts")).items()
            },
            versions=[version async for version in _items(client, "/v1/models/weights")],
        )


async def states(url: str) -> dict[str, tuple[Any, ...]]:
    """What must never change again."""
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        return {task["id"]: ending(task) async for task in _items(client, "/v1/tasks")}


def ending(task: dict[str, Any]) -> tuple[Any, ...]:
    """The part of a task that its end fixes."""
    return task["state"], task["attempt"], task["finished_at"], task["code"], task["model"]


async def _items(
    client: httpx.AsyncClient, path: str, **wanted: str
) -> AsyncIterator[dict[str, Any]]:
    params: dict[str, Any] = {"limit": _PAGE, **wanted}
    while True:
        answer = await client.get(path, params=params)
        if answer.status_code == httpx.codes.NOT_FOUND:  # no model was ever trained
            return
        page = answer.json()
        for item in page["items"]:
            yield item
        if page["next"] is None:
            return
        params["cursor"] = page["next"]


async def _each(client: httpx.AsyncClient, ids: Iterable[str], what: str) -> dict[str, Any]:
    """``/v1/tasks/{id}/{what}`` of each task."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(id_: str) -> tuple[str, Any]:
        async with turn:
            answer = await client.get(f"/v1/tasks/{id_}/{what}")
            if answer.status_code != httpx.codes.OK:
                return id_, answer.text
            is_json = answer.headers["content-type"].startswith("application/json")
            return id_, answer.json() if is_json else digest_of(answer.content)

    return dict(await asyncio.gather(*map(one, ids)))
