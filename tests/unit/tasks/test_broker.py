"""Queues, app and message, without a broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skipper.settings.masking import SecretUrl
from skipper.settings.model import BrokerSettings, ProjectSettings, Settings
from skipper.tasks import broker
from skipper.tasks.broker import TASK_NAME

URLS = {
    "valkey": "embedded",
    "redis": "redis://:secret@example.com:6379/0",
    "rabbitmq": "amqp://user:secret@example.com//",
}


def settings_for(url: str) -> Settings:
    return Settings(
        project_dir=Path("/nowhere/my project"),
        project=ProjectSettings(name="mine"),
        broker=BrokerSettings(url=SecretUrl(url)),
    )


# --- names and settings ----------------------------------------------------------------------


def test_a_queue_carries_the_projects_name_and_the_pools() -> None:
    assert broker.queue_name(settings_for("embedded"), "gpu") == "skipper.mine.gpu"


def test_importing_the_broker_imports_neither_celery_nor_kombu() -> None:
    code = (
        "import sys, skipper.tasks.broker; "
        "print(sorted({'celery', 'kombu', 'redis'} & set(sys.modules)))"
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
