"""The ledger's questions and changes with 10, 10,000 and 1,000,000 tasks in it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bench import peers, services
from bench.options import Bench
from skipper.ledger import Ledger, tasks
from skipper.ledger.connection import Connection, Statement
from skipper.ledger.records import NewTask
from skipper.ledger.schema import tasks as table
from skipper.task import State, new_id

SIZES = {"sqlite": (10, 10_000, 1_000_000), "postgres": (10, 10_000, 100_000)}
_FUNCTIONS = 20
_QUEUED_SHARE = 0.01
_BATCH = 5_000
_PAGE = 50
_HOST = "bench"
_INSERT = Statement(insert(table), [column.name for column in table.columns])


def run(bench: Bench) -> None:
    for size in SIZES["sqlite"]:
        with tempfile.TemporaryDirectory(prefix="skipper-bench-") as folder:
            _measure(bench, f"sqlite:///{Path(folder, 'ledger.db')}", "sqlite", size)
    try:
        for size in SIZES["postgres"]:
            with services.postgres(bench) as url:
                _measure(bench, url.replace("://", "+psycopg://", 1), "postgres", size)
    except peers.MissingError as error:
        bench.note(f"ledger.postgres was not measured: {error}.")


def _measure(bench: Bench, url: str, kind: str, size: int) -> None:
    count = bench.scaled(size, 10)
    peers.say(f"ledger: {kind} with {count} tasks")
    with closing(Ledger.open(url)) as ledger:
        fill(ledger, count)
        asked = questions(ledger)
        for name, ask in asked.items():
            for _ in range(bench.rounds):
                bench.figures.add(f"ledger.{kind}.{size}.{name}_us", _median_us(ask, bench.seconds))


def questions(ledger: Ledger) -> dict[str, Callable[[], object]]:
    """What gateways and hosts ask of the ledger and change in it, by name."""
    now = time.time()

    def read(op: Callable[[Connection], Any]) -> Callable[[], object]:
        return lambda: ledger.read_now(op)

    def accept() -> str:
        new = _new(new_id())
        ledger.write_now(lambda conn: tasks.accept(conn, new))
        return new.id

    def claim() -> None:
        found = ledger.read_now(lambda conn: tasks.waiting(conn, "cpu", now + 1e6, 1))
        ledger.write_now(
            lambda conn: tasks.claim(conn, [found[0].id], _HOST, now + 1e6), durable=False
        )

    return {
        "page": read(lambda conn: tasks.page(conn, limit=_PAGE)),
        "page_of_function": read(lambda conn: tasks.page(conn, function="f.f7", limit=_PAGE)),
        "page_of_state": read(lambda conn: tasks.page(conn, state=State.FAILED, limit=_PAGE)),
        "waiting": read(lambda conn: tasks.waiting(conn, "cpu", now + 1e6, 16)),
        "counts": read(tasks.counts),
        "accept": accept,
        "claim": claim,
    }


def fill(ledger: Ledger, count: int) -> None:
    """Put tasks into an empty ledger: most have ended, a few wait."""
    rows = _rows(count)
    for _ in range(0, count, _BATCH):
        batch = [row for row, _ in zip(rows, range(_BATCH), strict=False)]
        ledger.write_now(lambda conn, batch=batch: conn.run_each(_INSERT, batch), durable=False)  # type: ignore[misc]


def _rows(count: int) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(column.name for column in table.columns)
    now = time.time() - count
    for number in range(count):
        is_queued = number >= count * (1 - _QUEUED_SHARE)
        ended = State.FAILED if number % 50 == 0 else State.SUCCEEDED
        new = _new(new_id(), number)
        yield empty | {
            **{name: getattr(new, name) for name in NewTask.__dataclass_fields__},
            "state": (State.QUEUED if is_queued else ended).value,
            "ready": 1 if is_queued else None,
            "attempt": int(not is_queued),
            "spent": int(not is_queued),
            "losses": 0,
            "cancel_requested": 0,
            "created_at": now + number,
            "available_at": now + number,
            "published_at": now + number,
            "finished_at": None if is_queued else now + number + 1,
            "host": None if is_queued else _HOST,
            "result": None if is_queued else b'{"price":21.5}',
        }


def _new(id_: str, number: int = 0) -> NewTask:
    now = time.time()
    return NewTask(
        id=id_,
        function=f"f.f{number % _FUNCTIONS}",
        kind="data",
        pool="cpu",
        created_at=now,
        available_at=now,
        body=b'{"x":[1.0,2.0,3.0]}',
    )


def _median_us(ask: Callable[[], object], seconds: float) -> float:
    """The middle of the times of an operation, repeated for a while."""
    times: list[float] = []
    ends = time.monotonic() + seconds / 10
    while not times or time.monotonic() < ends:
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)
