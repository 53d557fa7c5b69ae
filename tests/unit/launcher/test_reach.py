"""Whether what is elsewhere can be reached."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from skipper.errors import StartError
from skipper.launcher.reach import addresses, check
from skipper.settings import Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("embedded", []),
        ("sqlite", []),
        ("redis+socket:///run/v.sock", []),
        ("amqp://guest:guest@rabbit//", [("rabbit", 5672)]),
        ("amqp://a;amqp://b:99", [("a", 5672), ("b", 99)]),
        ("redis://[::1]:6380/2", [("::1", 6380)]),
        ("rediss://r", [("r", 6379)]),
        ("postgresql://u:p@db/skipper", [("db", 5432)]),
        ("postgres://db:1", [("db", 1)]),
        ("postgresql+psycopg://db", [("db", 5432)]),
        ("postgresql:///skipper?host=/run/postgresql", []),
        ("postgresql://a:1,b:2/x", []),
    ],
)
def test_addresses(url: str, expected: list[tuple[str, int]]) -> None:
    assert addresses(url) == expected


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"project_dir": "/p", **sections})


async def test_what_runs_here_needs_no_check() -> None:
    await check(settings())


async def test_a_server_that_accepts_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        await check(settings(broker={"url": f"amqp://127.0.0.1:{port}"}), 0)


async def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    database = {"url": f"postgresql://me:secret@127.0.0.1:{port}/x"}
    with pytest.raises(StartError, match=r"The database postgresql://me:.*cannot be") as seen:
        await check(settings(database=database), 0)
    assert "secret" not in str(seen.value)
    assert seen.value.code == 9
