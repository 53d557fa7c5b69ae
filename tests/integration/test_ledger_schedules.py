"""Schedules in the ledger, on SQLite and on PostgreSQL: one task for each tick, whoever looks."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.ledger import retention, schedules, tasks
from skipper.ledger.records import Declaration, Ending, Firing, NewTask, Schedule
from skipper.scheduler.ticker import Ticker
from skipper.task import State, Task
from skipper.tasks.announcer import Announcer
from skipper.tasks.intake import Intake
from skipper.values.store import ValueStore
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.intakes import BOUNDS
from tests.integration.ledgers import POOL, Place, claimed, finished, ledger, module_ledger, place

__all__ = ["ledger", "module_ledger", "place"]

pytestmark = pytest.mark.services

HOUR_S, DAY_S = 3600.0, 86400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = at("2026-11-25 12:00")


def nightly(name: str = "boston.train", **given: Any) -> Declaration:
    usual: dict[str, Any] = {
        "function": "boston.train",
        "kind": "training",
        "pool": POOL,
        "cron": "0 3 * * *",
        "timezone": "UTC",
        "missed": "once",
        "body": b"",
        "origin": "code",
        "max_attempts": 1,
        "timeout_s": None,
        "starts_paused": False,
        "overlap": "allow",
    }
    return Declaration(name=name, **usual | given)


def declare(ledger: BlockingLedger, *declared: Declaration) -> None:
    ledger.write_now(lambda conn: schedules.declare(conn, declared))


def found(ledger: BlockingLedger, name: str = "boston.train") -> Schedule:
    schedule = ledger.read_now(lambda conn: schedules.get(conn, name))
    assert schedule is not None
    return schedule


def made(ledger: BlockingLedger, name: str = "boston.train") -> list[Task]:
    """The tasks of a schedule, oldest first."""
    items, _ = ledger.read_now(lambda conn: tasks.page(conn, schedule=name, limit=200))
    return items[::-1]


def ticker_of(ledger: BlockingLedger) -> Ticker:
    """A scheduler's, which announces to nobody."""
    values = ValueStore(BlobStore("/nowhere"), 1024)
    return Ticker(ledger, Intake(ledger, values, Announcer(lambda *_: None, None), BOUNDS))


# --- declaring ---


def test_a_schedule_is_read_as_it_was_declared(ledger: BlockingLedger) -> None:
    one = nightly(body=b'{"x":"\xc4\x97"}', max_attempts=3, timeout_s=60.5, missed="all")
    two = nightly("weekly", origin="settings", starts_paused=True)
    declare(ledger, two, one)
    state = {"next_at": None, "last_at": None, "last_task_id": None, "gone_at": None}
    assert ledger.read_now(schedules.present) == [
        Schedule(declared=one, is_paused=False, **state),
        Schedule(declared=two, is_paused=True, **state),
    ]
    assert ledger.read_now(lambda conn: schedules.get(conn, "none")) is None


async def test_only_another_timetable_sets_it_anew(ledger: BlockingLedger) -> None:
    declare(ledger, nightly())
    await ticker_of(ledger).fire(NOON)
    declare(ledger, nightly(max_attempts=5, pool="gpu", missed="all"))
    assert found(ledger).next_at == at("2026-11-26 03:00")
    assert found(ledger).declared.max_attempts == 5
    for other in (nightly(cron="0 4 * * *"), nightly(timezone="Europe/Vilnius")):
        declare(ledger, other)
        assert found(ledger).next_at is None
        await ticker_of(ledger).fire(NOON)
        assert found(ledger).next_at is not None
    assert made(ledger) == []


@pytest.mark.parametrize("before", [False, True])
def test_a_pause_stands_until_it_is_declared_otherwise(
    ledger: BlockingLedger, before: bool
) -> None:
    declare(ledger, nightly(starts_paused=before))
    turn = schedules.resume if before else schedules.pause
    ledger.write_now(lambda conn: turn(conn, "boston.train"))
    declare(ledger, nightly(starts_paused=before, cron="0 5 * * *"))
    assert found(ledger).is_paused is not before
    declare(ledger, nightly(starts_paused=not before))
    declare(ledger, nightly(starts_paused=before))
    assert found(ledger).is_paused is before


async def test_what_nobody_declares_rests_and_comes_back_as_it_was(ledger: BlockingLedger) -> None:
    declare(ledger, nightly())
    await ticker_of(ledger).fire(NOON)
    await ticker_of(ledger).fire(NOON + DAY_S)
    ledger.write_now(lambda conn: schedules.pause(conn, "boston.train"))
    last = found(ledger).last_task_id
    assert last is not None
    ledger.write_now(lambda conn: schedules.drop(conn, POOL, ["boston.train"], NOON))
    assert ledger.read_now(schedules.present) == []
    assert ledger.write_now(lambda conn: schedules.run_now(conn, "boston.train", NOON)) is None
    assert ledger.write_now(lambda conn: schedules.resume(conn, "boston.train")) is None
    assert await ticker_of(ledger).fire(NOON + 9 * DAY_S) == []
    declare(ledger, nightly())
    back = found(ledger)
    assert (back.is_paused, back.next_at, back.last_task_id) == (True, None, last)


def test_a_pool_drops_its_own_schedules_only(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(pool="gpu"))
    ledger.write_now(lambda conn: schedules.drop(conn, POOL, ["boston.train"], NOON))
    assert found(ledger).gone_at is None


def test_what_is_gone_for_long_is_forgotten(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(), nightly("weekly"))
    ledger.write_now(lambda conn: schedules.pause(conn, "weekly"))
    ledger.write_now(lambda conn: schedules.drop(conn, POOL, ["weekly"], NOON))
    ledger.write_now(lambda conn: schedules.forget(conn, NOON))
    declare(ledger, nightly("weekly"))
    assert found(ledger, "weekly").is_paused
    ledger.write_now(lambda conn: schedules.drop(conn, POOL, ["weekly"], NOON))
    ledger.write_now(lambda conn: schedules.forget(conn, NOON + 1))
    declare(ledger, nightly("weekly"))
    assert not found(ledger, "weekly").is_paused
    assert found(ledger).gone_at is None


# --- firing ---


async def test_each_tick_makes_a_task_like_any_other(ledger: BlockingLedger) -> None:
    demands: dict[str, Any] = {"max_attempts": 3, "timeout_s": 60.0, "priority": 2}
    declare(ledger, nightly(body=b'{"x": 1}', expires_s=HOUR_S, **demands))
    ticker = ticker_of(ledger)
    assert await ticker.fire(NOON) == []
    assert found(ledger).next_at == at("2026-11-26 03:00")
    assert await ticker.fire(at("2026-11-26 02:59:59")) == []
    now = at("2026-11-26 03:00:01")
    (task_id,) = await ticker.fire(now)
    assert await ticker.fire(now) == []
    (task,) = made(ledger)
    assert (task.id, task.function, task.kind, task.state) == (
        task_id,
        "boston.train",
        "training",
        State.QUEUED,
    )
    assert {name: getattr(task, name) for name in demands} == demands
    assert (task.created_at, task.available_at) == (now, now)
    assert (task.schedule, task.request_id) == ("boston.train", "2026-11-26T03:00:00Z")
    schedule = found(ledger)
    assert (schedule.last_at, schedule.last_task_id) == (now, task_id)
    assert schedule.next_at == at("2026-11-27 03:00")
    assert ledger.write_now(lambda conn: tasks.expire(conn, now + HOUR_S - 1)) == []
    claim = claimed(ledger, task_id, now=now)
    assert claim.input == Value(inline=b'{"x": 1}')
    assert finished(ledger, claim) is State.SUCCEEDED


@pytest.mark.parametrize(
    ("missed", "ticks"),
    [
        ("once", ["2026-11-28T03:00:00Z"]),
        ("skip", []),
        ("all", ["2026-11-26T03:00:00Z", "2026-11-27T03:00:00Z", "2026-11-28T03:00:00Z"]),
    ],
)
async def test_ticks_that_nobody_saw_are_run_by_policy(
    ledger: BlockingLedger, missed: str, ticks: list[str]
) -> None:
    declare(ledger, nightly(missed=missed))
    await ticker_of(ledger).fire(NOON)
    ids = await ticker_of(ledger).fire(at("2026-11-28 09:00"))
    assert [task.request_id for task in made(ledger)] == ticks
    assert ids == [task.id for task in made(ledger)]
    assert found(ledger).next_at == at("2026-11-29 03:00")


async def test_a_paused_schedule_makes_nothing_and_makes_nothing_up(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(missed="all"))
    ticker = ticker_of(ledger)
    await ticker.fire(NOON)
    paused = ledger.write_now(lambda conn: schedules.pause(conn, "boston.train"))
    assert paused is not None
    assert (paused.is_paused, paused.next_at) == (True, None)
    assert await ticker.fire(NOON + 9 * DAY_S) == []
    ledger.write_now(lambda conn: schedules.resume(conn, "boston.train"))
    assert await ticker.fire(NOON + 9 * DAY_S) == []
    assert found(ledger).next_at == at("2026-12-05 03:00")
    ledger.write_now(lambda conn: schedules.resume(conn, "boston.train"))  # as it is already
    assert found(ledger).next_at == at("2026-12-05 03:00")


async def test_run_now_leaves_the_ticks_as_they_are(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(body=b"[1]"))
    await ticker_of(ledger).fire(NOON)
    new = ledger.write_now(lambda conn: schedules.run_now(conn, "boston.train", NOON + 5))
    assert isinstance(new, NewTask)
    assert (new.schedule, new.request_id, new.input) == ("boston.train", None, Value(inline=b"[1]"))
    assert [task.id for task in made(ledger)] == [new.id]
    schedule = found(ledger)
    assert (schedule.last_at, schedule.last_task_id) == (NOON + 5, new.id)
    assert schedule.next_at == at("2026-11-26 03:00")
    assert ledger.write_now(lambda conn: schedules.run_now(conn, "none", NOON)) is None


async def test_of_many_schedulers_one_makes_the_task_of_a_tick(
    place: Place, ledger: BlockingLedger
) -> None:
    declare(ledger, *(nightly(f"s{n}", cron="* * * * *") for n in range(5)))
    with place.open() as other, place.open() as third:
        tickers = [ticker_of(each) for each in (ledger, other, third, ledger)]
        ids: list[str] = []
        for minute in range(12):
            now = NOON + 60 * minute
            for each in await asyncio.gather(*(each.fire(now) for each in tickers)):
                ids += each
    assert len(ids) == len(set(ids)) == 5 * 11
    for n in range(5):
        ticks = [task.request_id for task in made(ledger, f"s{n}")]
        assert ticks == [f"2026-11-25T12:{minute:02}:00Z" for minute in range(1, 12)]


# --- runs that take longer than the time to the next ---
# Runs that pile up are https://github.com/windmill-labs/windmill/issues/2919.

SLOW = [NOON + 60 * minute for minute in range(1, 6)]


async def goes_on(ledger: BlockingLedger, overlap: str, missed: str = "once") -> list[Task]:
    """What a schedule has made after five minutes in which its first run goes on."""
    declare(ledger, nightly(cron="* * * * *", overlap=overlap, missed=missed))
    ticker = ticker_of(ledger)
    await ticker.fire(NOON)
    (first,) = await ticker.fire(SLOW[0])
    ledger.write_now(lambda conn: tasks.claim(conn, [first], "host-1", NOON))
    for minute in SLOW[1:]:
        await ticker.fire(minute)
    return made(ledger)


def ends(ledger: BlockingLedger, task: Task) -> None:
    """A run of the schedule ends well, claimed first if need be."""
    ledger.write_now(lambda conn: tasks.claim(conn, [task.id], "host-1", NOON))
    ending = Ending(state=State.SUCCEEDED)
    ledger.write_now(lambda conn: tasks.finish(conn, task.id, 1, "host-1", ending, NOON))


def minutes(ran: list[Task]) -> list[str | None]:
    return [task.request_id and task.request_id[14:16] for task in ran]


async def test_a_run_waits_for_the_last_and_stands_for_all_that_came_meanwhile(
    ledger: BlockingLedger,
) -> None:
    ran = await goes_on(ledger, "queue")
    assert minutes(ran) == ["01"]
    ends(ledger, ran[0])
    await ticker_of(ledger).fire(SLOW[-1] + 1)
    assert minutes(made(ledger)) == ["01", "05"]


async def test_where_each_missed_tick_is_run_they_run_one_after_the_other(
    ledger: BlockingLedger,
) -> None:
    ran = await goes_on(ledger, "queue", missed="all")
    seen = ["01"]
    for minute in ("02", "03", "04", "05"):
        assert minutes(ran) == seen
        ends(ledger, ran[-1])
        await ticker_of(ledger).fire(SLOW[-1] + 1)
        await ticker_of(ledger).fire(SLOW[-1] + 1)
        ran, seen = made(ledger), [*seen, minute]
    assert minutes(ran) == seen


async def test_a_run_is_left_out_while_the_last_goes_on(
    ledger: BlockingLedger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ran = await goes_on(ledger, "skip")
    assert minutes(ran) == ["01"]
    assert "its last run goes on, this one is left out" in caplog.text
    ends(ledger, ran[0])
    await ticker_of(ledger).fire(SLOW[-1] + 60)
    assert minutes(made(ledger)) == ["01", "06"]


async def test_a_run_cancels_the_last_and_what_that_has_started(ledger: BlockingLedger) -> None:
    ran = await goes_on(ledger, "cancel")
    assert minutes(ran) == ["01", "02", "03", "04", "05"]
    states = [(task.state, task.cancel_requested) for task in ran]
    assert states[0] == (State.RUNNING, True)
    assert states[1:4] == [(State.CANCELLED, False)] * 3
    assert states[4] == (State.QUEUED, False)


async def test_runs_may_be_let_run_beside_each_other(ledger: BlockingLedger) -> None:
    ran = await goes_on(ledger, "allow")
    assert minutes(ran) == ["01", "02", "03", "04", "05"]


async def test_a_run_that_somebody_asked_for_is_one_to_wait_for(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(cron="* * * * *", overlap="skip"))
    await ticker_of(ledger).fire(NOON)
    ledger.write_now(lambda conn: schedules.run_now(conn, "boston.train", NOON))
    await ticker_of(ledger).fire(SLOW[0])
    assert minutes(made(ledger)) == [None]


async def test_a_schedules_tasks_are_bounded_as_its_function_says(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(cron="* * * * *", overlap="allow", concurrency=1, concurrency_key="eu"))
    for minute in (NOON, *SLOW[:2]):
        await ticker_of(ledger).fire(minute)
    ids = [task.id for task in made(ledger)]
    assert len(ids) == 2
    claims = ledger.write_now(lambda conn: tasks.claim(conn, ids, "host-1", SLOW[2]))
    assert [claim.task.id for claim in claims] == ids[:1]


def test_who_looked_before_it_changed_moves_nothing(ledger: BlockingLedger) -> None:
    declare(ledger, nightly())
    seen = found(ledger)
    tick = at("2026-11-26 03:00")
    new = schedules.tasks_of(seen, [tick], NOON)
    first = Firing(schedule=seen, next_at=tick, tasks=())
    assert ledger.write_now(lambda conn: schedules.fire(conn, first)) == []
    assert found(ledger).next_at == tick
    for stale in (seen, Schedule(**_members(seen) | {"next_at": tick + 1})):
        firing = Firing(schedule=stale, next_at=tick + DAY_S, tasks=new)
        assert ledger.write_now(lambda conn, firing=firing: schedules.fire(conn, firing)) == []  # type: ignore[misc]  # binds the loop's value
    current = found(ledger)
    declare(ledger, nightly(cron="0 4 * * *"))
    firing = Firing(schedule=current, next_at=tick + DAY_S, tasks=new)
    assert ledger.write_now(lambda conn: schedules.fire(conn, firing)) == []
    assert made(ledger) == []


def _members(schedule: Schedule) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in Schedule.__dataclass_fields__}


# --- clocks that are wrong ---


@pytest.mark.parametrize("jump_s", [HOUR_S, 366 * DAY_S])
async def test_a_clock_that_was_ahead_stops_no_schedule_and_runs_no_tick_twice(
    ledger: BlockingLedger, jump_s: float
) -> None:
    declare(ledger, nightly(cron="*/10 * * * *"))
    ticker = ticker_of(ledger)
    await ticker.fire(NOON - 1)
    await ticker.fire(NOON)
    await ticker.review(NOON)
    await ticker.fire(NOON + jump_s)  # one run for all that this clock has passed
    assert len(made(ledger)) == 2
    now = NOON + 60
    assert await ticker.fire(now) == []
    await ticker.review(now)
    assert found(ledger).next_at == NOON + 600
    while now < NOON + 2 * HOUR_S:
        now += 60
        await ticker.fire(now)
        await ticker.review(now)
    ticks = [str(task.request_id) for task in made(ledger)]
    due = {f"2026-11-25T{12 + n // 6}:{n % 6}0:00Z" for n in range(13)}
    assert len(ticks) == len(set(ticks))
    assert due <= set(ticks)


async def test_a_review_leaves_alone_what_is_due_in_its_time(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(), nightly("leap", cron="0 0 29 2 *"), nightly("new"))
    ledger.write_now(lambda conn: schedules.pause(conn, "new"))
    ticker = ticker_of(ledger)
    await ticker.fire(NOON)
    before = ledger.read_now(schedules.present)
    await ticker.review(NOON)
    await ticker.review(NOON - 30)  # another scheduler, whose clock is a little late
    assert ledger.read_now(schedules.present) == before


async def test_one_that_cannot_be_read_here_holds_up_no_other(
    ledger: BlockingLedger, caplog: pytest.LogCaptureFixture
) -> None:
    declare(ledger, nightly("odd", timezone="Mars/Olympus"), nightly())
    ticker = ticker_of(ledger)
    for day in range(3):
        await ticker.fire(NOON + day * DAY_S)
    assert len(made(ledger)) == 2
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "schedule odd cannot be read here: there is no such time zone" in record.message


# --- its tasks ---


async def test_tasks_are_listed_by_schedule_function_and_state(ledger: BlockingLedger) -> None:
    declare(ledger, nightly(), nightly("weekly", cron="0 0 * * 0"))
    names = ["boston.train", "weekly", "boston.train"]
    for n, name in enumerate(names):
        ledger.write_now(
            lambda conn, n=n, name=name: schedules.run_now(conn, name, NOON + n)  # type: ignore[misc]  # binds the loop's values
        )
    first, second = made(ledger)
    claimed(ledger, first.id)

    def ids(**given: Any) -> list[str]:
        items, _ = ledger.read_now(
            lambda conn: tasks.page(conn, schedule="boston.train", limit=10, **given)
        )
        return [task.id for task in items]

    assert ids() == [second.id, first.id]
    assert ids(state=State.QUEUED) == [second.id]
    assert ids(function="boston.train") == [second.id, first.id]
    assert ids(function="boston.train", state=State.RUNNING) == [first.id]
    assert ids(function="other.train") == []
    assert ids(cursor=second.id) == [first.id]


async def test_a_schedule_outlives_its_tasks(ledger: BlockingLedger) -> None:
    declare(ledger, nightly())
    new = ledger.write_now(lambda conn: schedules.run_now(conn, "boston.train", NOON))
    assert isinstance(new, NewTask)
    finished(ledger, claimed(ledger, new.id))
    ledger.write_now(lambda conn: retention.prune(conn, [new.id], NOON))
    assert made(ledger) == []
    assert found(ledger).last_task_id == new.id
