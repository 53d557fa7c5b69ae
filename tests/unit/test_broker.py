"""The message and the publisher, without a broker."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from skipper import broker
from skipper.broker import IDS_PER_MESSAGE, TASK_NAME, Publisher
from skipper.settings import BrokerSettings, ProjectSettings, Settings

URLS = {
    "valkey": "embedded",
    "redis": "redis://:secret@example.com:6379/0",
    "rabbitmq": "amqp://user:secret@example.com//",
}


def settings_for(url: str) -> Settings:
    return Settings(
        project_dir=Path("/nowhere/my project"),
        project=ProjectSettings(name="mine"),
        broker=BrokerSettings(url=SecretStr(url)),
    )


# --- names and settings ----------------------------------------------------------------------


def test_a_queue_carries_the_projects_name_and_the_pools() -> None:
    assert broker.queue_name(settings_for("embedded"), "gpu") == "skipper.mine.gpu"


def test_importing_the_broker_imports_neither_celery_nor_kombu() -> None:
    code = (
        "import sys, skipper.broker; print(sorted({'celery', 'kombu', 'redis'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_the_celery_app_speaks_json_keeps_no_results_and_talks_to_no_other_worker(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(variable, "amqp://elsewhere//")
    settings = settings_for(url)
    app: Any = broker.make_app(settings)
    assert app.conf.accept_content == ["json"]
    assert type(app.backend).__name__ == "DisabledBackend"
    assert not app.conf.worker_enable_remote_control
    assert not app.conf.worker_send_task_events
    assert {name for name in app.tasks if not name.startswith("celery.")} == {TASK_NAME}
    assert set(app.amqp.queues) == {"skipper.mine.cpu", "skipper.mine.gpu"}
    assert {queue.exchange.name for queue in app.amqp.queues.values()} == {""}
    assert "elsewhere" not in app.connection_for_read().as_uri()


def test_a_queue_on_rabbitmq_is_classic_whatever_the_vhosts_default() -> None:
    queue = broker.queue_of(settings_for(URLS["rabbitmq"]), "cpu")
    assert queue.durable
    assert queue.queue_arguments == {"x-queue-type": "classic"}
    assert broker.transport_options(settings_for(URLS["rabbitmq"])) == {"confirm_publish": True}


def test_projects_on_one_redis_do_not_redeliver_each_others_messages() -> None:
    options = broker.transport_options(settings_for(URLS["redis"]))
    keys = {value for name, value in options.items() if name.startswith("unacked_")}
    assert len(keys) == 3
    assert all(key.startswith("skipper.mine.") for key in keys)


# --- the message -----------------------------------------------------------------------------


def message(value: object, **headers: object) -> tuple[object, object, object]:
    return {"task": TASK_NAME} | headers, "application/json", json.dumps(value).encode()


def test_what_is_published_is_what_is_read() -> None:
    ids = ["01j0", "01j1"]
    body = json.dumps(broker.body_of(ids))
    assert broker.ids_of(broker.headers_of(ids), "application/json", body) == ids
    assert broker.ids_of(broker.headers_of(ids), "application/json", body.encode()) == ids
    view = memoryview(body.encode())  # py-amqp's form of a body
    assert broker.ids_of(broker.headers_of(ids), "application/json", view) == ids


@pytest.mark.parametrize(
    ("headers", "content_type", "body", "reason"),
    [
        (None, "application/json", b"[]", "not a skipper.run message"),
        ([], "application/json", b"[]", "not a skipper.run message"),
        ({"task": "os.system"}, "application/json", b"[]", "not a skipper.run message"),
        ({"task": TASK_NAME}, None, b"[]", "not JSON by its content type"),
        ({"task": TASK_NAME}, "application/x-python-serialize", b"", "not JSON by its content"),
        ({"task": TASK_NAME}, "application/json", None, "no body"),
        ({"task": TASK_NAME}, "application/json", 7, "no body"),
        ({"task": TASK_NAME}, "application/json", b"\xff\xff", "not JSON"),
        ({"task": TASK_NAME}, "application/json", "\ud800", "not JSON"),
        ({"task": TASK_NAME}, "application/json", b"[" * 8000, "not JSON"),
        ({"task": TASK_NAME}, "application/json", b" " * 100_000, "100000 bytes long"),
        (*message(None), "not a list of task ids"),
        (*message({}), "not a list of task ids"),
        (*message([["a"], {}, {}]), "not a list of task ids"),
        (*message([[[]], {}, {}]), "not a list of task ids"),
        (*message([[["a"], ["b"]], {}, {}]), "not a list of task ids"),
        (*message([[["a"]], {}]), "not a list of task ids"),
        (*message([[["a"]], [], {}]), "not a list of task ids"),
        (*message([[["a", 1]], {}, {}]), "not a list of task ids"),
        (*message([[["a", ""]], {}, {}]), "not a list of task ids"),
        (*message([[["a\nb"]], {}, {}]), "not a list of task ids"),
        (*message([[["a\n"]], {}, {}]), "not a list of task ids"),
        (*message([[["a" * 65]], {}, {}]), "not a list of task ids"),
    ],
)
def test_what_is_none_of_ours_is_told_by_its_reason(
    headers: object, content_type: object, body: object, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        broker.ids_of(headers, content_type, body)


# --- the publisher ---------------------------------------------------------------------------


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
    with Publisher(settings_for("embedded"), fake.connect) as publisher:
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
    caplog.set_level(logging.INFO, "skipper.broker")
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
    with Publisher(settings_for("embedded"), fake.connect) as publisher:
        publisher.publish("cpu", ["a"])
        publisher.publish("gpu", ["b"])
    assert sorted(fake.sent) == [("cpu", ["a"]), ("gpu", ["b"])]


def test_a_publisher_whose_broker_never_was_ends_at_once(fake: FakeBroker) -> None:
    fake.is_down = True
    with Publisher(settings_for("embedded"), fake.connect) as publisher:
        publisher.publish("cpu", ["a"])
    assert publisher.dropped == 1
    assert not publisher.is_up
