"""Ends that were recorded become deliveries, each once."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.ledger import endings, events, retention, tasks
from skipper.ledger.records import Ending, NewEvent, NewTask
from skipper.scheduler import deliveries as module
from skipper.scheduler.deliveries import Deliveries
from skipper.settings.webhooks import DELIVER, Webhook, interest_in
from skipper.task import State, Task, new_id
from skipper.values.value import Value
from tests.blocking import BlockingLedger
from tests.intakes import Desk

SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()


def webhook(**values: Any) -> Webhook:
    return Webhook.model_validate({"url": "https://h/", "secret": SECRET} | values)


WEBHOOKS = {"all": webhook(), "bad": webhook(events=["failed"], functions=["f.*"])}


class Office(Desk):
    """A ledger whose ends are recorded, and what is announced."""

    def __init__(self, ledger: BlockingLedger, blobs: BlobStore) -> None:
        super().__init__(ledger, blobs)
        self.deliveries = self.another()

    def another(self) -> Deliveries:
        return Deliveries(self.ledger, WEBHOOKS, self.intake)

    def ended(self, state: State = State.SUCCEEDED, function: str = "f.f") -> str:
        """A task that has ended so."""
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
        result = Value(inline=b'{"x":1}') if state is State.SUCCEEDED else None
        ending = Ending(state=state, result=result)

        def run(conn: Any) -> None:
            tasks.accept(conn, new)
            tasks.claim(conn, [new.id], "h", now)
            tasks.finish(conn, new.id, 1, "h", ending, now)

        self.ledger.write_now(run)
        return new.id

    @property
    def accepted(self) -> list[Task]:
        """The deliveries there are, the oldest first."""
        found, _ = self.ledger.read_now(
            lambda conn: tasks.page(conn, function=DELIVER, state=State.QUEUED, limit=500)
        )
        return found[::-1]

    def body(self, delivery: Task) -> Any:
        (claim,) = self.ledger.write_now(
            lambda conn: tasks.claim(conn, [delivery.id], "h", time.time())
        )
        assert claim.input.inline is not None
        return json.loads(claim.input.inline)

    @property
    def waiting(self) -> list[str]:
        return self.ledger.read_now(lambda conn: endings.waiting(conn, 500))


@pytest.fixture
def office(ledger_url: str, tmp_path: Path) -> Iterator[Office]:
    with BlockingLedger.open(ledger_url, interest=interest_in(WEBHOOKS)) as ledger:
        yield Office(ledger, BlobStore(str(tmp_path / "blobs")))


async def test_each_webhook_that_wants_to_hear_of_an_end_has_a_delivery(office: Office) -> None:
    good, bad = office.ended(), office.ended(State.FAILED)
    assert await office.deliveries.round() == 2
    assert [task.parent_id for task in office.accepted] == [good, bad, bad]
    bodies = [office.body(task) for task in office.accepted]
    assert [body["webhook"] for body in bodies] == ["all", "all", "bad"]
    event = json.loads(bodies[0]["event"])
    assert event["type"] == "task.succeeded"
    assert event["data"]["task"]["id"] == good
    assert event["data"]["value"] == {"x": 1}


async def test_what_is_accepted_is_published_where_it_runs(office: Office) -> None:
    office.ended(State.FAILED)
    await office.deliveries.round()
    ((pool, ids),) = office.published
    assert (pool, sorted(ids)) == ("cpu", [task.id for task in office.accepted])


async def test_an_end_is_told_once(office: Office) -> None:
    office.ended()
    assert await office.deliveries.round() == 1
    assert await office.deliveries.round() == 0
    assert len(office.accepted) == 1
    assert office.waiting == []


async def test_of_several_schedulers_one_tells_of_an_end(office: Office) -> None:
    for _ in range(20):
        office.ended()
    rounds = await asyncio.gather(*(office.another().round() for _ in range(4)))
    assert sum(rounds) == 20
    assert len(office.accepted) == 20


async def test_nobody_is_told_how_a_delivery_has_ended(office: Office) -> None:
    office.ended(function=DELIVER)
    assert office.waiting == []


async def test_the_last_progress_is_told(office: Office) -> None:
    task_id = office.ended()
    said = NewEvent(task_id=task_id, attempt=1, number=1, at=1.0, type="progress", data={"done": 7})
    office.ledger.record_now(lambda conn: events.append(conn, [said]))
    await office.deliveries.round()
    event = json.loads(office.body(office.accepted[0])["event"])
    assert event["data"]["task"]["progress"] == {"done": 7}


async def test_a_task_that_is_gone_is_not_told_of(office: Office) -> None:
    task_id = office.ended()
    office.ledger.write_now(lambda conn: retention.prune(conn, [task_id], time.time()))
    assert await office.deliveries.round() == 1
    assert office.accepted == []
    assert office.waiting == []


async def test_what_no_webhook_asks_for_any_more_is_crossed_out(office: Office) -> None:
    office.ended()
    assert await Deliveries(office.ledger, {}, office.intake).round() == 1
    assert office.waiting == []
    assert office.accepted == []


async def test_many_ends_are_told_without_pauses_between(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    for _ in range(10):
        office.ended()
    await stopped_once(lambda: not office.waiting, office.deliveries)
    assert len(office.accepted) == 10
    assert [len(ids) for _, ids in office.published] == [3, 3, 3, 1]


async def stopped_once(is_done: Callable[[], bool], deliveries: Deliveries) -> None:
    """Run ``deliveries`` until then."""
    stopping = asyncio.Event()
    running = asyncio.create_task(deliveries.run(stopping))
    async with asyncio.timeout(10.0):
        while not is_done():  # noqa: ASYNC110 - it tells the ledger alone
            await asyncio.sleep(0.005)
    stopping.set()
    await running
