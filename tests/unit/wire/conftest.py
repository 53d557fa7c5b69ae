"""A host that comes and goes, and a directory that is linked to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from skipper.wire.directory import Directory
from skipper.wire.messages import LinkRole
from tests.unit.wire.stand_in import SPEC, StandIn, listed, until


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since it holds sockets."""
    path = Path(tempfile.mkdtemp(prefix="skp-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def host(folder: Path) -> AsyncIterator[StandIn]:
    host = StandIn(folder / "cpu.sock")
    await host.come(functions=listed(SPEC))
    yield host
    host.leave()


@pytest.fixture
async def directory(folder: Path, host: StandIn) -> AsyncIterator[Directory]:
    async with Directory(folder, ["cpu"], LinkRole.GATEWAY) as directory:
        await until(lambda: directory.get("f.f"))
        yield directory
