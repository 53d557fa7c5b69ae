"""The client: calls functions, follows tasks, lists what there is, over HTTP.

:class:`Client` blocks, :class:`AsyncClient` runs on asyncio; both carry out the same flows
(``flows.py``, which does no I/O). httpx is imported when the first client is made.
"""

from __future__ import annotations

import asyncio

from pydantic_core import to_json

from skipper.client.aio import AsyncClient, AsyncTaskHandle
from skipper.client.blocking import Client, TaskHandle
from skipper.client.events import TaskEvent
from skipper.client.messages import Answer, Terms
from skipper.values.opening import NO_PLACES

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncTaskHandle",
    "Client",
    "TaskEvent",
    "TaskHandle",
    "Terms",
    "connect",
]


def connect(url: str | None = None, *, api_key: str | None = None) -> Client:
    """Have ``f.remote``, ``f.spawn`` and ``f.map`` of this process go to the gateway at ``url``.

    ``url`` defaults to ``$SKIPPER_URL``, else port 8000 of this machine; the key to
    ``$SKIPPER_API_KEY``. Raises SettingsError for what is no URL; nothing is sent yet.
    """
    from skipper.function.decorators import connect_to

    client = Client(url, api_key=api_key)
    connect_to(ClientCaller(client))
    return client


class ClientCaller:
    """Implements :class:`skipper.function.decorators.Caller` with a client."""

    places = NO_PLACES

    def __init__(self, client: Client) -> None:
        self._client = client

    def call(self, name: str, body: bytes) -> bytes:
        return to_json(self._client.call(name, body))

    def spawn(self, name: str, body: bytes, *, detach: bool = False) -> ClientTask:
        del detach  # what is started from outside has no parent
        return ClientTask(self._client.spawn(name, body))

    async def call_async(self, name: str, body: bytes) -> bytes:
        # In a thread, because the client that was connected blocks.
        return await asyncio.to_thread(self.call, name, body)


class ClientTask:
    """Implements :class:`skipper.function.decorators.SpawnedCall` with a client's handle."""

    def __init__(self, handle: TaskHandle) -> None:
        self._handle, self.id = handle, handle.id

    def result(self, timeout: float | None = None) -> bytes:
        return to_json(self._handle.result(timeout))
