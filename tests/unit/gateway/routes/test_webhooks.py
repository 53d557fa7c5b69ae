"""``/v1/webhooks``: who is notified of ends, without what must stay secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI

from skipper.blobs import BlobStore
from skipper.gateway.context import Context
from skipper.gateway.problems import Problem
from skipper.gateway.routes import webhooks
from skipper.ledger import tasks
from skipper.settings.webhooks import DELIVER, Webhook
from skipper.task import Task
from tests.blocking import BlockingLedger
from tests.intakes import Desk
from tests.unit.gateway.asgi import request

SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()
OPS = Webhook.model_validate(
    {"url": "https://ops.example.com/token", "secret": SECRET, "events": ["failed"]}
)


class Gateway(Desk):
    """The routes alone, on a real ledger."""

    def __init__(self, ledger: BlockingLedger, blobs: BlobStore) -> None:
        super().__init__(ledger, blobs)
        context = SimpleNamespace(
            settings=SimpleNamespace(webhooks={"ops": OPS}),
            intake=self.intake,
            tasks=SimpleNamespace(document=self.document),
        )
        self.app = FastAPI()
        self.app.include_router(webhooks.routes(cast(Context, context)))

    async def document(self, task: Task) -> Any:
        return {"id": task.id, "function": task.function}


@pytest.fixture
def gateway(ledger_url: str, tmp_path: Path) -> Iterator[Gateway]:
    with BlockingLedger.open(ledger_url) as ledger:
        yield Gateway(ledger, BlobStore(str(tmp_path / "blobs")))


async def test_webhooks_are_listed_without_their_secrets(gateway: Gateway) -> None:
    answer = await request(gateway.app, path="/v1/webhooks")
    assert answer.json == {
        "items": [
            {
                "name": "ops",
                "origin": "https://ops.example.com",
                "events": ["failed"],
                "functions": ["*"],
                "allow_private": False,
                "timeout_s": 10.0,
            }
        ]
    }


async def test_a_test_is_a_task_that_sends_a_ping(gateway: Gateway) -> None:
    answer = await request(gateway.app, "POST", "/v1/webhooks/ops/test")
    task_id = answer.json["id"]
    assert (answer.status, answer.json["function"]) == (202, DELIVER)
    assert answer.headers["location"] == f"/v1/tasks/{task_id}"
    assert gateway.published == [("cpu", [task_id])]
    (claim,) = await gateway.ledger.write(lambda conn: tasks.claim(conn, [task_id], "h", 1e12))
    body = json.loads(claim.input.inline or b"")
    assert (body["webhook"], json.loads(body["event"])["type"]) == ("ops", "ping")
    assert claim.task.max_attempts == 1


async def test_a_webhook_that_is_not_there_is_not_found(gateway: Gateway) -> None:
    with pytest.raises(Problem, match="no webhook 'other'") as caught:
        await request(gateway.app, "POST", "/v1/webhooks/other/test")
    assert caught.value.kind.status == 404
