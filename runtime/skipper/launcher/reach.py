"""Whether a broker or a database elsewhere can be reached: a wrong URL is told in one line."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from skipper.errors import StartError
from skipper.settings import Settings, masked

LIMIT_S = 10.0
_PAUSE_S = 0.25
_TRY_S = 3.0
_PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379, "postgresql": 5432}

Address = tuple[str, int]


async def check(settings: Settings, limit_s: float = LIMIT_S) -> None:
    """Return when all can be reached. Raises :class:`StartError` for the first that cannot."""
    for what, url, shown in _elsewhere(settings):
        if hosts := addresses(url):
            await _reach(hosts, f"The {what} {shown} cannot be reached", limit_s)


def _elsewhere(settings: Settings) -> Iterator[tuple[str, str, object]]:
    for what, url in (("broker", settings.broker.url), ("database", settings.database.url)):
        yield what, url.get_secret_value(), masked(url)


def addresses(url: str) -> list[Address]:
    """The hosts and ports that ``url`` names; none where it names a file, a socket, the unknown."""
    found = []
    for one in url.split(";"):  # kombu's list of brokers
        parts = urlsplit(one)
        default = _PORTS.get(parts.scheme.partition("+")[0].replace("postgres", "postgresql", 1))
        if parts.scheme.startswith("postgresql"):
            default = _PORTS["postgresql"]
        with contextlib.suppress(ValueError):  # several hosts in one URL: left to the driver
            if default and parts.hostname and not parts.scheme.endswith("socket"):
                found.append((parts.hostname, parts.port or default))
    return found


async def _reach(hosts: list[Address], failure: str, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while True:
        problems = [await _problem(*host) for host in hosts]
        if None in problems:
            return
        if time.monotonic() > end:
            raise StartError(f"{failure}: {problems[0]}.", code=9)
        await asyncio.sleep(_PAUSE_S)


async def _problem(host: str, port: int) -> str | None:
    """Why no connection can be made, or None."""
    try:
        async with asyncio.timeout(_TRY_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"{host} does not answer on port {port}"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    return None
