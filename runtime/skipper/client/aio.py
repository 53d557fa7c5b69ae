"""The client on asyncio: the verbs of ``blocking.py``, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from skipper.client import flows, model_flows
from skipper.client.connection import MAP_WIDTH, HttpConnection, TaskView, reply_of, saving
from skipper.client.contents import Answer
from skipper.client.events import OK, EventReader, ItemReader, TaskEvent
from skipper.client.messages import (
    AS_VALUE,
    NO_TERMS,
    Deadline,
    Flow,
    Pause,
    Reply,
    Request,
    RequestBody,
    Terms,
    WantedValue,
    merged,
    resume,
)
from skipper.client.problems import checked
from skipper.client.sources import file_source
from skipper.errors import UnavailableError
from skipper.function import mapping

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")


class AsyncClient(HttpConnection):
    """:class:`Client` on asyncio: the same verbs, awaited; used in an ``async with`` block."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        import httpx

        super().__init__(url, api_key=api_key, timeout=timeout, tls=tls)
        transport = httpx.AsyncHTTPTransport(**self.transport_options())
        self._http = httpx.AsyncClient(transport=transport, **self.client_options())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """See :meth:`Client.close`."""
        await self._http.aclose()

    async def call(self, name: str, body: Any = None, /, **params: Any) -> Any:
        """See :meth:`Client.call`."""
        return await self.run(flows.call(name, merged(body, params), self.timeout_s))

    async def call_to(self, to: Path | str, name: str, body: Any = None, /, **params: Any) -> Path:
        """See :meth:`Client.call_to`."""
        await self.run(flows.call(name, merged(body, params), self.timeout_s, Path(to)))
        return Path(to)

    async def spawn(
        self,
        name: str,
        body: Any = None,
        /,
        *,
        priority: int | None = None,
        delay: float | str | None = None,
        expires: float | str | None = None,
        **params: Any,
    ) -> AsyncTaskHandle:
        """See :meth:`Client.spawn`."""
        terms = Terms(priority=priority, delay=delay, expires=expires)
        flow = flows.spawn(name, merged(body, params), terms)
        return AsyncTaskHandle(self, await self.run(flow))

    async def map(
        self, name: str, /, *iterables: Iterable[Any], return_exceptions: bool = False
    ) -> list[Any]:
        """See :meth:`Client.map`."""
        names = await self.run(flows.parameters(name))
        calls = mapping.of_items(names or (), iterables)
        return await self._gathered(name, names, calls, return_exceptions)

    async def starmap(
        self, name: str, tuples: Iterable[Iterable[Any]], /, *, return_exceptions: bool = False
    ) -> list[Any]:
        """See :meth:`Client.starmap`."""
        names = await self.run(flows.parameters(name))
        return await self._gathered(name, names, mapping.of_tuples(tuples), return_exceptions)

    async def _gathered(
        self,
        name: str,
        names: list[str] | None,
        calls: Iterator[mapping.Arguments],
        keeps_errors: bool,
    ) -> list[Any]:
        values: dict[int, Any] = {}
        numbered = enumerate(calls)

        async def work() -> None:
            # Several of these share the iterator, so that each takes the next item once it is free.
            for index, call in numbered:
                try:
                    values[index] = await self.call(name, flows.body_of_item(names, call))
                except Exception as error:
                    mapping.of_item(error, index)
                    if not keeps_errors:
                        raise
                    values[index] = error

        workers = [asyncio.ensure_future(work()) for _ in range(MAP_WIDTH)]
        try:
            await asyncio.gather(*workers)
        finally:
            # Waited for, because a request must not go on after its caller has the error.
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [values[index] for index in range(len(values))]

    async def stream(self, name: str, body: Any = None, /, **params: Any) -> AsyncIterator[Any]:
        """See :meth:`Client.stream`."""
        import httpx

        request, uploads = await self.run(flows.stream(name, merged(body, params)))
        reader = ItemReader()
        try:
            options = self.options_of(request)
            async with self._http.stream(**options, content=_content(request)) as response:
                if response.status_code != OK:
                    await response.aread()
                    checked(reply_of(response))
                async for chunk in response.aiter_bytes():
                    for item in reader.feed(chunk):
                        yield item
                    reader.check()
            reader.end()
        except httpx.RequestError as error:
            raise self.loss_of(error, request) from None
        finally:
            await self.run(flows.forget(uploads))

    async def upload(
        self, source: Any, *, name: str | None = None, media_type: str | None = None
    ) -> dict[str, Any]:
        """See :meth:`Client.upload`."""
        return await self.run(flows.upload(file_source(source, name, media_type)))

    async def file(self, file_id: str) -> dict[str, Any]:
        """See :meth:`Client.file`."""
        return await self.run(flows.get(flows.file_path(file_id) + "/info"))

    async def download(self, file_id: str, to: Path | str) -> Path:
        """See :meth:`Client.download`."""
        await self.run(flows.download(file_id, Path(to)))
        return Path(to)

    async def delete_file(self, file_id: str) -> None:
        """See :meth:`Client.delete_file`."""
        await self.run(flows.delete_file(file_id))

    async def task(self, task_id: str) -> AsyncTaskHandle:
        """See :meth:`Client.task`."""
        return AsyncTaskHandle(self, await self.get(flows.task_path(task_id)))

    async def functions(self) -> list[dict[str, Any]]:
        """See :meth:`Client.functions`."""
        return await self.run(flows.get_items("/v1/functions"))

    async def models(self) -> list[dict[str, Any]]:
        """See :meth:`Client.models`."""
        return await self.run(flows.get_items("/v1/models"))

    async def rescue(self, task_id: str, to: Path | str) -> Path:
        """See :meth:`Client.rescue`."""
        await self.run(model_flows.rescue(task_id, Path(to)))
        return Path(to)

    async def model_version(self, name: str, version: int | str) -> dict[str, Any]:
        """See :meth:`Client.model_version`."""
        return await self.run(model_flows.version(name, version))

    async def export_model(self, name: str, version: int | str, to: Path | str) -> Path:
        """See :meth:`Client.export_model`."""
        await self.run(model_flows.export(name, version, Path(to)))
        return Path(to)

    async def import_model(self, source: Any, *, name: str | None = None) -> dict[str, Any]:
        """See :meth:`Client.import_model`."""
        return await self.run(model_flows.import_(file_source(source), name))

    async def deployment(self, name: str) -> dict[str, Any]:
        """See :meth:`Client.deployment`."""
        return await self.run(model_flows.deployment(name))

    async def deployments(self, name: str) -> list[dict[str, Any]]:
        """See :meth:`Client.deployments`."""
        return await self.run(flows.get_items(flows.model_path(name) + "/deployments"))

    async def change_deployment(
        self, name: str, changed: Mapping[str, Any], *, follows: int | None = None
    ) -> dict[str, Any]:
        """See :meth:`Client.change_deployment`."""
        return await self.run(model_flows.change(name, dict(changed), follows))

    async def promote(
        self,
        name: str,
        version: int | str,
        *,
        percent: float | None = None,
        why: str | None = None,
        force: bool = False,
        follows: int | None = None,
    ) -> dict[str, Any]:
        """See :meth:`Client.promote`."""
        terms = model_flows.terms(version, percent=percent, why=why, force=force)
        return await self.run(model_flows.promote(name, terms, follows))

    async def roll_back(
        self, name: str, *, why: str | None = None, follows: int | None = None
    ) -> dict[str, Any]:
        """See :meth:`Client.roll_back`."""
        return await self.run(model_flows.roll_back(name, why, follows))

    async def set_alias(self, name: str, alias: str, version: int | str) -> dict[str, Any]:
        """See :meth:`Client.set_alias`."""
        return await self.run(model_flows.set_alias(name, alias, version))

    async def delete_alias(self, name: str, alias: str) -> dict[str, Any]:
        """See :meth:`Client.delete_alias`."""
        return await self.run(model_flows.delete_alias(name, alias))

    async def clear_model(
        self,
        name: str,
        *,
        keep_versions: int | None = None,
        keep_days: float | None = None,
        trial: bool = False,
    ) -> dict[str, Any]:
        """See :meth:`Client.clear_model`."""
        flow = model_flows.clear(name, keep_versions, keep_days, is_trial=trial)
        return await self.run(flow)

    async def schedules(self) -> list[dict[str, Any]]:
        """See :meth:`Client.schedules`."""
        return await self.run(flows.get_items("/v1/schedules"))

    async def run_schedule(self, name: str) -> AsyncTaskHandle:
        """See :meth:`Client.run_schedule`."""
        return AsyncTaskHandle(self, await self.run(flows.run_schedule(name)))

    async def pause_schedule(self, name: str) -> dict[str, Any]:
        """See :meth:`Client.pause_schedule`."""
        return await self.run(flows.set_schedule(name, is_paused=True))

    async def resume_schedule(self, name: str) -> dict[str, Any]:
        """See :meth:`Client.resume_schedule`."""
        return await self.run(flows.set_schedule(name, is_paused=False))

    async def get(self, path: str, **query: Any) -> Any:
        """See :meth:`Client.get`."""
        return await self.run(flows.get(path, **query))

    async def invoke(
        self,
        name: str,
        body: Any = None,
        *,
        prefer: str = "",
        terms: Terms = NO_TERMS,
        wanted: WantedValue = AS_VALUE,
    ) -> Answer:
        """See :meth:`Client.invoke`."""
        deadline, preferences = Deadline(self.timeout_s), (prefer, terms)
        flow = flows.invoke(
            name, merged(body, {}), deadline, preferences=preferences, wanted=wanted
        )
        return await self.run(flow)

    async def run(self, flow: Flow[T]) -> T:
        """See :meth:`Client.run`."""
        answer: Reply | Exception | None = None
        while True:
            try:
                step = resume(flow, answer)
            except StopIteration as end:
                value: T = end.value
                return value
            answer = await self._carry_out(step)

    async def _carry_out(self, step: Request | Pause) -> Reply | Exception | None:
        import httpx

        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            options = self.options_of(step)
            async with self._http.stream(**options, content=_content(step)) as response:
                return await _received(response, step)
        except httpx.RequestError as error:
            return self.loss_of(error, step)

    async def events_of(self, task_id: str, after: str) -> AsyncIterator[TaskEvent]:
        """See :meth:`AsyncTaskHandle.events`."""
        import httpx

        reader = EventReader(task_id, after)
        while not reader.is_done:
            loss: Exception | None = None
            request = reader.connect()
            try:
                async with self._http.stream(**self.options_of(request)) as response:
                    if response.status_code != OK:
                        await response.aread()
                        reader.answered(reply_of(response))
                    async for chunk in response.aiter_bytes():
                        for event in reader.feed(chunk):
                            yield event
            except httpx.RequestError as error:
                loss = self.loss_of(error, request)
            except UnavailableError as error:
                loss = error
            if not reader.is_done:
                await asyncio.sleep(reader.pause_s(loss))


def _content(request: Request) -> bytes | AsyncIterator[bytes] | None:
    content = request.content
    return content if content is None or isinstance(content, bytes) else _read(content)


async def _read(body: RequestBody) -> AsyncIterator[bytes]:
    """A body's pieces, each read in a thread, because it may lie on a slow disk."""
    chunks = body.chunks()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _received(response: httpx.Response, request: Request) -> Reply:
    if request.to is None or response.status_code != OK:
        await response.aread()
        return reply_of(response)
    with saving(request.to) as target:
        async for chunk in response.aiter_bytes():
            await asyncio.to_thread(target.write, chunk)
    return reply_of(response, request.to)


class AsyncTaskHandle(TaskView):
    """:class:`TaskHandle` on asyncio."""

    def __init__(self, client: AsyncClient, task: dict[str, Any]) -> None:
        super().__init__(task)
        self._client = client

    async def status(self) -> dict[str, Any]:
        """See :meth:`TaskHandle.status`."""
        self._task = await self._client.get(flows.task_path(self.id))
        return self._task

    async def result(self, timeout: float | None = None, *, to: Path | str | None = None) -> Any:
        """See :meth:`TaskHandle.result`."""
        flow = flows.ended(self.id, Deadline(timeout))
        self._task = await self._client.run(flow)
        path = None if to is None else Path(to)
        return await self._client.run(flows.result_of(self._task, path))

    async def cancel(self) -> bool:
        """See :meth:`TaskHandle.cancel`."""
        return await self._client.run(flows.cancel(self.id))

    async def retry(self) -> AsyncTaskHandle:
        """See :meth:`TaskHandle.retry`."""
        return AsyncTaskHandle(self._client, await self._client.run(flows.retry(self.id)))

    async def attempts(self) -> list[dict[str, Any]]:
        """See :meth:`TaskHandle.attempts`."""
        return await self._client.run(flows.get_items(flows.task_path(self.id) + "/attempts"))

    def events(self, after: str = "") -> AsyncIterator[TaskEvent]:
        """See :meth:`TaskHandle.events`."""
        return self._client.events_of(self.id, after)

    async def logs(self, attempt: int | None = None) -> list[dict[str, Any]]:
        """See :meth:`TaskHandle.logs`."""
        return await self._client.run(flows.logs(self.id, attempt))
