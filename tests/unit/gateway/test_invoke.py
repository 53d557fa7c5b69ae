"""How long calls may take, and those that meet the end of their gateway."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from skipper.gateway.invoke import Invoke
from skipper.spec import FunctionSpec, Kind
from skipper.wire import calls
from tests.unit.gateway.asgi import Answer, request

SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.DATA,
    file="f.py",
    line=1,
    code="c0de",
    input_schema={},
    output_schema={},
)


class Link:
    """A link over which no answer comes."""

    is_up = True

    def __init__(self) -> None:
        self.cancelled: list[Any] = []
        self.payloads: list[bytes] = []

    def call(self, payload: bytes, deadline: float, on_item: object = None) -> Any:
        self.payloads.append(payload)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return SimpleNamespace(link=self, reply=reply)

    def cancel(self, waiting: object) -> None:
        self.cancelled.append(waiting)


class Directory:
    """Knows ``f.f``, or is told of it for ever so long."""

    def __init__(self, link: Link | None) -> None:
        self._link = link

    def get(self, name: str) -> Any:
        return (SPEC, self._link) if self._link else None

    remembered = get

    async def find(self, name: str, patience_s: float) -> Any:
        await asyncio.Event().wait()


async def slowly_received(
    monkeypatch: pytest.MonkeyPatch, seconds: float, timeout_s: float | None
) -> tuple[Link, list[Any]]:
    """A call whose body came ``seconds`` after its head: what its host was sent, and its caller."""
    link, told, loop = Link(), [], asyncio.get_running_loop()
    spec, clock = SPEC.model_copy(update={"timeout_s": timeout_s}), loop.time
    directory = SimpleNamespace(get=lambda _: (spec, link), remembered=lambda _: (spec, link))
    context: Any = SimpleNamespace(directory=directory, max_body=1000, shows_tracebacks=False)

    async def receive() -> Any:
        monkeypatch.setattr(loop, "time", lambda: clock() + seconds)
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {"type": "http", "headers": [], "path_params": {"name": "f.f"}}
    calling = asyncio.create_task(Invoke(lambda: context)(scope, receive, send))
    for _ in range(5):
        await asyncio.sleep(0)
    calling.cancel()
    await asyncio.wait({calling})
    return link, told


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
    link, told = await slowly_received(monkeypatch, 9.0, 8.0)
    assert link.payloads == []
    assert told[0]["status"] == 504
    assert b"the deadline passed before" in told[1]["body"]


async def cut_short(directory: Directory) -> Answer:
    """The answer to a call that the server cancels at the end of its patience."""
    context: Any = SimpleNamespace(directory=directory, max_body=1000, shows_tracebacks=False)
    asking = request(Invoke(lambda: context), "POST", path_params={"name": "f.f"})
    calling = asyncio.create_task(asking)
    for _ in range(5):
        await asyncio.sleep(0)
    calling.cancel()
    return await calling


async def test_a_call_that_waits_for_its_function_hears_that_the_gateway_shuts_down() -> None:
    answer = await cut_short(Directory(None))
    assert (answer.status, answer.json["detail"]) == (503, "the gateway shuts down")


async def test_a_call_that_runs_hears_it_too_and_its_host_is_told() -> None:
    link = Link()
    answer = await cut_short(Directory(link))
    assert answer.status == 503
    assert len(link.cancelled) == 1
