"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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


class Client(HttpConnection):
    """A blocking client of one gateway; may be shared by threads, and used in a ``with`` block."""

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
        transport = httpx.HTTPTransport(**self.transport_options())
        self._http = httpx.Client(transport=transport, **self.client_options())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. No call may be made afterwards."""
        self._http.close()

    def call(self, name: str, body: Any = None, /, **params: Any) -> Any:
        """Run a function and return its value; where that is a task's, wait for the task.

        ``body`` is plain data (bytes in its place are taken as JSON already); ``params`` are
        members of it. In either may stand, wherever the function takes them, bytes, paths, files
        opened in binary mode, :class:`skipper.File`, arrays, pictures and tables; files are read as
        they are sent. Values come back so: arrays, pictures and tables where NumPy, Pillow and
        Arrow are installed, else as bytes. Raises a :class:`~skipper.errors.CallError` that holds
        the problem document where the run ended without a value, NotFoundError or UnavailableError
        where there was none, TypeError for what the function cannot be sent, OSError.
        """
        return self.run(flows.call(name, merged(body, params), self.timeout_s))

    def call_to(self, to: Path | str, name: str, body: Any = None, /, **params: Any) -> Path:
        """:meth:`call`, with the value written to the file ``to``, piece by piece as it comes.

        The file is there once it is whole: what lay there before stays until then. Returns its
        path. Raises as :meth:`call` does, and OSError.
        """
        self.run(flows.call(name, merged(body, params), self.timeout_s, Path(to)))
        return Path(to)

    def spawn(
        self,
        name: str,
        body: Any = None,
        /,
        *,
        priority: int | None = None,
        delay: float | str | None = None,
        expires: float | str | None = None,
        **params: Any,
    ) -> TaskHandle:
        """Have a function run as a task and return at once.

        It starts before waiting tasks of a lower ``priority`` (-10 to 10), not before ``delay`` has
        passed, and ends ``expired`` if nobody has started it within ``expires`` from then on; times
        are seconds, or ``"90s"``, ``"5m"``. Parameters with one of these names go into ``body``.
        """
        terms = Terms(priority=priority, delay=delay, expires=expires)
        return TaskHandle(self, self.run(flows.spawn(name, merged(body, params), terms)))

    def map(
        self, name: str, /, *iterables: Iterable[Any], return_exceptions: bool = False
    ) -> list[Any]:
        """Call once per item, up to 16 at once; the values in the items' order.

        An item is the function's argument, or a dict of all of them, as a body is; several
        iterables have an argument each. No more is taken from them than is under way. The first
        error is raised, and what has not begun is left out; its ``item`` is the item's index. With
        ``return_exceptions`` errors stand among the values.
        """
        names = self.run(flows.parameters(name))
        calls = mapping.of_items(names or (), iterables)
        return self._gathered(name, names, calls, return_exceptions)

    def starmap(
        self, name: str, tuples: Iterable[Iterable[Any]], /, *, return_exceptions: bool = False
    ) -> list[Any]:
        """:meth:`map`, with a tuple of arguments per item."""
        names = self.run(flows.parameters(name))
        return self._gathered(name, names, mapping.of_tuples(tuples), return_exceptions)

    def _gathered(
        self,
        name: str,
        names: list[str] | None,
        calls: Iterator[mapping.Arguments],
        keeps_errors: bool,
    ) -> list[Any]:
        with ThreadPoolExecutor(MAP_WIDTH, thread_name_prefix="skipper-map") as pool:

            def start(call: mapping.Arguments) -> Callable[[], Any]:
                body = flows.body_of_item(names, call)
                return pool.submit(self.call, name, body).result

            values = mapping.in_order(calls, start, keeps_errors=keeps_errors, window=2 * MAP_WIDTH)
            try:
                return list(values)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stream(self, name: str, body: Any = None, /, **params: Any) -> Iterator[Any]:
        """A generator's items, each as soon as it has been made; leaving the loop ends the run.

        Raises as :meth:`call` does, once the first item is asked for; after items what the function
        raised then, UnavailableError where the connection breaks; TypeError for a function that
        does not stream.
        """
        import httpx

        request, uploads = self.run(flows.stream(name, merged(body, params)))
        reader = ItemReader()
        try:
            options = self.options_of(request)
            with self._http.stream(**options, content=_content(request)) as response:
                if response.status_code != OK:
                    response.read()
                    checked(reply_of(response))
                for chunk in response.iter_bytes():
                    yield from reader.feed(chunk)
                    reader.check()
            reader.end()
        except httpx.RequestError as error:
            raise self.loss_of(error, request) from None
        finally:
            self.run(flows.forget(uploads))

    def upload(
        self, source: Any, *, name: str | None = None, media_type: str | None = None
    ) -> dict[str, Any]:
        """Have the gateway keep a file; its record, whose ``id`` goes into calls.

        ``source`` is what :meth:`call` takes for one: ``{"file": record["id"]}`` stands for it
        there, as often as needed until it expires. Raises UnavailableError where there is no room
        for it, InvalidInputError for too large a one, OSError.
        """
        return self.run(flows.upload(file_source(source, name, media_type)))

    def file(self, file_id: str) -> dict[str, Any]:
        """What is known of an uploaded file. Raises NotFoundError."""
        return self.run(flows.get(flows.file_path(file_id) + "/info"))

    def download(self, file_id: str, to: Path | str) -> Path:
        """Write an uploaded file to ``to``, piece by piece; its path. Raises NotFoundError."""
        self.run(flows.download(file_id, Path(to)))
        return Path(to)

    def delete_file(self, file_id: str) -> None:
        """Forget an uploaded file; tasks that were given it keep it. Raises NotFoundError."""
        self.run(flows.delete_file(file_id))

    def task(self, task_id: str) -> TaskHandle:
        """The task with this id. Raises NotFoundError."""
        return TaskHandle(self, self.get(flows.task_path(task_id)))

    def functions(self) -> list[dict[str, Any]]:
        """Every function that is served."""
        return self.run(flows.get_items("/v1/functions"))

    def models(self) -> list[dict[str, Any]]:
        """Every stored model."""
        return self.run(flows.get_items("/v1/models"))

    def rescue(self, task_id: str, to: Path | str) -> Path:
        """Write to ``to`` what there is of a model that a failed task has trained: a tar; its path.

        Raises NotFoundError where nothing was kept.
        """
        self.run(model_flows.rescue(task_id, Path(to)))
        return Path(to)

    def model_version(self, name: str, version: int | str) -> dict[str, Any]:
        """One version of a model, by its number, role or alias: metrics, parameters, files …

        Raises NotFoundError.
        """
        return self.run(model_flows.version(name, version))

    def export_model(self, name: str, version: int | str, to: Path | str) -> Path:
        """Write a version to ``to``, a tar of what is known of it and its files; its path.

        Raises NotFoundError, UnavailableError where a file of it is damaged or gone.
        """
        self.run(model_flows.export(name, version, Path(to)))
        return Path(to)

    def import_model(self, source: Any, *, name: str | None = None) -> dict[str, Any]:
        """Have a version that was exported become the next one of ``name``, or of its own name.

        ``source`` is a path or an open file. The version, which serves nobody until it is promoted.
        Raises InvalidInputError for what is no such file or damaged, UnavailableError where there
        is no room for it, OSError.
        """
        return self.run(model_flows.import_(file_source(source), name))

    def deployment(self, name: str) -> dict[str, Any]:
        """Which versions of a model serve: its deployment record. Raises NotFoundError."""
        return self.run(model_flows.deployment(name))

    def deployments(self, name: str) -> list[dict[str, Any]]:
        """Every record that has held for a model, the newest first. Raises NotFoundError."""
        return self.run(flows.get_items(flows.model_path(name) + "/deployments"))

    def change_deployment(
        self, name: str, changed: Mapping[str, Any], *, follows: int | None = None
    ) -> dict[str, Any]:
        """Set ``production``, ``candidate`` and ``percent``, ``shadow`` or ``aliases``; the record.

        Members that are left out stay as they are. ``follows`` is the revision that it was made
        from: ConflictError where another holds by now. Raises NotFoundError, DeploymentError.
        """
        return self.run(model_flows.change(name, dict(changed), follows))

    def promote(
        self,
        name: str,
        version: int | str,
        *,
        percent: float | None = None,
        why: str | None = None,
        force: bool = False,
        follows: int | None = None,
    ) -> dict[str, Any]:
        """Put a version in production, by its number, role or alias; the record.

        With ``percent`` it becomes the candidate, which answers that much of the calls. Calls sent
        afterwards are served so, on every host of the gateway's machine that is not among the
        record's ``pending``. ``force`` and a reason promote one that its gate keeps out, which else
        is a KeptOutError. Raises as :meth:`change_deployment`.
        """
        terms = model_flows.terms(version, percent=percent, why=why, force=force)
        return self.run(model_flows.promote(name, terms, follows))

    def roll_back(
        self, name: str, *, why: str | None = None, follows: int | None = None
    ) -> dict[str, Any]:
        """Put what was in production before back there, and end a canary; the record.

        Raises as :meth:`change_deployment`.
        """
        return self.run(model_flows.roll_back(name, why, follows))

    def set_alias(self, name: str, alias: str, version: int | str) -> dict[str, Any]:
        """Have ``NAME@ALIAS`` mean a version; the record. Raises as :meth:`change_deployment`."""
        return self.run(model_flows.set_alias(name, alias, version))

    def delete_alias(self, name: str, alias: str) -> dict[str, Any]:
        """Have ``NAME@ALIAS`` mean nothing; the record. Raises NotFoundError."""
        return self.run(model_flows.delete_alias(name, alias))

    def clear_model(
        self,
        name: str,
        *,
        keep_versions: int | None = None,
        keep_days: float | None = None,
        trial: bool = False,
    ) -> dict[str, Any]:
        """Remove old versions of a model that nobody holds; ``removed``, and who ``held`` others.

        Kept are the newest ``keep_versions`` and those of the last ``keep_days``, or what the
        settings say. A ``trial`` removes nothing. Raises NotFoundError, InvalidInputError.
        """
        flow = model_flows.clear(name, keep_versions, keep_days, is_trial=trial)
        return self.run(flow)

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule."""
        return self.run(flows.get_items("/v1/schedules"))

    def run_schedule(self, name: str) -> TaskHandle:
        """Run what a schedule runs now, whatever its times. Raises NotFoundError."""
        return TaskHandle(self, self.run(flows.run_schedule(name)))

    def pause_schedule(self, name: str) -> dict[str, Any]:
        """Let a schedule rest until it is resumed; the schedule. Raises NotFoundError."""
        return self.run(flows.set_schedule(name, is_paused=True))

    def resume_schedule(self, name: str) -> dict[str, Any]:
        """Have a schedule go on with its next time; the schedule. Raises NotFoundError."""
        return self.run(flows.set_schedule(name, is_paused=False))

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at any other ``path`` of the gateway. Raises as :meth:`call` does."""
        return self.run(flows.get(path, **query))

    def invoke(
        self,
        name: str,
        body: Any = None,
        *,
        prefer: str = "",
        terms: Terms = NO_TERMS,
        wanted: WantedValue = AS_VALUE,
    ) -> Answer:
        """One request, answered with a value or a task, as the function or ``prefer`` has it.

        ``body`` is what :meth:`call` takes, ``prefer`` as RFC 7240 writes it; ``wanted`` says how
        the value is to come. Raises as :meth:`call` does.
        """
        deadline, preferences = Deadline(self.timeout_s), (prefer, terms)
        flow = flows.invoke(
            name, merged(body, {}), deadline, preferences=preferences, wanted=wanted
        )
        return self.run(flow)

    def run(self, flow: Flow[T]) -> T:
        """Carry a flow out; its value. Raises what the flow raises."""
        answer: Reply | Exception | None = None
        while True:
            try:
                step = resume(flow, answer)
            except StopIteration as end:
                value: T = end.value
                return value
            answer = self._carry_out(step)

    def _carry_out(self, step: Request | Pause) -> Reply | Exception | None:
        import httpx

        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            with self._http.stream(**self.options_of(step), content=_content(step)) as response:
                return _received(response, step)
        except httpx.RequestError as error:
            return self.loss_of(error, step)

    def events_of(self, task_id: str, after: str) -> Iterator[TaskEvent]:
        """See :meth:`TaskHandle.events`."""
        import httpx

        reader = EventReader(task_id, after)
        while not reader.is_done:
            loss: Exception | None = None
            request = reader.connect()
            try:
                with self._http.stream(**self.options_of(request)) as response:
                    if response.status_code != OK:
                        response.read()
                        reader.answered(reply_of(response))
                    for chunk in response.iter_bytes():
                        yield from reader.feed(chunk)
            except httpx.RequestError as error:
                loss = self.loss_of(error, request)
            except UnavailableError as error:
                loss = error
            if not reader.is_done:
                time.sleep(reader.pause_s(loss))


def _content(request: Request) -> bytes | Iterator[bytes] | None:
    content = request.content
    return content if content is None or isinstance(content, bytes) else content.chunks()


def _received(response: httpx.Response, request: Request) -> Reply:
    if request.to is None or response.status_code != OK:
        response.read()
        return reply_of(response)
    with saving(request.to) as target:
        for chunk in response.iter_bytes():
            target.write(chunk)
    return reply_of(response, request.to)


class TaskHandle(TaskView):
    """A task of a gateway."""

    def __init__(self, client: Client, task: dict[str, Any]) -> None:
        super().__init__(task)
        self._client = client

    def status(self) -> dict[str, Any]:
        """The task as it is now."""
        self._task = self._client.get(flows.task_path(self.id))
        return self._task

    def result(self, timeout: float | None = None, *, to: Path | str | None = None) -> Any:
        """Wait for the value. Raises a CallError for a task without one.

        With ``to`` it is written to that file, piece by piece, whose path is returned. After
        ``timeout`` seconds raises DeadlineError (a TimeoutError); the task goes on.
        """
        flow = flows.ended(self.id, Deadline(timeout))
        self._task = self._client.run(flow)
        return self._client.run(flows.result_of(self._task, None if to is None else Path(to)))

    def cancel(self) -> bool:
        """Cancel it, whether it waits or runs. False where it had already ended."""
        return self._client.run(flows.cancel(self.id))

    def retry(self) -> TaskHandle:
        """Run its function again on the same input; the new task. CallError: it has not ended."""
        return TaskHandle(self._client, self._client.run(flows.retry(self.id)))

    def attempts(self) -> list[dict[str, Any]]:
        """Each run of it: dicts of ``number, started_at, ended_at, instance, outcome, error`` …"""
        return self._client.run(flows.get_items(flows.task_path(self.id) + "/attempts"))

    def events(self, after: str = "") -> Iterator[TaskEvent]:
        """What has happened and what happens, live, up to ``done``; outlives lost connections.

        With ``after``, the id of an event seen earlier, only what came since. Raises NotFoundError
        for a task that is gone, UnavailableError where the gateway stays away for some ten seconds.
        """
        return self._client.events_of(self.id, after)

    def logs(self, attempt: int | None = None) -> list[dict[str, Any]]:
        """What the function printed and logged: dicts of ``at, attempt, line, stream, text``.

        Where lines before one are not kept, its ``dropped`` says how many.
        """
        return self._client.run(flows.logs(self.id, attempt))
