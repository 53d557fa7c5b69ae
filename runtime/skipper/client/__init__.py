"""The client: calls functions, follows tasks, lists what there is, over HTTP.

:class:`Client` blocks, :class:`AsyncClient` runs on asyncio; both carry out the same flows
(``flows.py``, which does no I/O). httpx is imported when the first client is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from skipper.client import contents, flows
from skipper.client.aio import AsyncClient, AsyncTaskHandle
from skipper.client.blocking import Client, TaskHandle
from skipper.client.contents import Answer
from skipper.client.events import TaskEvent
from skipper.client.messages import Deadline, Terms, WantedValue
from skipper.client.sources import BodySource
from skipper.values.envelope import Part, is_envelope, referred, unpack
from skipper.values.opening import NO_PLACES
from skipper.values.spool import Spool

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncTaskHandle",
    "Client",
    "TaskEvent",
    "TaskHandle",
    "Terms",
    "WantedValue",
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
    """Implements :class:`skipper.function.decorators.Caller` with a client.

    Values of more types than JSON go as they are, as they do between functions, and come so.
    """

    places = NO_PLACES

    def __init__(self, client: Client) -> None:
        self._client = client

    def call(self, name: str, body: bytes) -> bytes:
        with self._opened(body) as opened:
            flow = flows.called(name, opened, self._client.timeout_s)
            return contents.body_of(self._client.run(flow))

    def spawn(self, name: str, body: bytes, *, detach: bool = False) -> ClientTask:
        del detach  # what is started from outside has no parent
        with self._opened(body) as opened:
            return ClientTask(self._client.spawn(name, opened), self._client)

    async def call_async(self, name: str, body: bytes) -> bytes:
        # In a thread, because the client that was connected blocks.
        return await asyncio.to_thread(self.call, name, body)

    @contextlib.contextmanager
    def _opened(self, body: bytes) -> Iterator[Any]:
        """The body as the client takes one; what lies in the spool for it goes afterwards."""
        if not is_envelope(body):
            yield body
            return
        envelope = unpack(body)
        try:
            sources = {part.key: _source(part, self.places.spool) for part in envelope.parts}
            yield _referring(json.loads(envelope.json or b"null"), sources)
        finally:
            self.places.spool.remove(envelope.spooled)


def _source(part: Part, spool: Spool) -> BodySource:
    common = BodySource(media_type=part.media_type, name=part.name, size=part.size)
    if part.spool is not None:
        return replace(common, path=spool.path(part.spool))
    return replace(common, buffers=(part.data,))


def _referring(value: Any, sources: Mapping[str, BodySource]) -> Any:
    """Plain data with the sources that it refers to."""
    if (key := referred(value)) in sources:
        return sources[str(key)]
    if isinstance(value, dict):
        return {name: _referring(each, sources) for name, each in value.items()}
    return [_referring(each, sources) for each in value] if isinstance(value, list) else value


class ClientTask:
    """Implements :class:`skipper.function.decorators.SpawnedCall` with a client's handle."""

    def __init__(self, handle: TaskHandle, client: Client) -> None:
        self._client, self.id = client, handle.id

    def result(self, timeout: float | None = None) -> bytes:
        task = self._client.run(flows.ended(self.id, Deadline(timeout)))
        return contents.body_of(self._client.run(flows.reply_with_result(task)))
