"""What callers and whoever looks after a gateway learn where a host is of another version."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI

from skipper.blobs import BlobStore
from skipper.gateway.calls import Dispatcher
from skipper.gateway.invoke import Invoke
from skipper.gateway.routes import pools
from skipper.gateway.routes.health import Readiness
from skipper.settings.model import TaskSettings
from skipper.values.store import ValueStore
from skipper.wire.directory import Directory
from skipper.wire.messages import PROTOCOL, Hello, LinkRole
from tests.unit.gateway.asgi import request
from tests.unit.gateway.http.line import Answering, Caller
from tests.unit.wire.stand_in import SPEC, StandIn, listed, until

REASON = (
    f"the host of pool cpu speaks protocol {PROTOCOL + 1} and this gateway protocol {PROTOCOL}, "
    "so they do not talk: upgrade and restart this gateway, the older of the two"
)


class AwayLedger:
    async def read(self, _: Any) -> Any:
        raise TimeoutError


@pytest.fixture
async def context() -> AsyncIterator[Any]:
    """A gateway's, beside a host that is newer."""
    with tempfile.TemporaryDirectory(prefix="skp-") as name:  # short, since it holds a socket
        host = StandIn(Path(name, "cpu.sock"))
        host.hello = Hello(role="host", pid=7, protocol=PROTOCOL + 1)
        await host.come(functions=listed(SPEC))
        async with Directory(Path(name), ["cpu"], LinkRole.GATEWAY) as directory:
            await until(lambda: directory.links["cpu"].incompatible)
            nobody: Any = None
            yield SimpleNamespace(
                directory=directory,
                calls=Dispatcher(
                    directory, nobody, nobody, shows_tracebacks=False, terms=TaskSettings()
                ),
                max_body=1000,
                values=ValueStore(BlobStore("/nowhere"), 1000),
                ledger=AwayLedger(),
                publisher=SimpleNamespace(is_up=True),
                settings=SimpleNamespace(run=SimpleNamespace(strict=False)),
            )
        host.leave()


async def test_a_direct_call_is_answered_at_once_with_the_reason(context: Any) -> None:
    caller = Caller(Answering(lambda exchange: Invoke(context).begin("f.f", exchange)))
    caller.send(b"POST / HTTP/1.1\r\nHost: here\r\n\r\n")
    await until(lambda: caller.transport.out)
    assert caller.answer().status == 503
    assert json.loads(caller.answer().body)["detail"] == REASON


async def test_readiness_has_the_reason(context: Any) -> None:
    readiness = Readiness(context)
    checks = await readiness.checks()
    assert checks["pool cpu"] == REASON
    assert not readiness.judge(checks)


async def test_the_list_of_pools_has_the_reason(context: Any) -> None:
    app = FastAPI()
    app.include_router(pools.routes(context))
    answer = await request(app, path="/v1/pools")
    (pool,) = answer.json["items"]
    assert pool == {"pool": "cpu", "reachable": False, "error": REASON}
