"""The load: a client outside the tree that trusts nothing and writes down all it asks and hears."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any

import httpx

from tests.chaos.history import History
from tests.chaos.plan import Order

GIVE_UP_S = 150.0
"""A submission that was not accepted by then counts as unanswered."""
ANSWER_S = 25.0
"""A connection that says nothing for this long; functions that are called directly have 10 s."""
PROBE_S = 0.1
"""Pause between two direct calls."""
_RETRY_S = (0.05, 0.5)
_SERVED_SHARE = 0.3


class Driver:
    """Submits ``orders`` as fast as :meth:`release` allows, and calls directly all the while."""

    def __init__(self, url: str, orders: Sequence[Order], history: History, seed: int) -> None:
        self._url, self._orders, self._history = url, orders, history
        self._rng = random.Random(f"driver {seed}")
        self._released = asyncio.Semaphore(0)
        self._left = len(orders)
        self._over = asyncio.Event()
        self._newest = 0
        self.submitting = asyncio.Event()
        """Set as a submission leaves; whoever waits for the next one clears it."""

    def release(self, number: int) -> None:
        """Let so many more orders go."""
        number = min(number, self._left)
        self._left -= number
        for _ in range(number):
            self._released.release()

    def release_all(self) -> None:
        self.release(self._left)

    async def run(self) -> None:
        """Submit every order and call directly until :meth:`end`; done when all is answered."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        timeout = httpx.Timeout(ANSWER_S, connect=5.0)
        async with (
            httpx.AsyncClient(base_url=self._url, limits=limits, timeout=timeout) as client,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._call_until_over(client))
            for order in self._orders:
                await self._released.acquire()
                group.create_task(self._submit(client, order))

    def end(self) -> None:
        """Stop calling directly."""
        self._over.set()

    # --- tasks ---

    async def _submit(self, client: httpx.AsyncClient, order: Order) -> None:
        async with asyncio.timeout(GIVE_UP_S):
            for attempt in itertools.count(1):
                if await self._ask(client, order, attempt):
                    return
                await asyncio.sleep(self._rng.uniform(*_RETRY_S))

    async def _ask(self, client: httpx.AsyncClient, order: Order, number: int) -> bool:
        """Submit once; whether the task is accepted."""
        facts = {"op": "submit", "key": order.key, "number": number}
        wish = "respond-async" if order.wait_s is None else f"wait={order.wait_s}"
        headers = {"Prefer": wish, "Idempotency-Key": order.key}
        self._history.add("invoke", **facts)
        self.submitting.set()
        try:
            answer = await client.post(
                f"/v1/functions/{order.function}/invoke", json=order.body, headers=headers
            )
        except httpx.HTTPError as error:
            self._history.add("info", **facts, error=repr(error))
            return False
        id_ = answer.headers.get("Location", "").rpartition("/")[2]
        if not id_:
            self._history.add("fail", **facts, status=answer.status_code, body=answer.text[:500])
            return False
        self._history.add("ok", **facts, status=answer.status_code, id=id_)
        if answer.status_code == httpx.codes.OK and order.function == "chaos.train":
            self._newest = max(self._newest, answer.json()["version"] or 0)
        return True

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
