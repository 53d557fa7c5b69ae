"""How long calls may take, callers who leave, and calls that meet the end of their gateway."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from skipper.gateway.calls import Dispatcher
from skipper.gateway.invoke import Invoke
from skipper.outcomes import Outcome
from skipper.settings.model import TaskSettings
from skipper.spec import FunctionSpec
from skipper.wire import calls
from tests.unit.gateway.asgi import Answer, request
from tests.unit.gateway.played import SPEC, PlayedDirectory, PlayedLink, settle

STREAMING = SPEC.model_copy(update={"streams": True})
SSE = {"Accept": "text/event-stream"}


def endpoint(link: PlayedLink | None, spec: FunctionSpec = SPEC) -> Invoke:
    """The endpoint of calls that become no tasks."""
    directory: Any = PlayedDirectory(link, spec)
    nothing: Any = None
    dispatcher = Dispatcher(
        directory, nothing, nothing, shows_tracebacks=False, terms=TaskSettings()
    )
    context: Any = SimpleNamespace(calls=dispatcher, max_body=1000)
    return Invoke(context)


async def test_a_value_is_answered_with_what_served_it() -> None:
    link = PlayedLink(calls.reply(Outcome.OK, b"c0de net@3", b"7"))
    answer = await request(endpoint(link), "POST", path_params={"name": "f.f"})
    assert (answer.status, answer.body) == (200, b"7")
    assert (answer.headers["x-skipper-code"], answer.headers["x-skipper-model"]) == (
        "c0de",
        "net@3",
    )


async def test_a_problem_is_answered_with_what_served_it_and_the_requests_id() -> None:
    link = PlayedLink(calls.problem(Outcome.FAILED, "no", b"c0de"))
    headers = {"X-Request-Id": "an-id"}
    answer = await request(endpoint(link), "POST", headers=headers, path_params={"name": "f.f"})
    assert (answer.status, answer.json["detail"]) == (500, "no")
    assert (answer.headers["x-skipper-code"], answer.headers["x-request-id"]) == ("c0de", "an-id")


# --- deadlines -------------------------------------------------------------------------------


async def slowly_received(
    monkeypatch: pytest.MonkeyPatch, seconds: float, timeout_s: float | None
) -> tuple[PlayedLink, list[Any]]:
    """A call whose body came ``seconds`` after its head: what its host and its caller were sent."""
    link, loop = PlayedLink(), asyncio.get_running_loop()
    sent: list[Any] = []
    clock = loop.time

    async def receive() -> Any:
        monkeypatch.setattr(loop, "time", lambda: clock() + seconds)
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    invoke = endpoint(link, SPEC.model_copy(update={"timeout_s": timeout_s}))
    scope = {"type": "http", "headers": [], "path_params": {"name": "f.f"}}
    calling = asyncio.create_task(invoke(scope, receive, send))
    await settle()
    calling.cancel()
    await asyncio.wait({calling})
    return link, sent


@pytest.mark.parametrize(
    ("seconds", "timeout_s", "least_ms", "most_ms"),
    [(0.0, None, 59_000, 60_001), (20.0, None, 39_000, 40_001), (2.0, 8.0, 5_000, 6_001)],
)
async def test_a_deadline_counts_from_the_receipt(
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    timeout_s: float | None,
    least_ms: int,
    most_ms: int,
) -> None:
    link, _ = await slowly_received(monkeypatch, seconds, timeout_s)
    assert least_ms <= calls.call_key(link.payloads[0]).budget_ms <= most_ms


async def test_a_call_whose_time_is_over_is_not_sent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    link, sent = await slowly_received(monkeypatch, 9.0, 8.0)
    assert link.payloads == []
    assert sent[0]["status"] == 504
    assert b"the deadline passed before" in sent[1]["body"]


# --- callers who leave -----------------------------------------------------------------------


class Caller:
    """A caller who leaves as a test lets it."""

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self._scope = {
            "type": "http",
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
            "path_params": {"name": "f.f"},
        }
        self._has_sent = False
        self.leaves = asyncio.Event()
        self.received: list[Any] = []

    async def call(self, invoke: Invoke) -> None:
        await invoke(self._scope, self._receive, self._send)

    async def _receive(self) -> Any:
        if not self._has_sent:
            self._has_sent = True
            return {"type": "http.request", "body": b""}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.received.append(message)


async def test_a_caller_who_leaves_a_slow_call_has_it_given_up_and_is_sent_nothing() -> None:
    link, caller = PlayedLink(), Caller()
    calling = asyncio.create_task(caller.call(endpoint(link)))
    await settle()
    (pending,) = link.sent
    assert pending.on_slow is not None
    pending.on_slow(pending)
    caller.leaves.set()
    await asyncio.wait_for(calling, 5)
    assert link.cancelled == [pending]
    assert caller.received == []


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_caller_who_leaves_a_stream_has_it_given_up(has_begun: bool) -> None:
    link, caller = PlayedLink(), Caller(SSE)
    calling = asyncio.create_task(caller.call(endpoint(link, STREAMING)))
    await settle()
    (pending,) = link.sent
    assert pending.items is not None
    if has_begun:
        pending.items.put_nowait(b"c0de")
        pending.items.put_nowait(b"1")
        await settle()
    assert bool(caller.received) is has_begun
    caller.leaves.set()
    await asyncio.wait_for(calling, 5)
    assert link.cancelled == [pending]


async def test_a_stream_that_fails_before_its_first_item_is_a_problem_with_what_served_it() -> None:
    link, caller = PlayedLink(), Caller(SSE)
    calling = asyncio.create_task(caller.call(endpoint(link, STREAMING)))
    await settle()
    (pending,) = link.sent
    assert pending.items is not None
    pending.items.put_nowait(b"c0de")
    pending.answer(calls.problem(Outcome.FAILED, "no", b"c0de"))
    await asyncio.wait_for(calling, 5)
    assert caller.received[0]["status"] == 500
    assert (b"x-skipper-code", b"c0de") in caller.received[0]["headers"]


# --- the end of the gateway ------------------------------------------------------------------


async def cut_short(link: PlayedLink | None) -> Answer:
    """The answer to a call that the server cancels at the end of its grace."""
    calling = asyncio.create_task(
        request(endpoint(link), "POST", path_params={"name": "f.f"}),
    )
    await settle()
    calling.cancel()
    return await calling


async def test_a_call_that_waits_for_its_function_is_answered_that_the_gateway_shuts_down() -> None:
    answer = await cut_short(None)
    assert (answer.status, answer.json["detail"]) == (503, "the gateway shuts down")


async def test_a_call_that_runs_is_answered_so_too_and_given_up() -> None:
    link = PlayedLink()
    answer = await cut_short(link)
    assert answer.status == 503
    assert link.cancelled == link.sent
