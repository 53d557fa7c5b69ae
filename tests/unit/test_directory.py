"""Links to hosts that come and go: what is known of their functions meanwhile."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper import wire
from skipper.directory import Directory
from skipper.errors import UnavailableError
from skipper.spec import FunctionSpec, Kind
from skipper.wire import Frame, FrameProtocol

LIMIT_S = 5.0
SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.DATA,
    file="f.py",
    line=1,
    code="c0de",
    input_schema={},
    output_schema={},
)


class StandIn:
    """A host that says what it is told to say. Leaves as one that is killed does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._links: list[FrameProtocol] = []
        self._server: asyncio.AbstractServer | None = None
        self.catalogue: dict[str, Any] = {"loading": ["*"], "functions": [], "broken": []}

    async def come(self, **catalogue: Any) -> None:
        self.catalogue = {"loading": [], "functions": [], "broken": []} | catalogue
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: FrameProtocol(self._frames, lambda _: None, self._links.append), self._path
        )

    def say(self, **catalogue: Any) -> None:
        self.catalogue |= catalogue
        for link in self._links:
            link.send_json(wire.Kind.CATALOGUE, 0, self.catalogue)

    def leave(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.transport.abort()
        self._links.clear()

    def _frames(self, protocol: FrameProtocol, frames: list[Frame]) -> None:
        if any(frame.kind == wire.Kind.HELLO for frame in frames):
            protocol.send(wire.Kind.CATALOGUE, 0, json.dumps(self.catalogue).encode())


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since it holds sockets."""
    path = Path(tempfile.mkdtemp(prefix="skp-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def host(folder: Path) -> AsyncIterator[StandIn]:
    host = StandIn(folder / "cpu.sock")
    await host.come(functions=[SPEC.model_dump(mode="json")])
    yield host
    host.leave()


@pytest.fixture
async def directory(folder: Path, host: StandIn) -> AsyncIterator[Directory]:
    async with Directory(folder, ["cpu"], "gateway") as directory:
        await until(lambda: directory.get("f.f"))
        yield directory


async def until(condition: Callable[[], object]) -> None:
    """Wait for what comes over a socket."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


async def test_a_function_of_a_host_that_is_away_is_remembered(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await until(lambda: not directory.links["cpu"].is_up)
    assert directory.remembered("f.f") is not None
    await host.come(loading=["f"])
    await directory.links["cpu"].until_up(LIMIT_S)
    await until(lambda: directory.loading() == ["f"])
    assert directory.remembered("f.f") is not None


async def test_what_the_last_host_served_is_not_asked_of_the_next_until_it_serves_it(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await until(lambda: not directory.links["cpu"].is_up)
    await host.come(loading=["f"])
    await directory.links["cpu"].until_up(LIMIT_S)
    assert directory.get("f.f") is None
    finding = asyncio.create_task(directory.find("f.f", LIMIT_S))
    await until(lambda: directory.loading() == ["f"])
    host.say(loading=[], functions=[SPEC.model_dump(mode="json")])
    assert await finding == (SPEC, directory.links["cpu"])


async def test_a_function_that_is_gone_after_a_restart_is_forgotten(
    host: StandIn, directory: Directory
) -> None:
    host.leave()
    await host.come()
    await until(lambda: not directory.loading() and not directory.get("f.f"))
    assert directory.remembered("f.f") is None
    assert await directory.find("f.f", LIMIT_S) is None


async def test_a_function_is_waited_for_no_longer_than_told(
    host: StandIn, directory: Directory
) -> None:
    host.say(loading=["g"])
    await until(lambda: directory.loading() == ["g"])
    with pytest.raises(UnavailableError):
        await directory.find("g.g", 0.05)
    assert await directory.find("h.h", 0.05) is None
