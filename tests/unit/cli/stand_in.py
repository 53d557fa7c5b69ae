"""A stand-in gateway: a real HTTP server that speaks the documented surface, functions made up.

What a function does is in its name: ``plain.*`` answer directly, ``train.*`` with a task.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.unit.cli.played_models import PlayedModels, drop

TERMINAL = ("succeeded", "failed", "timed_out", "cancelled", "crashed", "expired")
SCHEDULES = ("train.ok", "weekly", "odd")
FUNCTIONS = ("plain.echo", "plain.boom", "train.ok", "train.fail")
HOUSE = {"type": "object", "properties": {"rm": {"type": "number"}}, "required": ["rm"]}


@dataclass
class FakeTask:
    id: str
    function: str
    body: Any
    state: str = "queued"
    error: dict[str, Any] | None = None
    events: list[tuple[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_ended(self) -> bool:
        return self.state in TERMINAL

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "function": self.function,
            "kind": "training",
            "pool": "cpu",
            "state": self.state,
            "attempt": 1,
            "max_attempts": 1,
            "created_at": "2026-01-01T10:00:00Z",
            "started_at": "2026-01-01T10:00:01Z",
            "finished_at": "2026-01-01T10:01:05Z" if self.is_ended else None,
            "progress": {"done": 3, "total": 3},
            "error": self.error,
            "model": "boston@1",
            "code": "abc",
        }

    def emit(self, type_: str, data: Any) -> None:
        self.events.append((type_, data))
        self.changed.set()

    def end(self, state: str, error: dict[str, Any] | None = None) -> None:
        if not self.is_ended:
            self.state, self.error = state, error
            self.emit("done", {"state": state})


@dataclass
class StandIn:
    """The server, with what it was asked and knobs for how it answers."""

    url: str = ""
    key: str | None = None
    waits: bool = True
    """Whether it understands ``?wait=``."""
    is_ready: bool = True
    step_s: float = 0.02
    calls: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    tasks: dict[str, FakeTask] = field(default_factory=dict)
    models: PlayedModels = field(default_factory=PlayedModels)
    keys_used: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=lambda: {"weekly"})
    """Names of schedules."""
    drops: int = 0
    """How many further requests lose their connection once they have taken effect."""
    running: set[asyncio.Task[None]] = field(default_factory=set)

    def reset(self) -> StandIn:
        """Forget everything but the address."""
        fresh = vars(StandIn())
        for name in fresh.keys() - {"url", "tasks", "running", "models"}:
            setattr(self, name, fresh[name])
        vars(self.models).update(vars(PlayedModels()))  # because its routes are served already
        return self

    def asked(self, path_part: str) -> list[dict[str, str]]:
        """Headers of the requests whose path contains ``path_part``."""
        return [headers for _, path, headers in self.requests if path_part in path]

    # --- functions ---

    async def invoke(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.body()
        self.calls[name] += 1
        if not name.startswith(("plain.", "train.")):
            return problem(404, "unknown-function", f"There is no function {name!r}.")
        try:
            value = json.loads(body)
        except ValueError:
            return problem(400, "invalid-input", "The body is not JSON.")
        prefer = request.headers.get("prefer", "")
        if name.startswith("train.") or prefer:
            return await self.accept(request, name, value, prefer)
        return await self.answer(request, name, value)

    async def answer(self, request: Request, name: str, value: Any) -> Response:
        count = self.calls[name]
        table: dict[str, Response] = {
            "plain.echo": json_reply(value),
            "plain.boom": problem(
                500,
                "function-error",
                "ValueError: no such house",
                traceback='File "functions/plain.py", line 3, in boom\nValueError: no such house\n',
            ),
            "plain.died": problem(502, "worker-lost", "The process died."),
            "plain.late": problem(504, "function-timeout", "The deadline passed."),
            "plain.broken": problem(
                503, "function-broken", "functions/plain.py:3 does not load.", retry_after="1"
            ),
            "plain.bug": problem(500, "internal-error", "Skipper itself failed."),
            "plain.strict": problem(
                422,
                "invalid-input",
                "The input does not match.",
                errors=[{"pointer": "/rm", "detail": "Input should be a valid number"}],
            ),
            "plain.proxy": PlainTextResponse("<html>Bad gateway</html>", 502),
            "plain.text": PlainTextResponse("hello"),
        }
        if name == "plain.slow":
            await asyncio.sleep(0.5)
            return json_reply("slow")
        if name == "plain.busy" and count > 2:
            return json_reply(count)
        if name in ("plain.busy", "plain.full"):
            return problem(503, "queue-full", "The queue is full.", retry_after="0")
        if name == "plain.dropped":
            return drop(request)
        return table[name]

    # --- tasks ---

    async def accept(self, request: Request, name: str, body: Any, prefer: str) -> Response:
        key = request.headers.get("idempotency-key")
        if key in self.keys_used:
            return accepted(self.tasks[self.keys_used[key]])
        task = FakeTask(f"task{len(self.tasks)}", name, body)
        self.tasks[task.id] = task
        if key is not None:
            self.keys_used[key] = task.id
        run = asyncio.ensure_future(self.run(task))
        self.running.add(run)
        run.add_done_callback(self.running.discard)
        if self.drops:
            self.drops -= 1
            return drop(request)
        if "wait=" in prefer:
            await self.until_end(task, float(prefer.partition("wait=")[2]))
        return json_reply(task.body) if task.state == "succeeded" else accepted(task)

    async def run(self, task: FakeTask) -> None:
        task.state = "running"
        task.emit("state", {"state": "running", "attempt": 1})
        line = {"attempt": 1, "line": 3, "stream": "stdout", "text": "réading", "dropped": 2}
        task.emit("log", {"at": "2026-01-01T10:00:02Z", **line})
        for epoch in range(1, 4):
            await asyncio.sleep(self.step_s)
            at = "2026-01-01T10:00:03Z"
            task.emit("progress", {"at": at, "done": epoch, "total": 3, "loss": 1 / epoch})
        endings = {
            "train.fail": (
                "failed",
                {
                    "status": 500,
                    "detail": "ValueError: no table",
                    "traceback": "in fail\n\x1b[2J\x07ValueError: no table\n",
                },
            ),
            "train.invalid": ("failed", {"status": 422, "detail": "The input does not match."}),
            "train.late": ("timed_out", None),
            "train.crash": ("crashed", {"status": 502, "detail": "killed by signal 9"}),
            "train.expire": ("expired", None),
        }
        if task.function == "train.forever":
            await asyncio.sleep(60)
        task.end(*endings.get(task.function, ("succeeded", None)))

    async def until_end(self, task: FakeTask, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not task.is_ended and (left := end - time.monotonic()) > 0:
            task.changed.clear()
            try:
                await asyncio.wait_for(task.changed.wait(), left)
            except TimeoutError:
                return

    async def task(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["id"])
        if task is None:
            return problem(404, "unknown-task", "There is no such task.")
        if self.drops:
            self.drops -= 1
            return drop(request)
        if self.waits and (wait := request.query_params.get("wait")):
            await self.until_end(task, float(wait))
        return json_reply(task.json())

    async def result(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        return json_reply({"trained": task.body})

    async def rescue(self, request: Request) -> Response:
        if request.path_params["id"] not in self.tasks:
            return problem(404, "unknown-task", "There is no such task.")
        return Response(b"a tar", media_type="application/x-tar")

    async def cancel(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["id"])
        if task is None:
            return problem(404, "unknown-task", "There is no such task.")
        if task.is_ended:
            return problem(409, "conflict", f"The task had already ended: {task.state}.")
        task.end("cancelled")
        return json_reply(task.json(), 202)

    async def retry(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["id"])
        if task is None:
            return problem(404, "unknown-task", "There is no such task.")
        if not task.is_ended:
            return problem(409, "conflict", f"The task has not ended: {task.state}.")
        return await self.accept(request, task.function, task.body, "respond-async")

    async def attempts(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        times = {"started_at": "2026-01-01T10:00:01Z", "ended_at": "2026-01-01T10:01:05Z"}
        where = {"instance": "train.ok#12", "code": "abc", "model": None}
        lost = {"number": 1, "outcome": "lost", "error": None, **times, **where}
        last = {"number": 2, "outcome": task.state, "error": task.error, **times, **where}
        return json_reply({"items": [lost, last]})

    async def logs(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        attempt = request.query_params.get("attempt", "1")
        lines = [data for type_, data in task.events if type_ == "log"]
        own = [data for data in lines if str(data["attempt"]) == attempt]
        return json_reply({"items": own, "next": None, "dropped": 2})

    async def events(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["id"])
        if task is None:
            return problem(404, "unknown-task", "There is no such task.")
        after = int(request.headers.get("last-event-id", "0"))
        if task.is_ended and after == len(task.events):
            return Response(status_code=204)
        return StreamingResponse(self.stream(task, after), media_type="text/event-stream")

    async def stream(self, task: FakeTask, after: int) -> AsyncIterator[bytes]:
        yield b"retry: 10\n\n: ping\n\n"
        sent = after
        while True:
            task.changed.clear()
            for number, (type_, data) in enumerate(task.events[sent:], sent + 1):
                text = json.dumps(data, ensure_ascii=False)
                yield f"id: {number}\nevent: {type_}\ndata: {text}\n\n".encode()
                sent = number
                if task.function == "train.flaky" and number == after + 2:
                    return
            if task.events and task.events[-1][0] == "done" and sent == len(task.events):
                return
            await task.changed.wait()

    # --- schedules ---

    async def schedules(self, _: Request) -> Response:
        return json_reply({"items": [self.schedule_of(name) for name in SCHEDULES], "next": None})

    async def schedule(self, request: Request) -> Response:
        name, verb = request.path_params["name"], request.path_params.get("verb")
        if name not in SCHEDULES:
            return problem(404, "not-found", f"There is no schedule {name!r}.")
        self.calls[f"{verb} {name}"] += 1
        if verb == "run":
            return await self.accept(request, "train.ok", {}, "respond-async")
        if verb == "pause":
            self.paused.add(name)
        elif verb == "resume":
            self.paused.discard(name)
        return json_reply(self.schedule_of(name))

    def schedule_of(self, name: str) -> dict[str, Any]:
        """``train.ok`` runs in a bit more than three hours, and ran two days ago."""
        is_active = name == "train.ok" and name not in self.paused
        now = time.time()
        return {
            "name": name,
            "function": "train.gone" if name == "odd" else "train.ok",
            "cron": "0 3 * * *",
            "timezone": "Europe/Vilnius",
            "missed": "once",
            "overlap": "queue",
            "body": {"epochs": 5},
            "origin": "code" if name == "train.ok" else "settings",
            "state": "unserved" if name == "odd" else "active" if is_active else "paused",
            "next_at": stamp(now + 3 * 3600 + 60) if is_active else None,
            "last_at": stamp(now - 2 * 86400 - 60) if name == "train.ok" else None,
            "last_task": None,
        }

    async def list_tasks(self, request: Request) -> Response:
        state, function = request.query_params.get("state"), request.query_params.get("function")
        items = [
            task.json()
            for task in self.tasks.values()
            if state in (None, task.state) and function in (None, task.function)
        ]
        limit = int(request.query_params.get("limit", "50"))
        return json_reply({"items": items[:limit], "next": "c1" if len(items) > limit else None})

    # --- the rest ---

    async def functions(self, _: Request) -> Response:
        broken = [{"file": "functions/bad.py", "line": 3, "error": "NameError: np", "hint": ""}]
        return json_reply(
            {"items": [spec(name) for name in FUNCTIONS], "broken": broken, "loading": []}
        )

    async def function(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not name.startswith(("plain.", "train.")):
            return problem(404, "unknown-function", f"There is no function {name!r}.")
        return json_reply(spec(name))

    async def pools(self, _: Request) -> Response:
        instance = {"function": "plain.echo", "code": "abc", "state": "serving", "pid": 12}
        pool = {
            "pool": "cpu",
            "host_id": "h1",
            "pid": 11,
            "reachable": True,
            "devices": [],
            "slots": 4,
            "task_slots": 2,
            "busy": 1,
            "queued": {"direct": 0, "tasks": 0},
            "instances": [instance],
            "templates": [],
            "consumer": True,
        }
        return json_reply({"items": [pool]})

    async def webhooks(self, _: Request) -> Response:
        item = {"name": "ops", "origin": "https://ops.example.com", "events": ["failed", "crashed"]}
        return json_reply({"items": [item | {"functions": ["boston.*"], "timeout_s": 10.0}]})

    async def test_webhook(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == "none":
            return problem(404, "not-found", "There is no webhook 'none'.")
        task = FakeTask(f"task{len(self.tasks)}", "webhooks._deliver", None)
        task.end(*(("failed", {"detail": "it answered 500"}) if name == "down" else ("succeeded",)))
        self.tasks[task.id] = task
        return accepted(task)

    async def readyz(self, _: Request) -> Response:
        mark = "[+]broker ok" if self.is_ready else "[-]broker not reachable"
        status = 200 if self.is_ready else 503
        return PlainTextResponse(f"[+]ledger ok\n{mark}\n", status)

    # --- serving ---

    def app(self) -> Any:
        routes = [
            Route("/v1/functions", self.functions),
            Route("/v1/functions/{name}", self.function),
            Route("/v1/functions/{name}/invoke", self.invoke, methods=["POST"]),
            Route("/v1/tasks", self.list_tasks),
            Route("/v1/tasks/{id}", self.task),
            Route("/v1/tasks/{id}/result", self.result),
            Route("/v1/tasks/{id}/rescue", self.rescue),
            Route("/v1/tasks/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/tasks/{id}/retry", self.retry, methods=["POST"]),
            Route("/v1/tasks/{id}/attempts", self.attempts),
            Route("/v1/tasks/{id}/logs", self.logs),
            Route("/v1/tasks/{id}/events", self.events),
            Route("/v1/schedules", self.schedules),
            Route("/v1/schedules/{name}", self.schedule),
            Route("/v1/schedules/{name}/{verb}", self.schedule, methods=["POST"]),
            *self.models.routes(),
            Route("/v1/pools", self.pools),
            Route("/v1/webhooks", self.webhooks),
            Route("/v1/webhooks/{name}/test", self.test_webhook, methods=["POST"]),
            Route("/readyz", self.readyz),
        ]
        starlette = Starlette(routes=routes)

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                request = Request(scope)
                self.requests.append((request.method, request.url.path, dict(request.headers)))
                given = request.headers.get("authorization")
                if self.key and given != f"Bearer {self.key}" and scope["path"] != "/readyz":
                    refusal = problem(401, "unauthorised", "This gateway wants an API key.")
                    await refusal(scope, receive, send)
                    return
            await starlette(scope, receive, send)

        return guarded


def spec(name: str) -> dict[str, Any]:
    kind = "training" if name.startswith("train.") else "inference"
    return {
        "name": name,
        "kind": kind,
        "pool": "cpu",
        "mode": "task" if kind == "training" else "direct",
        "summary": f"What {name} does.",
        "file": "functions/plain.py",
        "line": 3,
        "code": "abc",
        "input_schema": HOUSE,
        "output_schema": {},
        "state": "live",
        "pool_ready": True,
        "limits": [{"what": "direct calls that wait", "value": "9", "moved_by": "pools.cpu.queue"}],
    }


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def json_reply(value: Any, status: int = 200) -> Response:
    return JSONResponse(value, status, headers={"x-skipper-code": "abc"})


def accepted(task: FakeTask) -> Response:
    headers = {"location": f"/v1/tasks/{task.id}", "retry-after": "1"}
    return JSONResponse(task.json(), 202, headers=headers)


def problem(
    status: int, type_: str, detail: str, *, retry_after: str | None = None, **members: Any
) -> Response:
    document = {"type": f"/problems/{type_}", "title": type_, "status": status, "detail": detail}
    return JSONResponse(
        document | members,
        status,
        headers={"retry-after": retry_after} if retry_after is not None else None,
        media_type="application/problem+json",
    )


@contextmanager
def serving() -> Iterator[StandIn]:
    """A stand-in on a free port of its own."""
    stand_in = StandIn()
    listener = socket.create_server(("127.0.0.1", 0))
    stand_in.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        stand_in.app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield stand_in
    finally:
        server.force_exit = server.should_exit = True
        thread.join(10)
        listener.close()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
