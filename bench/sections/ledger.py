"""The ledger's questions and changes with 10, 10,000 and 1,000,000 tasks in it."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench import peers, services
from bench.options import Bench
from skipper.ledger import Ledger, tasks
from skipper.ledger.connection import Connection, Statement
from skipper.ledger.records import Ending, NewTask
from skipper.task import State, new_id
from skipper.values.value import Value

SIZES = (10, 10_000, 1_000_000)
_FUNCTIONS = 20
_QUEUED_SHARE = 0.01
_BATCH = 100_000
_PAGE = 50
_TIMES = 40
_HOST = "bench"
_FILL = Statement(
    text(f"""
    WITH RECURSIVE numbers (n) AS (
        SELECT CAST(:first AS INTEGER) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :last
    ), rows AS (
        SELECT n, n - n / {_FUNCTIONS} * {_FUNCTIONS} AS function, n >= :queued AS waits,
            n - n / 50 * 50 = 0 AS fails, :now + n AS at
        FROM numbers
    )
    INSERT INTO tasks (
        id, function, kind, pool, state, attempt, spent, losses, max_attempts, priority, depth,
        ready, cancel_requested, created_at, available_at, published_at, finished_at, host, body,
        result
    )
    SELECT
        '0000000000' || CAST(1000000000000000 + n AS TEXT), 'f.f' || CAST(function AS TEXT),
        'data', 'cpu', CASE WHEN waits THEN 'queued' WHEN fails THEN 'failed' ELSE 'succeeded' END,
        CASE WHEN waits THEN 0 ELSE 1 END, CASE WHEN waits THEN 0 ELSE 1 END, 0, 1, 0, 0,
        CASE WHEN waits THEN 1 END, 0, at, at, at,
        CASE WHEN waits THEN NULL ELSE at + 1 END,
        CASE WHEN waits THEN NULL ELSE '{_HOST}' END,
        :body, CASE WHEN waits THEN NULL ELSE :result END
    FROM rows
    """)
)
"""Both databases make the rows themselves: a million come in seconds, not minutes. The ids are
older than any that are made now."""
_ANALYZE = Statement(text("ANALYZE tasks"))
_BODY = b'{"x":[1.0,2.0,3.0]}'


def run(bench: Bench) -> None:
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="skipper-bench-") as folder:
            asyncio.run(_measure(bench, f"sqlite:///{Path(folder, 'ledger.db')}", "sqlite", size))
    try:
        for size in SIZES:
            with services.postgres(bench) as url:
                asyncio.run(_measure(bench, url.replace("://", "+psycopg://", 1), "postgres", size))
    except peers.MissingError as error:
        bench.note(f"ledger.postgres was not measured: {error}.")


async def _measure(bench: Bench, url: str, kind: str, size: int) -> None:
    count = bench.scaled(size, 10)
    peers.say(f"ledger: {kind} with {count} tasks")
    with closing(Ledger.open(url)) as ledger:
        await fill(ledger, count)
        if kind == "postgres":  # as autovacuum does within a minute; plans made blindly are others
            await ledger.write(lambda conn: conn.run(_ANALYZE, {}))
        for name, ask in questions(ledger).items():
            for _ in range(bench.rounds):
                bench.figures.add(f"ledger.{kind}.{size}.{name}_us", await _median_us(ask))


def questions(ledger: Ledger) -> dict[str, Callable[[], Awaitable[object]]]:
    """What gateways and hosts ask of the ledger and change in it, by name."""
    accepted: list[str] = []
    claimed: list[str] = []
    later = time.time() + 1e6
    ended = Ending(state=State.SUCCEEDED, result=Value(inline=b"1"))

    def read(op: Callable[[Connection], Any]) -> Callable[[], Awaitable[object]]:
        return lambda: ledger.read(op)

    async def accept() -> None:
        new = _new(new_id())
        await ledger.write(lambda conn: tasks.accept(conn, new))
        accepted.append(new.id)

    async def claim() -> None:
        claimed.append(accepted.pop())
        wanted = claimed[-1:]
        await ledger.write(lambda conn: tasks.claim(conn, wanted, _HOST, later), durable=False)

    async def finish() -> None:
        id_ = claimed.pop()
        await ledger.write(lambda conn: tasks.finish(conn, id_, 1, _HOST, ended, later))

    return {
        "page": read(lambda conn: tasks.page(conn, limit=_PAGE)),
        "page_of_function": read(lambda conn: tasks.page(conn, function="f.f7", limit=_PAGE)),
        "page_of_state": read(lambda conn: tasks.page(conn, state=State.FAILED, limit=_PAGE)),
        "waiting": read(lambda conn: tasks.waiting(conn, "cpu", later, 16)),
        "counts": read(tasks.counts),
        "accept": accept,
        "claim": claim,
        "finish": finish,
    }


async def fill(ledger: Ledger, count: int) -> None:
    """Put tasks into an empty ledger: most have ended, a few wait."""
    given = {
        "queued": round(count * (1 - _QUEUED_SHARE)),
        "now": time.time() - count,
        "body": _BODY,
        "result": b'{"price":21.5}',
    }
    for first in range(0, count, _BATCH):
        part = given | {"first": first, "last": min(first + _BATCH, count)}
        await ledger.write(lambda conn, part=part: conn.run(_FILL, part), durable=False)  # type: ignore[misc] # binds the loop's value


def _new(id_: str) -> NewTask:
    now = time.time()
    return NewTask(
        id=id_,
        function="f.f0",
        kind="data",
        pool="cpu",
        created_at=now,
        available_at=now,
        input=Value(inline=_BODY),
    )


async def _median_us(ask: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)
