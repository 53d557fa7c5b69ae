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
from skipper.ledger.records import Ending, NewTask
from skipper.ledger.schema import tasks as table
from skipper.task import State, new_id

SIZES = {"sqlite": (10, 10_000, 1_000_000), "postgres": (10, 10_000, 100_000)}
_FUNCTIONS = 20
_QUEUED_SHARE = 0.01
_BATCH = 5_000
_PAGE = 50
_TIMES = 40
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
        for name, ask in questions(ledger).items():
            for _ in range(bench.rounds):
                bench.figures.add(f"ledger.{kind}.{size}.{name}_us", _median_us(ask))


def questions(ledger: Ledger) -> dict[str, Callable[[], object]]:
    """What gateways and hosts ask of the ledger and change in it, by name."""
    accepted: list[str] = []
    claimed: list[str] = []
    later = time.time() + 1e6
    ended = Ending(state=State.SUCCEEDED, result=b"1")

    def read(op: Callable[[Connection], Any]) -> Callable[[], object]:
        return lambda: ledger.read_now(op)

    def accept() -> None:
        new = _new(new_id())
        ledger.write_now(lambda conn: tasks.accept(conn, new))
        accepted.append(new.id)

    def claim() -> None:
        claimed.append(accepted.pop())
        wanted = claimed[-1:]
        ledger.write_now(lambda conn: tasks.claim(conn, wanted, _HOST, later), durable=False)

    def finish() -> None:
        id_ = claimed.pop()
        ledger.write_now(lambda conn: tasks.finish(conn, id_, 1, _HOST, ended, later))

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


def fill(ledger: Ledger, count: int) -> None:
    """Put tasks into an empty ledger: most have ended, a few wait."""
    rows = _rows(count)
    for _ in range(0, count, _BATCH):
        batch = [row for row, _ in zip(rows, range(_BATCH), strict=False)]
        ledger.write_now(lambda conn, batch=batch: conn.run_each(_INSERT, batch), durable=False)  # type: ignore[misc] # binds the loop's value


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


def _median_us(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)
