"""The publisher, with a broker that the test plays."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from skipper.settings.model import Settings
from skipper.tasks.broker import IDS_PER_MESSAGE
from skipper.tasks.publisher import Publisher

SETTINGS = Settings(project_dir=Path("/nowhere"))


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the publisher finds out by itself, which it tells nobody."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class FakeBroker:
    """Opens lines, and notes what comes over them. Down or stuck while told so."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.is_down = False
        self.is_open = threading.Event()
        self.is_open.set()
        self.opened = 0
        self.depths = {"cpu": 0, "gpu": 0}
        self.sent: list[tuple[str, list[str]]] = []

    def connect(self, settings: Settings) -> FakeLine:
        if self.is_down:
            raise ConnectionRefusedError("nobody listens")
        with self._changed:
            self.opened += 1
            self._changed.notify_all()
        return FakeLine(self)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, 10)

    def note(self, pool: str, ids: Sequence[str]) -> None:
        self.is_open.wait(10)
        with self._changed:
            self.sent.append((pool, list(ids)))
            self._changed.notify_all()


class FakeLine:
    """Fails for ever once it has been cut."""

    def __init__(self, owner: FakeBroker) -> None:
        self._owner, self._number = owner, owner.opened

    def check(self) -> dict[str, int]:
        if self._owner.is_down or self._number != self._owner.opened:
            raise ConnectionResetError("cut")
        return self._owner.depths

    def send(self, pool: str, ids: Sequence[str]) -> None:
        self.check()
        self._owner.note(pool, ids)

    def close(self) -> None: ...

    def abandon(self) -> None: ...


@pytest.fixture
def fake() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def publisher(fake: FakeBroker) -> Iterator[Publisher]:
    with Publisher(SETTINGS, fake.connect) as publisher:
        yield publisher


def test_what_waits_travels_together_and_pools_take_turns(
    fake: FakeBroker, publisher: Publisher
) -> None:
    fake.is_open.clear()
    publisher.publish("cpu", ["first"])  # the thread is stuck with this one
    fake.wait_for(lambda: fake.opened == 1)
    cpu, gpu = [f"c{n}" for n in range(40)], [f"g{n}" for n in range(3)]
    for item in cpu:
        publisher.publish("cpu", [item])
    publisher.publish("gpu", gpu)
    publisher.publish("gpu", [])
    publisher.publish("gone", ["lost"])  # of a pool that the settings have no longer
    fake.is_open.set()
    fake.wait_for(lambda: sum(len(ids) for _, ids in fake.sent) == 44)
    together = [ids for pool, ids in fake.sent if pool == "cpu"]
    assert [item for ids in together for item in ids] == ["first", *cpu]
    assert max(map(len, together)) == IDS_PER_MESSAGE
    assert len(together) <= 5
    assert ("gpu", gpu) in fake.sent[:3]


def test_a_message_whose_connection_is_dead_is_sent_once_over_a_new_one(
    fake: FakeBroker, publisher: Publisher
) -> None:
    publisher.publish("cpu", ["a"])
    fake.wait_for(lambda: len(fake.sent) == 1)
    fake.opened += 1  # cuts the line there is
    publisher.publish("cpu", ["b"])
    fake.wait_for(lambda: len(fake.sent) == 2)
    assert fake.sent == [("cpu", ["a"]), ("cpu", ["b"])]
    until(lambda: publisher.published == 2)
    assert publisher.dropped == 0


def test_an_outage_is_logged_once_and_its_ids_are_counted(
    fake: FakeBroker, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "skipper.tasks.publisher")
    until(lambda: publisher.is_up)
    fake.is_down = True
    for number in range(100):
        publisher.publish("cpu", [str(number)])
    until(lambda: publisher.dropped == 100)
    assert (publisher.is_up, publisher.published) == (False, 0)
    fake.is_down = False
    fake.wait_for(lambda: fake.opened == 2)  # found out at rest
    publisher.publish("cpu", ["after"])
    fake.wait_for(lambda: fake.sent == [("cpu", ["after"])])
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "connection to the broker lost: ConnectionResetError: cut",
        "broker is away, tasks go on through the ledger: ConnectionRefusedError: nobody listens",
        "broker is back; 100 ids were left to the ledger",
    ]


def test_a_broker_that_is_stuck_costs_callers_no_time_and_no_memory(
    fake: FakeBroker, publisher: Publisher
) -> None:
    fake.is_open.clear()
    for _ in range(3):
        publisher.publish("cpu", [str(number) for number in range(5000)])
    assert publisher.dropped == 5000
    fake.is_open.set()
    fake.wait_for(lambda: sum(len(ids) for _, ids in fake.sent) == 10_000)


def test_a_queue_that_is_long_enough_gets_no_more(fake: FakeBroker, publisher: Publisher) -> None:
    fake.depths = {"cpu": 20_001, "gpu": 20_000}
    until(lambda: publisher._depths is fake.depths)
    publisher.publish("cpu", ["a"])
    publisher.publish("gpu", ["b"])
    fake.depths = {}
    fake.wait_for(lambda: fake.sent == [("gpu", ["b"])])
    until(lambda: publisher._depths is fake.depths)
    assert publisher.dropped == 1
    publisher.publish("cpu", ["c"])
    fake.wait_for(lambda: fake.sent[1:] == [("cpu", ["c"])])


def test_what_waits_is_sent_before_the_publisher_ends(fake: FakeBroker) -> None:
    with Publisher(SETTINGS, fake.connect) as publisher:
        publisher.publish("cpu", ["a"])
        publisher.publish("gpu", ["b"])
    assert sorted(fake.sent) == [("cpu", ["a"]), ("gpu", ["b"])]


def test_a_publisher_whose_broker_never_was_ends_at_once(fake: FakeBroker) -> None:
    fake.is_down = True
    with Publisher(SETTINGS, fake.connect) as publisher:
        publisher.publish("cpu", ["a"])
    assert publisher.dropped == 1
    assert not publisher.is_up
