"""The load: a client outside the tree that trusts nothing and writes down all it asks and hears."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.history import History
from tests.chaos.origins import RAN_NOW
from tests.chaos.plan import Order
from tests.chaos.receiver import NAME as WEBHOOK

GIVE_UP_S = 150.0
"""A submission that was not accepted by then counts as unanswered."""
ANSWER_S = 25.0
"""A connection that says nothing for this long; functions that are called directly have 10 s."""
PROBE_S = 0.1
"""Pause between two direct calls."""
_RETRY_S = (0.05, 0.5)
_SERVED_SHARE = 0.3
_OCTETS = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is posted for an order, and what more the history has of it."""

    path: str
    body: dict[str, Any] | None = None
    file: bytes | None = None
    """Of a form: a part of it, beside those of the body."""
    headers: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


class Driver:
    """Submits ``orders`` as they are released, and calls directly all the while."""

    def __init__(self, url: str, orders: Sequence[Order], history: History, seed: int) -> None:
        self._url, self._history = url, history
        self._rng = random.Random(f"driver {seed}")
        self._waiting = deque(orders)
        self._released: asyncio.Queue[Order | None] = asyncio.Queue()
        self._over = asyncio.Event()
        self.orders: list[Order] = []
        """All that were released."""
        self._newest = 0
        self._files: dict[str, str] = {}
        """Ids of what was uploaded, by the keys of the orders that it is for."""
        self._submitted: list[str] = []
        """Tasks that may be retried once they have ended."""
        self.accepted = 0
        """Tasks so far."""
        self.submitting = asyncio.Event()
        """Set as a submission leaves; whoever waits for the next one clears it."""

    @property
    def left(self) -> int:
        """Orders that are not released."""
        return len(self._waiting)

    def release(self, number: int) -> None:
        """Let so many more orders go."""
        for _ in range(min(number, len(self._waiting))):
            self.add(self._waiting.popleft())

    def release_all(self) -> None:
        """Let the rest go; no other will follow."""
        self.release(self.left)
        self._released.put_nowait(None)

    def add(self, order: Order) -> None:
        """Let an order go."""
        self.orders.append(order)
        self._released.put_nowait(order)

    async def run(self) -> None:
        """Submit every order and call directly until :meth:`end`; done when all is answered."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        timeout = httpx.Timeout(ANSWER_S)
        async with (
            httpx.AsyncClient(base_url=self._url, limits=limits, timeout=timeout) as client,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._call_until_over(client))
            while (order := await self._released.get()) is not None:
                group.create_task(self._submit(client, order))

    def end(self) -> None:
        """Stop calling directly."""
        self._over.set()

    # --- tasks ---

    async def _submit(self, client: httpx.AsyncClient, order: Order) -> None:
        try:
            async with asyncio.timeout(GIVE_UP_S):
                id_ = await self._accepted(client, order)
                self.accepted += 1
                if order.cancel_s is not None:
                    await asyncio.sleep(order.cancel_s)
                    await self._cancel(client, order, id_)
        except TimeoutError:
            self._history.add("given-up", op="submit", key=order.key)

    async def _accepted(self, client: httpx.AsyncClient, order: Order) -> str:
        """Submit until it is accepted; the task's id."""
        for attempt in itertools.count(1):
            if id_ := await self._ask(client, order, attempt):
                return id_
            await asyncio.sleep(self._rng.uniform(*_RETRY_S))
        raise AssertionError

    async def _ask(self, client: httpx.AsyncClient, order: Order, number: int) -> str:
        """Ask once; the id, empty where it was not accepted or nobody can tell."""
        if not await self._uploaded(client, order) or (request := self._request(order)) is None:
            return ""
        facts = {"op": order.way, "key": order.key, "number": number, **request.facts}
        self._history.add("invoke", **facts)
        self.submitting.set()
        try:
            answer = await _posted(client, request)
        except httpx.HTTPError as error:
            self._history.add("info", **facts, error=repr(error))
            return ""
        id_ = str(answer.headers.get("Location", "").rpartition("/")[2])
        if not id_:
            self._history.add("fail", **facts, status=answer.status_code, body=answer.text[:500])
            return ""
        self._history.add("ok", **facts, status=answer.status_code, id=id_)
        if order.way == "submit":
            self._submitted.append(id_)
        if answer.status_code == httpx.codes.OK and order.function == "chaos.train":
            self._newest = max(self._newest, answer.json()["version"] or 0)
        return id_

    def _request(self, order: Order) -> Request | None:
        """How an order is asked for; None for a retry while there is nothing to try again."""
        match order.way:
            case "submit":
                wish = "respond-async" if order.wait_s is None else f"wait={order.wait_s}"
                headers = {"Prefer": wish, "Idempotency-Key": order.key}
                path = f"/v1/functions/{order.function}/invoke"
                return Request(path=path, headers=headers, **self._sent(order))
            case "retry" if self._submitted:
                task_id = self._rng.choice(self._submitted)
                return Request(path=f"/v1/tasks/{task_id}/retry", facts={"of": task_id})
            case "run":
                return Request(path=f"/v1/schedules/{RAN_NOW}/run")
            case "test":
                return Request(path=f"/v1/webhooks/{WEBHOOK}/test")
        return None

    async def _uploaded(self, client: httpx.AsyncClient, order: Order) -> bool:
        """Whether what an order names by its id is there; tries once."""
        upload = order.upload
        if upload is None or not upload.is_kept or order.key in self._files:
            return True
        content = upload.content(order.nonce)
        try:
            answer = await client.post(
                "/v1/files", content=content, headers={"Content-Type": _OCTETS}
            )
        except httpx.HTTPError:
            return False
        if answer.status_code == httpx.codes.CREATED:
            self._files[order.key] = answer.json()["id"]
        return order.key in self._files

    def _sent(self, order: Order) -> dict[str, Any]:
        """What an order's body is made of."""
        if order.upload is None:
            return {"body": order.body}
        if order.upload.is_kept:
            return {"body": order.body | {"file": {"file": self._files[order.key]}}}
        return {"body": order.body, "file": order.upload.content(order.nonce)}

    async def _cancel(self, client: httpx.AsyncClient, order: Order, id_: str) -> None:
        """Ask once for the task to be cancelled, and keep the state that the answer names."""
        facts = {"op": "cancel", "key": order.key, "id": id_}
        self._history.add("invoke", **facts)
        try:
            answer = await client.post(f"/v1/tasks/{id_}/cancel")
        except httpx.HTTPError as error:
            self._history.add("info", **facts, error=repr(error))
            return
        if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
            shown = answer.json()
            state = shown["state"] if "state" in shown else shown["task"]["state"]
            self._history.add("ok", **facts, status=answer.status_code, state=state)
        else:
            self._history.add("fail", **facts, status=answer.status_code, body=answer.text[:500])

    # --- direct calls ---

    async def _call_until_over(self, client: httpx.AsyncClient) -> None:
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if self._over.is_set():
                    return
                if self._rng.random() < _SERVED_SHARE:
                    group.create_task(self._call(client, f"s{number}", "serve", {}))
                else:
                    ms = self._rng.choice((0, 0, 5, 50))
                    group.create_task(self._call(client, f"d{number}", "echo", {"ms": ms}))
                await asyncio.sleep(PROBE_S)

    async def _call(
        self, client: httpx.AsyncClient, nonce: str, function: str, more: dict[str, Any]
    ) -> None:
        """One direct call, never repeated. ``newest``: the oldest model that may answer it."""
        facts = {"op": function, "nonce": nonce, "newest": self._newest}
        self._history.add("invoke", **facts)
        try:
            answer = await client.post(
                f"/v1/functions/chaos.{function}/invoke", json={"nonce": nonce} | more
            )
        except httpx.HTTPError as error:
            self._history.add("info", **facts, error=repr(error))
            return
        self._history.add(
            "ok",
            **facts,
            status=answer.status_code,
            model=answer.headers.get("X-Skipper-Model", ""),
            body=answer.text[:500],
        )


async def _posted(client: httpx.AsyncClient, request: Request) -> httpx.Response:
    """Post a request, as a form where it has a file. Raises httpx.HTTPError."""
    if request.file is None:
        return await client.post(request.path, json=request.body, headers=request.headers)
    parts = {"file": ("any.bin", request.file, _OCTETS)}
    return await client.post(request.path, data=request.body, files=parts, headers=request.headers)
