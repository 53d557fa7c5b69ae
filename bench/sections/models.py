"""Models: many versions of one, versions that change hands, a large one that is saved."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from bench import peers, saving, swaps
from bench.options import Bench
from skipper.ledger import Ledger, deployments, models, transitions
from skipper.ledger.connection import Connection, Statement
from skipper.selectors import parse

SIZES = (100, 100_000)
_PAGE = 50
_TIMES = 200
_FILL = Statement(
    text("""
    WITH RECURSIVE numbers (n) AS (
        SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count
    )
    INSERT INTO models (
        name, version, digest, format, metrics, params, code, task_id, attempt, function,
        created_at, size, state, gate
    )
    SELECT
        'boston', n, printf('%064x', n), 'keras', '{"rmse": 2.4, "mae": 1.7}', '{"epochs": 40}',
        'c0de', 'task-' || n, 1, 'boston.train', n, 100000, 'fit',
        '{"passed": true, "against": 1, "why": null, "checks": []}'
    FROM numbers
    """)
)


def run(bench: Bench) -> None:
    peers.MLSERVER.make()
    for _ in bench.each_round("models"):
        swaps.measure(bench)
        saving.measure(bench)
    measure_versions(bench)


def measure_versions(bench: Bench) -> None:
    """What many versions cost who asks for some of them."""
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="skipper-bench-") as folder:
            asyncio.run(_measure(bench, f"sqlite:///{Path(folder, 'ledger.db')}", size))


async def _measure(bench: Bench, url: str, size: int) -> None:
    count = bench.scaled(size, 10)
    peers.say(f"models: one with {count} versions")
    with closing(Ledger.open(url)) as ledger:
        await ledger.write(lambda conn: conn.run(_FILL, {"count": count}))
        for version in (count - 1, count):
            await ledger.write(_promote(version))
        asked: dict[str, Callable[[], Awaitable[object]]] = {
            "first_page": lambda: ledger.read(_page),
            "show": lambda: ledger.read(lambda conn: models.get(conn, "boston", count // 2)),
            "resolve": lambda: ledger.read(lambda conn: models.resolve(conn, _LATEST)),
            "list": lambda: ledger.read(_list),
            "promote": lambda: ledger.write(_promote(count - 1 - (time.monotonic_ns() & 1))),
        }
        for what, ask in asked.items():
            bench.figures.add(f"models.{what}.{size}.p50_ms", await _middle_ms(ask))


_LATEST = parse("boston@latest")


def _page(conn: Connection) -> object:
    """What `skipper models show boston` asks for."""
    return models.versions(conn, "boston", _PAGE), deployments.held_of(conn, "boston")


def _list(conn: Connection) -> object:
    """What `skipper models` asks for."""
    return [models.latest(conn, name) for name in models.list_names(conn)]


def _promote(version: int) -> Callable[[Connection], object]:
    return lambda conn: deployments.change(
        conn, "boston", lambda held: transitions.promoted(held, version)
    )


async def _middle_ms(ask: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
