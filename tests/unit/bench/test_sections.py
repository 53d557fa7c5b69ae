"""What sections make of what they have seen; the figures of the machine and its disk."""

from __future__ import annotations

import importlib
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench import disk
from bench.figures import Figures
from bench.options import Bench
from bench.raw import Reply
from bench.sections import ALL, forks, ledger, models, nonce, speed
from skipper.ledger import Ledger, tasks
from skipper.task import State


@pytest.mark.parametrize("name", ALL)
def test_every_section_can_be_run(name: str) -> None:
    assert callable(importlib.import_module(f"bench.sections.{name}").run)


def test_forks_that_failed_are_counted_beside_those_that_answered() -> None:
    figures = Figures()
    good: list[dict[str, Any]] = [{"status": 200, "s": s, "start": s} for s in (1.0, 2.0, 4.0)]
    forks.sum_up(figures, [*good, {"status": 504, "s": 60.0, "body": "late"}])
    found = {
        name.removeprefix("forks.template."): rounds for name, rounds in figures.rounds.items()
    }
    assert found == {
        "done": [3],
        "failed": [1],
        "starts": [3],
        "p50_s": [2.0],
        "longest_s": [4.0],
    }


@pytest.mark.parametrize(
    ("status", "request_id", "body", "is_right"),
    [
        (200, b"n", b'"n"', True),
        (503, b"n", b"{}", True),
        (200, b"n", b'"other"', False),
        (200, b"other", b'"n"', False),
        (500, b"n", b"{}", False),
    ],
)
def test_a_reply_is_right_under_its_own_nonce_only(
    status: int, request_id: bytes, body: bytes, *, is_right: bool
) -> None:
    assert (
        nonce.wrong_with(Reply(status, {b"x-request-id": request_id}, body), "n") == ""
    ) is is_right


def test_an_answer_of_the_disk_is_a_time_and_a_rate(tmp_path: Path) -> None:
    assert disk.fdatasync_ms(tmp_path) > 0
    assert disk.commits_per_s(tmp_path) > 0
    with closing(sqlite3.connect(tmp_path / "rows.db")) as rows:
        assert rows.execute("SELECT count(*) FROM rows").fetchone() == (200,)


def test_the_speed_of_the_machine_is_told_in_every_round() -> None:
    bench = Bench(rounds=2)
    speed.run(bench)
    assert Counter({name: len(rounds) for name, rounds in bench.figures.rounds.items()}) == {
        "speed.machine.loop_ms": 2,
        "speed.machine.trip_us": 2,
        "speed.machine.fdatasync_ms": 2,
    }


def test_a_model_is_measured_with_few_versions_and_with_many() -> None:
    bench = Bench(scale=0.1)
    models.measure_versions(bench)
    asked = {name.split(".")[1] for name in bench.figures.rounds}
    assert asked == {"first_page", "show", "resolve", "list", "promote"}
    assert {name.split(".")[2] for name in bench.figures.rounds} == {"100", "100000"}


async def test_a_filled_ledger_holds_ended_tasks_and_some_that_wait(tmp_path: Path) -> None:
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")) as found:
        await ledger.fill(found, 1000)
        assert await found.read(tasks.counts) == {("cpu", State.QUEUED): 10}
        of_one, _ = await found.read(lambda conn: tasks.page(conn, function="f.f7", limit=100))
        assert len(of_one) == 50
        failed, _ = await found.read(lambda conn: tasks.page(conn, state=State.FAILED, limit=100))
        assert len(failed) == 20
        for ask in ledger.questions(found).values():
            await ask()
