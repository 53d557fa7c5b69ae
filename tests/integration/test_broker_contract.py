"""What the runtime relies on from any broker: one suite on embedded Valkey, Redis and RabbitMQ.

Publisher and consumer are the real ones, the consumer in a process of its own. The host is a fake
that speaks the wire.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from skipper.role import LAUNCHER_GONE
from skipper.settings.handover import make_run_dir
from skipper.settings.masking import SecretUrl
from skipper.settings.model import BrokerSettings, ProjectSettings, Settings
from skipper.task import new_id
from skipper.tasks import broker
from skipper.tasks.publisher import Publisher
from skipper.wire.messages import PROTOCOL, Hello
from tests.integration.consuming import POOL, ConsumerProcess, FakeHost
from tests.integration.services import (
    Server,
    absent,
    free_port,
    private_redis,
    private_valkey,
    project_name,
    wait_until,
)

kombu: Any = pytest.importorskip("kombu")  # untyped for the most part

KINDS = ("valkey", "redis", "rabbitmq")


@contextlib.contextmanager
def _project(url: str) -> Iterator[Settings]:
    """A project of its own on the broker at ``url``."""
    with tempfile.TemporaryDirectory(prefix="skp-") as folder:
        settings = Settings(
            project_dir=Path(folder),
            project=ProjectSettings(name=project_name()),
            broker=BrokerSettings(url=SecretUrl(url)),
        )
        make_run_dir(settings)
        yield settings
        shutil.rmtree(settings.run_dir, ignore_errors=True)


@contextlib.contextmanager
def _channel(settings: Settings) -> Iterator[Any]:
    """A plain channel to the broker: what anybody with its password has."""
    connection = kombu.Connection(settings.broker_url)
    with connection:
        yield connection.default_channel


def _depth(settings: Settings, pool: str = POOL) -> int:
    """Messages that the broker could deliver now."""
    with _channel(settings) as channel:
        return int(broker.queue_of(settings, pool)(channel).queue_declare().message_count)


def _delete_queues(settings: Settings) -> None:
    with _channel(settings) as channel:
        for pool in settings.pools:
            channel.queue_delete(broker.queue_name(settings, pool))


def _ids(number: int) -> list[str]:
    return [new_id() for _ in range(number)]


# --- on any broker ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def valkey_url() -> Iterator[str]:
    with _project("embedded") as settings, private_valkey(settings) as server:
        yield server.url


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    with _project(request.getfixturevalue(f"{request.param}_url")) as settings:
        yield settings
        _delete_queues(settings)


@pytest.fixture
def host(settings: Settings) -> Iterator[FakeHost]:
    with FakeHost(settings.run_dir / f"{POOL}.sock") as host:
        yield host


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    with Publisher(settings) as publisher:
        yield publisher


@pytest.fixture
def consumer(settings: Settings) -> Iterator[ConsumerProcess]:
    with ConsumerProcess(settings) as consumer:
        yield consumer.wait_ready()


def test_published_ids_reach_the_host_of_their_pool_once_and_in_order(
    publisher: Publisher, consumer: ConsumerProcess, host: FakeHost
) -> None:
    ids = _ids(40)
    publisher.publish("gpu", _ids(3))
    publisher.publish(POOL, ids)
    host.wait_for(ids)
    assert host.ids == ids
    assert [len(take) for take in host.takes] == [16, 16, 8]
    assert host.hellos == [Hello(role="consumer", pid=consumer.process.pid, protocol=PROTOCOL)]
    wait_until(lambda: publisher.published == 43)
    assert (publisher.dropped, publisher.is_up) == (0, True)


def test_ids_published_in_a_rush_share_messages(
    publisher: Publisher, consumer: ConsumerProcess, host: FakeHost
) -> None:
    ids = _ids(400)
    for item in ids:
        publisher.publish(POOL, [item])
    host.wait_for(ids)
    assert sorted(host.ids) == sorted(ids)
    assert max(map(len, host.takes)) == 16
    assert len(host.takes) < 200


def test_a_consumer_holds_no_more_than_its_prefetch(
    settings: Settings, publisher: Publisher, consumer: ConsumerProcess, host: FakeHost
) -> None:
    host.holds = True
    ids = _ids(40 * 16)
    publisher.publish(POOL, ids)
    wait_until(lambda: publisher.published == len(ids))
    wait_until(lambda: len(host.takes) == broker.PREFETCH)
    for _ in range(20):  # as many chances to take one more
        assert _depth(settings) == 40 - broker.PREFETCH
    assert len(host.takes) == broker.PREFETCH
    host.release()
    host.wait_for(ids)
    assert host.ids == ids


def test_the_length_of_each_queue_is_known(settings: Settings) -> None:
    line = broker.KombuLine(settings)
    for number in range(3):
        line.send("gpu", [str(number)])
    assert line.check() == {"cpu": 0, "gpu": 3}
    line.close()


def test_what_the_host_has_taken_does_not_come_again(
    settings: Settings, publisher: Publisher, consumer: ConsumerProcess, host: FakeHost
) -> None:
    taken, later = _ids(16), _ids(1)
    publisher.publish(POOL, taken)
    host.wait_for(taken)
    _fill_prefetch(settings, host)
    consumer.process.kill()
    consumer.process.wait()
    host.release()
    with ConsumerProcess(settings) as another:
        another.wait_ready()
        publisher.publish(POOL, later)
        host.wait_for(later)
    assert [item for item in host.ids if item in taken] == taken


def _fill_prefetch(settings: Settings, host: FakeHost) -> None:
    """Have the host hold all a consumer may have: all that was taken before is acknowledged."""
    host.holds = True
    line = broker.KombuLine(settings)
    for _ in range(broker.PREFETCH):
        line.send(POOL, _ids(1))
    line.close()
    wait_until(lambda: len(host.takes) == 1 + broker.PREFETCH)


def test_what_the_host_has_not_taken_survives_the_consumers_death(
    settings: Settings, publisher: Publisher, consumer: ConsumerProcess, host: FakeHost
) -> None:
    host.holds = True
    ids = _ids(1)
    publisher.publish(POOL, ids)
    host.wait_for(ids)
    consumer.process.kill()
    consumer.process.wait()
    with ConsumerProcess(settings) as another:
        another.wait_ready()
        _redeliver(settings)
        wait_until(lambda: host.ids == ids * 2)
        host.release()
        wait_until(lambda: _unacknowledged(settings) == 0)


def _redeliver(settings: Settings) -> None:
    """Let the visibility timeout pass. RabbitMQ has none: it sees the connection close."""
    if settings.broker_url.startswith("amqp"):
        return
    options = broker.transport_options(settings) | {"visibility_timeout": 0}
    connection = kombu.Connection(settings.broker_url, transport_options=options)
    with connection:
        connection.default_channel.qos.restore_visible(interval=1)


def _unacknowledged(settings: Settings) -> int:
    """Messages that are delivered and not acknowledged; RabbitMQ does not tell."""
    if settings.broker_url.startswith("amqp"):
        return 0
    with _channel(settings) as channel:
        return int(channel.client.hlen(f"skipper.{settings.name}.unacked"))


def test_a_stopped_consumer_gives_back_what_was_not_taken_and_exits_0(
    settings: Settings, publisher: Publisher, consumer: ConsumerProcess, host: FakeHost
) -> None:
    host.holds = True
    ids = _ids(3 * 16)
    publisher.publish(POOL, ids)
    host.wait_for(ids)
    assert consumer.stop() == 0
    wait_until(lambda: _depth(settings) == 3)
    assert "Traceback" not in consumer.log


def test_a_host_that_comes_back_is_offered_what_the_last_one_did_not_take(
    settings: Settings, publisher: Publisher, consumer: ConsumerProcess
) -> None:
    ids, address = _ids(3 * 16), settings.run_dir / f"{POOL}.sock"
    publisher.publish(POOL, ids)  # nobody listens yet
    with FakeHost(address) as first:
        first.holds = True
        first.wait_for(ids)
    with FakeHost(address) as second:
        second.wait_for(ids)
        assert second.ids == ids
        wait_until(lambda: _depth(settings) + _unacknowledged(settings) == 0)


def test_a_message_that_celery_itself_sends_is_taken(
    settings: Settings, consumer: ConsumerProcess, host: FakeHost
) -> None:
    app, ids = broker.make_app(settings), _ids(2)
    with app.connection_for_write() as connection:
        app.send_task(
            broker.TASK_NAME,
            args=[ids],
            queue=broker.queue_name(settings, POOL),
            connection=connection,
            countdown=3600,  # delays are the ledger's: a message is a wake-up, now
            expires=1,
        )
    host.wait_for(ids)
    assert host.takes == [ids]


def test_a_consumer_ends_with_its_launcher_even_one_that_never_listened(
    settings: Settings,
) -> None:
    with ConsumerProcess(settings) as consumer:
        consumer.launcher.settimeout(20)
        consumer.launcher.recv(1, socket.MSG_PEEK)
        consumer.launcher.close()
        assert consumer.process.wait(10) == LAUNCHER_GONE


# --- garbage ---------------------------------------------------------------------------------

_NAMED: dict[str, Any] = {"task": broker.TASK_NAME, "id": "x"}
_JSON: dict[str, Any] = {"content_type": "application/json", "content_encoding": "utf-8"}
_GARBAGE: dict[str, dict[str, Any]] = {
    "unknown task": {
        "body": '[[["a"]],{},{}]',
        "headers": {"task": "os.system", "id": "x"},
        **_JSON,
    },
    "no headers": {"body": "hello", "content_type": "text/plain", "content_encoding": "utf-8"},
    "pickle": {
        "body": b"cos\nsystem\n(S'true'\ntR.",
        "headers": _NAMED,
        "content_type": "application/x-python-serialize",
        "content_encoding": "binary",
    },
    "not JSON": {"body": '[[["a"]],', "headers": _NAMED, **_JSON},
    "not text": {"body": b"\xff\xfe\x00", "headers": _NAMED, **_JSON},
    "no body": {"body": "", "headers": _NAMED, **_JSON},
    "no list": {"body": '{"args": [["a"]]}', "headers": _NAMED, **_JSON},
    "no ids": {"body": "[[[]],{},{}]", "headers": _NAMED, **_JSON},
    "no strings": {"body": "[[[1, null]],{},{}]", "headers": _NAMED, **_JSON},
    "a line break": {"body": '[[["a\\nb"]],{},{}]', "headers": _NAMED, **_JSON},
    "more arguments": {"body": '[[["a"], 2],{},{}]', "headers": _NAMED, **_JSON},
    "protocol 1": {"body": json.dumps(_NAMED | {"args": [["a"]], "kwargs": {}}), **_JSON},
    "huge": {"body": f'[[["{"a" * 3_000_000}"]],{{}},{{}}]', "headers": _NAMED, **_JSON},
    "deep": {"body": "[" * 8000, "headers": _NAMED, **_JSON},
    "compressed": {
        "body": '[[["a"]],{},{}]',
        "headers": _NAMED | {"compression": "application/x-gzip"},
        **_JSON,
    },
}
_RAW = (
    b"\xff\xfe",
    b"plain text",
    b"null",
    b"[]",
    b"{}",
    b'{"body": "e30=", "headers": 3, "properties": {"delivery_tag": {}, "delivery_info": 7}}',
    b'{"body": "e30=", "headers": {}, "properties": {"delivery_tag": "t", "delivery_info": "no"}}',
)
"""What a Redis list can hold that no transport would put there."""


def test_garbage_is_dropped_and_the_next_message_taken(
    settings: Settings, publisher: Publisher, consumer: ConsumerProcess, host: FakeHost
) -> None:
    queue, ids = broker.queue_name(settings, POOL), _ids(2)
    with _channel(settings) as channel:
        producer = kombu.Producer(channel)
        for message in _GARBAGE.values():
            producer.publish(**message, exchange="", routing_key=queue)
    publisher.publish(POOL, ids[:1])
    host.wait_for(ids[:1])
    assert "dropped a message: not a skipper.run message" in consumer.log
    assert "Traceback" not in consumer.log  # no message got as far as Celery
    if not settings.broker_url.startswith("amqp"):
        with _channel(settings) as channel:
            for data in _RAW:
                channel.client.lpush(queue, data)
    publisher.publish(POOL, ids[1:])
    host.wait_for(ids)
    assert host.ids == ids
    wait_until(lambda: _depth(settings) + _unacknowledged(settings) == 0)
    assert consumer.process.poll() is None


# --- outages ---------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def outage(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Settings]]:
    """A server of the test's own and a project on it."""
    with contextlib.ExitStack() as stack:
        if request.param == "valkey":
            settings = stack.enter_context(_project("embedded"))
            yield stack.enter_context(private_valkey(settings)), settings
        else:
            server = (
                request.getfixturevalue("rabbitmq_server")
                if request.param == "rabbitmq"
                else stack.enter_context(private_redis())
            )
            yield server, stack.enter_context(_project(server.url))


def test_a_broker_that_dies_and_returns_is_used_again_and_keeps_nobody_waiting(
    outage: tuple[Server, Settings],
) -> None:
    server, settings = outage
    before, during, after = _ids(5 * 16), _ids(1000), _ids(1)
    with Publisher(settings) as publisher:
        publisher.publish(POOL, before)
        wait_until(lambda: publisher.published == len(before))
        with (
            FakeHost(settings.run_dir / f"{POOL}.sock") as host,
            ConsumerProcess(settings) as consumer,
        ):
            consumer.wait_ready()
            host.wait_for(before)
            publisher.publish(POOL, before)  # again, for the broker to have when it dies
            publisher.publish("gpu", before)
            wait_until(lambda: publisher.published == 3 * len(before))

            server.kill()
            started = time.monotonic()
            for item in during:
                publisher.publish(POOL, [item])
            assert time.monotonic() - started < 2  # one that waited for an answer would take 3
            wait_until(lambda: publisher.dropped + publisher.published == 1000 + 3 * len(before))
            assert not publisher.is_up
            assert publisher.dropped > 0
            with ConsumerProcess(settings) as late:
                server.start()
                late.wait_ready()
                wait_until(lambda: publisher.is_up)
                publisher.publish(POOL, after)
                host.wait_for(after, 10)
            if not settings.broker_url.startswith("amqp"):  # see the next test
                assert _depth(settings, "gpu") == 5
            assert consumer.process.poll() is None
            assert consumer.stop() == 0


def test_messages_outlive_rabbitmqs_restart(rabbitmq_server: Server) -> None:
    """What one that is killed keeps is its own affair, and the ledger makes it good."""
    with _project(rabbitmq_server.url) as settings:
        with Publisher(settings) as publisher:
            publisher.publish("gpu", _ids(80))
            wait_until(lambda: publisher.published == 80)
        rabbitmq_server.stop()
        rabbitmq_server.start()
        assert _depth(settings, "gpu") == 5
        _delete_queues(settings)


def test_a_broker_that_hangs_keeps_nobody_waiting(outage: tuple[Server, Settings]) -> None:
    server, settings = outage
    ids = _ids(1)
    with (
        Publisher(settings) as publisher,
        FakeHost(settings.run_dir / f"{POOL}.sock") as host,
        ConsumerProcess(settings) as consumer,
    ):
        consumer.wait_ready()
        wait_until(lambda: publisher.is_up)
        server.pause()
        try:
            started = time.monotonic()
            for item in _ids(1000):
                publisher.publish(POOL, [item])
            assert time.monotonic() - started < 2  # one that waited for an answer would take 3
            wait_until(lambda: not publisher.is_up)
        finally:
            server.resume()
        wait_until(lambda: publisher.is_up)
        publisher.publish(POOL, ids)
        host.wait_for(ids)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_while_the_broker_is_away_a_consumer_still_stops_when_told_and_ends_with_its_launcher(
    scheme: str,
) -> None:
    with _project(f"{scheme}://127.0.0.1:{free_port()}//") as settings:
        with ConsumerProcess(settings) as told:
            wait_until(lambda: "broker is away" in told.log)
            assert told.stop() == 0
        with ConsumerProcess(settings) as orphan:
            wait_until(lambda: orphan.log.count("broker is away") == 2)
            orphan.launcher.close()
            assert orphan.process.wait(10) == LAUNCHER_GONE


def test_a_consumer_that_the_broker_refuses_says_so_once_and_stops_when_told(
    rabbitmq_url: str,
) -> None:
    wrong = rabbitmq_url.replace("guest:guest", "guest:not-this-one")
    with _project(wrong) as settings, ConsumerProcess(settings) as consumer:
        wait_until(lambda: "broker is away" in consumer.log)
        assert consumer.stop() == 0
        assert consumer.log.count("ACCESS_REFUSED") == 1
        assert "Traceback" not in consumer.log


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_publisher_without_a_broker_drops_and_says_why(scheme: str) -> None:
    with _project(f"{scheme}://127.0.0.1:{free_port()}//") as settings:
        with Publisher(settings) as publisher:
            publisher.publish(POOL, _ids(20))
            wait_until(lambda: publisher.dropped == 20)
            assert not publisher.is_up
        assert "refused" in str(broker.probe(settings))


def test_a_consumer_whose_queue_is_deleted_makes_it_again(rabbitmq_url: str) -> None:
    with (
        _project(rabbitmq_url) as settings,
        FakeHost(settings.run_dir / f"{POOL}.sock") as host,
        ConsumerProcess(settings) as consumer,
        Publisher(settings) as publisher,
    ):
        consumer.wait_ready()
        ids = _ids(1)
        _delete_queues(settings)
        wait_until(lambda: "the broker cancelled this consumer" in consumer.log)
        wait_until(lambda: _depth(settings) == 0)
        publisher.publish(POOL, ids)
        host.wait_for(ids)
    _delete_queues(settings)


# --- the embedded server ---------------------------------------------------------------------

_REFUSED = (
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "CONFIG GET dir",
    "DEBUG SLEEP 0",
    "MODULE LIST",
    "SHUTDOWN",
    "SAVE",
    "BGREWRITEAOF",
    "REPLICAOF 127.0.0.1 1",
    "ACL LIST",
    "MONITOR",
    "CLIENT LIST",
    "SCRIPT FLUSH",
    "FUNCTION FLUSH",
    "MIGRATE 127.0.0.1 1 k 0 1",
    "SWAPDB 0 0",
    "EVAL return(redis.call('FLUSHALL')) 0",
)


@pytest.fixture
def embedded() -> Iterator[tuple[Server, Settings]]:
    with _project("embedded") as settings, private_valkey(settings) as server:
        yield server, settings


def test_the_embedded_broker_listens_on_a_private_socket_alone_and_refuses_what_is_dangerous(
    embedded: tuple[Server, Settings],
) -> None:
    _, settings = embedded
    path = settings.run_dir / "v.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    client: Any = redis.Redis(unix_socket_path=str(path))
    with contextlib.closing(client):
        assert client.info("server")["tcp_port"] == 0
        for command in _REFUSED:
            with pytest.raises(redis.RedisError, match=r"no permissions|not allowed"):
                client.execute_command(*command.split(" "))


def test_a_redis_on_the_path_runs_with_the_same_configuration_in_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = shutil.which("redis-server")
    if program is None:
        absent("there is no redis-server on the PATH")
    monkeypatch.setenv("SKIPPER_VALKEY_BIN", program)
    settings = Settings(project_dir=tmp_path / 'a "b" \\ ü')
    with private_valkey(settings), Publisher(settings) as publisher:
        publisher.publish(POOL, _ids(1))
        wait_until(lambda: publisher.published == 1)
        assert _depth(settings) == 1


def test_the_embedded_broker_starts_with_a_torn_append_only_file(
    embedded: tuple[Server, Settings],
) -> None:
    server, settings = embedded
    ids = _ids(16 * 16)
    with Publisher(settings) as publisher:
        publisher.publish(POOL, ids)
        wait_until(lambda: publisher.published == len(ids))
    server.kill()
    (file,) = (settings.state_dir / "broker").glob("**/*.incr.aof")
    os.truncate(file, file.stat().st_size - 7)  # in the middle of the last command
    server.start()
    wait_until(lambda: _depth(settings) == 15)
    assert "Truncating the AOF" in server.log.read_text()
