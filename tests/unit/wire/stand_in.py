"""A host that a test plays by hand, and what the tests of links share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skipper.spec import FunctionSpec, Kind
from skipper.wire.directory import Directory
from skipper.wire.frames import Frame, FrameKind, FrameProtocol
from skipper.wire.link import PendingCall
from skipper.wire.messages import (
    PROTOCOL,
    CatalogueSnapshot,
    DeviceInfo,
    Hello,
    InstanceInfo,
    ListedFunction,
    PoolState,
    TemplateInfo,
    UnfitVersion,
)

LIMIT_S = 30.0
SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.DATA,
    file="f.py",
    line=1,
    code="c0de",
    input_schema={},
    output_schema={},
)


EMPTY = CatalogueSnapshot(pool="cpu", host="cpu-0", loading=(), functions=(), broken=())
POOL = PoolState(
    pool="cpu",
    host_id="cpu-0",
    pid=7,
    devices=(DeviceInfo(name="H200", memory_mb=143771),),
    slots=4,
    task_slots=2,
    task_slots_free=1,
    tasks_listed=0,
    busy=1,
    queued=0,
    tasks_running=1,
    instances=(
        InstanceInfo(
            function="f.f", code=None, state="idle", lane="direct", pid=8, calls=0, memory_mb=31.5
        ),
    ),
    templates=(TemplateInfo(libraries=("numpy",), pid=9, state="ready", forks=True),),
    unfit=(UnfitVersion(model="boston", version=7, reason="a file is damaged"),),
    consumer=False,
    consumer_problem="it is of another version",
)


def listed(*specs: FunctionSpec) -> tuple[ListedFunction, ...]:
    return tuple(ListedFunction(spec=spec) for spec in specs)


class StandIn:
    """A host that sends what a test has it send. Leaves as one that is killed does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._links: list[FrameProtocol] = []
        self._server: asyncio.AbstractServer | None = None
        self.catalogue = EMPTY
        self.hello: Hello | None = Hello(role="host", pid=7, protocol=PROTOCOL)
        """How it introduces itself; None for one that is older than that."""
        self.received: list[Frame] = []

    async def come(self, **catalogue: Any) -> None:
        self.catalogue = EMPTY.model_copy(update=catalogue)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: FrameProtocol(self._frames, lambda _: None, self._connected), self._path
        )

    def _connected(self, connection: FrameProtocol) -> None:
        self._links.append(connection)
        if self.hello is not None:
            connection.send(FrameKind.HELLO, 0, self.hello.to_json())

    def change(self, **catalogue: Any) -> None:
        """Serve something else from now on."""
        self.catalogue = self.catalogue.model_copy(update=catalogue)
        self.send(FrameKind.CATALOGUE, 0, self.catalogue.to_json())

    def send(self, kind: int, id_: int, payload: bytes = b"") -> None:
        for link in self._links:
            link.send(kind, id_, payload)

    def of(self, kind: int) -> list[Frame]:
        """What it has received of this kind."""
        return [frame for frame in self.received if frame.kind == kind]

    def stand_still(self) -> None:
        for link in self._links:
            link.transport.pause_reading()

    def go_on(self) -> None:
        for link in self._links:
            link.transport.resume_reading()

    def leave(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.transport.abort()
        self._links.clear()

    def _frames(self, protocol: FrameProtocol, received: list[Frame]) -> None:
        self.received += received
        for frame in received:
            if frame.kind == FrameKind.HELLO:
                protocol.send(FrameKind.CATALOGUE, 0, self.catalogue.to_json())


def call(directory: Directory, body: bytes = b"", **given: Any) -> PendingCall:
    """Send a call to the host of ``cpu``."""
    deadline = asyncio.get_running_loop().time() + given.pop("seconds", 60.0)
    return directory.links["cpu"].call(body, deadline, **given)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what comes over a socket."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)
