"""Calls that meet the end of their gateway."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from skipper.gateway.invoke import Invoke
from skipper.gateway.sent import WATCH_AFTER_S
from skipper.spec import FunctionSpec, Kind
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

    def call(self, payload: bytes, deadline: float, on_item: object = None) -> Any:
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


async def cut_short(directory: Directory) -> Answer:
    """The answer to a call that the server cancels at the end of its patience."""
    core: Any = SimpleNamespace(directory=directory, max_body=1000, shows_tracebacks=False)
    asking = request(Invoke(lambda: core), "POST", path_params={"name": "f.f"})
    calling = asyncio.create_task(asking)
    await asyncio.sleep(WATCH_AFTER_S / 2)
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
