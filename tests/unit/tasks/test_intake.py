import asyncio
import base64
import errno
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.errors import FullError, UnavailableError
from skipper.ledger import schedules, tasks
from skipper.ledger.records import Claim, Declaration, Firing, NewTask, Schedule, TaskBounds
from skipper.settings.webhooks import DELIVER, Webhook, interest_in
from skipper.spec import FunctionSpec, Kind
from skipper.task import State, Task, new_id
from skipper.tasks.intake import Acceptance, Submission
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.intakes import INLINE, Desk

SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.TRAINING,
    pool="gpu",
    timeout_s=30.0,
    retries=2,
    file="f.py",
    line=1,
    code="c0de",
    input_schema={},
    output_schema={},
)
WEBHOOK = Webhook.model_validate(
    {"url": "https://h/", "secret": "whsec_" + base64.b64encode(bytes(24)).decode()}
)
NIGHTLY = Declaration(
    name="nightly",
    function="f.f",
    kind="training",
    pool="gpu",
    cron="0 3 * * *",
    timezone="UTC",
    missed="all",
    overlap="allow",
    body=b"{}",
    origin="code",
    max_attempts=1,
    timeout_s=None,
    starts_paused=False,
)


class Callers(Desk):
    """Whoever may have tasks come to be, and look at them."""

    async def accept(self, body: bytes = b"{}", **given: Any) -> Acceptance:
        return await self.intake.accept(Submission(**{"spec": SPEC, "body": body, **given}))

    def task(self, task_id: str) -> Task:
        task = self.ledger.read_now(lambda conn: tasks.get(conn, task_id))
        assert task is not None
        return task

    def claim(self, task_id: str) -> Claim:
        (claim,) = self.ledger.write_now(
            lambda conn: tasks.claim(conn, [task_id], "host", time.time())
        )
        return claim

    def ended(self) -> str:
        """A task that has ended, of whose beginning nobody was informed."""
        now = time.time()
        new = NewTask(
            id=new_id(),
            function="f.f",
            kind="data",
            pool="gpu",
            input=Value(inline=b"[1]"),
            created_at=now,
            available_at=now,
        )
        self.ledger.write_now(lambda conn: tasks.accept(conn, new))
        self.ledger.write_now(lambda conn: tasks.cancel(conn, new.id, now))
        return new.id

    def scheduled(self) -> Schedule:
        """A schedule that nobody has moved yet."""
        self.ledger.write_now(lambda conn: schedules.declare(conn, [NIGHTLY]))
        found = self.ledger.read_now(lambda conn: schedules.get(conn, NIGHTLY.name))
        assert found is not None
        return found


@pytest.fixture
def callers(ledger_url: str, tmp_path: Path) -> Iterator[Callers]:
    with BlockingLedger.open(ledger_url, interest=interest_in({"all": WEBHOOK})) as ledger:
        yield Callers(ledger, BlobStore(str(tmp_path / "blobs")))


# --- every way in ----------------------------------------------------------------------------


async def call(callers: Callers) -> list[str]:
    return [(await callers.accept()).task.id]


async def retry(callers: Callers) -> list[str]:
    task = await callers.intake.retry(callers.ended())
    assert task is not None
    return [task.id]


async def run_now(callers: Callers) -> list[str]:
    callers.scheduled()
    task = await callers.intake.run_schedule(NIGHTLY.name)
    assert task is not None
    return [task.id]


async def tick(callers: Callers) -> list[str]:
    schedule, now = callers.scheduled(), time.time()
    missed = schedules.tasks_of(schedule, [now - 120, now - 60], now)
    return await callers.intake.tick(Firing(schedule=schedule, next_at=now, tasks=missed))


async def delivery(callers: Callers) -> list[str]:
    ended, now = callers.ended(), time.time()
    new = NewTask(
        id=new_id(),
        function=DELIVER,
        kind="data",
        pool="cpu",
        input=Value(inline=b"{}"),
        created_at=now,
        available_at=now,
    )
    assert await callers.intake.deliver({ended: [new]}) == [ended]
    return [new.id]


async def webhook_test(callers: Callers) -> list[str]:
    return [(await callers.intake.ping("ops", WEBHOOK)).id]


WAYS = [call, retry, run_now, tick, delivery, webhook_test]
Way = Callable[[Callers], Awaitable[list[str]]]


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_comes_to_be_is_announced_once_both_ways_after_its_commit(
    way: Way, callers: Callers
) -> None:
    ids = await way(callers)
    assert ids
    (pool,) = {callers.task(id_).pool for id_ in ids}
    assert callers.nudged == ids[:1]
    assert callers.published == [(pool, ids)]
    assert all(each.is_committed for each in callers.announced)


@pytest.mark.parametrize("way", [call, retry, run_now, webhook_test])
async def test_the_task_that_is_returned_is_the_one_that_was_written(
    way: Way, callers: Callers
) -> None:
    (task_id,) = await way(callers)
    assert callers.task(task_id).state is State.QUEUED


async def test_what_does_not_come_to_be_is_not_announced(callers: Callers) -> None:
    schedule, waiting = callers.scheduled(), (await callers.accept(delay_s=100.0)).task.id
    stale = Firing(schedule=schedule, next_at=7.0, tasks=())
    assert await callers.intake.tick(stale) == []  # it moves the schedule on, without a task
    taken = Firing(schedule=schedule, next_at=9.0, tasks=schedules.tasks_of(schedule, [7.0], 8.0))
    assert await callers.intake.tick(taken) == []
    assert await callers.intake.retry(waiting) is None
    assert await callers.intake.retry("unknown") is None
    assert await callers.intake.run_schedule("unknown") is None
    assert await callers.intake.deliver({"unknown": []}) == []
    assert callers.announced == []


async def test_a_retry_is_a_copy_of_what_ended(callers: Callers) -> None:
    ended = callers.ended()
    fresh = await callers.intake.retry(ended)
    assert fresh is not None
    assert fresh == callers.task(fresh.id)
    assert (fresh.function, fresh.state, fresh.attempt) == ("f.f", State.QUEUED, 0)
    assert callers.claim(fresh.id).input == Value(inline=b"[1]")


# --- where there is no room ------------------------------------------------------------------


@pytest.fixture
def full(callers: Callers) -> Callers:
    """Who may have one task of a function wait, and has one of each."""
    callers.intake = callers.bound_by(TaskBounds(waiting=1, stored=1 << 30))
    for function in ("f.f", DELIVER):
        now = time.time()
        new = NewTask(
            id=new_id(),
            function=function,
            kind="data",
            pool="gpu",
            input=Value(inline=b"{}"),
            created_at=now,
            available_at=now,
        )
        callers.ledger.write_now(lambda conn, new=new: tasks.accept(conn, new))  # type: ignore[misc]  # binds the loop's value
    return callers


@pytest.mark.parametrize("way", [call, retry, run_now, webhook_test])
async def test_who_asks_for_one_more_is_told_what_bounds_it(way: Way, full: Callers) -> None:
    with pytest.raises(FullError, match=r"1 tasks of .* wait already \(tasks\.waiting\)"):
        await way(full)
    assert full.announced == []


async def test_a_tick_for_which_there_is_no_room_is_left_out(
    full: Callers, caplog: pytest.LogCaptureFixture
) -> None:
    assert await tick(full) == []
    [record] = caplog.records
    assert "schedule nightly: a run is left out. 1 tasks of f.f wait" in record.message
    found = full.ledger.read_now(lambda conn: schedules.get(conn, "nightly"))
    assert found is not None
    assert found.next_at is not None, "the schedule has not moved on"
    assert found.last_task_id is None


async def test_deliveries_of_what_was_let_in_are_let_in(full: Callers) -> None:
    assert await delivery(full)


async def test_of_several_at_once_those_that_find_no_room_store_nothing(
    callers: Callers, tmp_path: Path
) -> None:
    callers.intake = callers.bound_by(TaskBounds(waiting=1, stored=1 << 30))
    bodies = [b"%d" % number * (INLINE + 1) for number in range(5)]
    found = await asyncio.gather(*map(callers.accept, bodies), return_exceptions=True)
    assert len([each for each in found if isinstance(each, Acceptance)]) <= 1
    refused = [each for each in found if not isinstance(each, Acceptance)]
    assert all(isinstance(each, FullError) for each in refused)
    stored = [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]
    assert len(stored) == 5 - len(refused)


async def test_what_is_stored_already_bounds_what_may_be(callers: Callers) -> None:
    callers.intake = callers.bound_by(TaskBounds(waiting=9, stored=40))
    await callers.accept(b"1" * 30)
    with pytest.raises(FullError, match=r"tasks\.stored_gb"):
        await callers.accept(b"2" * 30)
    await callers.accept(b"3" * 10)


# --- calls -----------------------------------------------------------------------------------


async def test_a_task_is_what_its_function_declares_and_its_caller_asks(callers: Callers) -> None:
    accepted = await callers.accept(b'{"a": 1}', request_id="req", parent_id="parent", depth=3)
    claim = callers.claim(accepted.task.id)
    task = claim.task
    assert (task.function, task.kind, task.pool) == ("f.f", "training", "gpu")
    assert (task.max_attempts, task.timeout_s) == (3, 30.0)
    assert (task.request_id, task.parent_id, claim.depth) == ("req", "parent", 3)
    assert claim.input == Value(inline=b'{"a": 1}')


async def test_its_function_decides_how_urgent_it_is_unless_its_caller_does(
    callers: Callers,
) -> None:
    spec = SPEC.model_copy(update={"priority": 3, "expires_s": 60.0})
    usual = await callers.accept(spec=spec)
    other = await callers.accept(spec=spec, priority=0, expires_s=5.0, delay_s=100.0)
    found = []
    for accepted in (usual, other):
        task = callers.task(accepted.task.id)
        ahead = round((task.expires_at or 0) - task.created_at)
        found.append((task.priority, round(task.available_at - task.created_at), ahead))
    assert found == [(3, 0, 60), (0, 100, 105)]


async def test_what_is_delayed_is_announced_when_it_is_due_and_not_before(
    callers: Callers,
) -> None:
    await callers.accept(delay_s=100.0)
    assert callers.announced == []


async def test_what_is_answered_is_what_was_written(callers: Callers) -> None:
    accepted = await callers.accept(request_id="req", parent_id="parent", priority=2, expires_s=9.0)
    assert callers.task(accepted.task.id) == accepted.task


@pytest.mark.parametrize(("size", "is_inline"), [(INLINE, True), (INLINE + 1, False)])
async def test_a_large_body_is_stored_beside_the_ledger(
    callers: Callers, size: int, is_inline: bool
) -> None:
    body = b"x" * size
    claim = callers.claim((await callers.accept(body)).task.id)
    if is_inline:
        assert claim.input == Value(inline=body)
    else:
        assert claim.input.ref is not None
        assert callers.blobs.get(claim.input.ref) == body


async def test_a_known_key_is_the_task_that_had_it_first_as_it_is_by_now(
    callers: Callers,
) -> None:
    first = await callers.accept(idempotency_key="key", request_id="first")
    callers.claim(first.task.id)
    again = await callers.accept(idempotency_key="key", request_id="again")
    assert (again.is_new, again.matches) == (False, True)
    assert again.task == callers.task(first.task.id)
    assert again.task.state is State.RUNNING
    assert len(callers.published) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"body": b'{"other": 1}'},
        {"spec": SPEC.model_copy(update={"name": "f.g"})},
    ],
)
async def test_the_same_key_with_another_call_does_not_match(
    callers: Callers, other: dict[str, Any]
) -> None:
    await callers.accept(idempotency_key="key")
    accepted = await callers.accept(**({"idempotency_key": "key"} | other))
    assert (accepted.is_new, accepted.matches) == (False, False)


async def test_without_a_key_the_same_call_is_another_task(callers: Callers) -> None:
    assert (await callers.accept()).task.id != (await callers.accept()).task.id


async def test_a_large_body_that_cannot_be_stored_is_refused_as_what_may_pass(
    ledger_url: str, tmp_path: Path
) -> None:
    class Full(BlobStore):
        def put(self, data: bytes) -> str:
            raise OSError(errno.ENOSPC, "No space left on device")

    with BlockingLedger.open(ledger_url) as ledger:
        callers = Callers(ledger, Full(str(tmp_path / "blobs")))
        with pytest.raises(UnavailableError, match="No space left"):
            await callers.accept(b"x" * (INLINE + 1))
        assert callers.announced == []
        assert (await callers.accept(b"x")).is_new
