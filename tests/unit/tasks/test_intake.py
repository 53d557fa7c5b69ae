import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.ledger import Ledger, tasks
from skipper.ledger.records import Claim
from skipper.spec import FunctionSpec, Kind
from skipper.task import Task
from skipper.tasks.intake import Intake, Submission
from skipper.values.store import ValueStore
from skipper.values.value import Value

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
INLINE = 16


class Desk:
    """An intake on a real ledger; what it publishes is kept, with whether it could be read then."""

    def __init__(self, ledger: Ledger, blobs: BlobStore) -> None:
        self.ledger, self.blobs = ledger, blobs
        self.published: list[tuple[str, str, bool]] = []
        self.intake = Intake(ledger, ValueStore(blobs, INLINE), self._publish)

    def _publish(self, pool: str, task_id: str) -> None:
        is_there = self.ledger.read_now(lambda conn: tasks.get(conn, task_id)) is not None
        self.published.append((pool, task_id, is_there))

    async def accept(self, body: bytes = b"{}", **given: Any) -> str:
        accepted, _ = await self.intake.accept(Submission(spec=SPEC, body=body, **given))
        return accepted.id

    def task(self, task_id: str) -> Task:
        task = self.ledger.read_now(lambda conn: tasks.get(conn, task_id))
        assert task is not None
        return task

    def claim(self, task_id: str) -> Claim:
        (claim,) = self.ledger.write_now(
            lambda conn: tasks.claim(conn, [task_id], "host", time.time())
        )
        return claim


@pytest.fixture
def desk(ledger_url: str, tmp_path: Path) -> Iterator[Desk]:
    with Ledger.open(ledger_url) as ledger:
        yield Desk(ledger, BlobStore(str(tmp_path / "blobs")))


async def test_a_task_is_in_the_ledger_before_anybody_hears_of_it(desk: Desk) -> None:
    task_id = await desk.accept()
    assert desk.published == [("gpu", task_id, True)]


async def test_a_task_is_what_its_function_declares_and_its_caller_says(desk: Desk) -> None:
    task_id = await desk.accept(b'{"a": 1}', request_id="req", parent_id="parent", depth=3)
    claim = desk.claim(task_id)
    task = claim.task
    assert (task.function, task.kind, task.pool) == ("f.f", "training", "gpu")
    assert (task.max_attempts, task.timeout_s) == (3, 30.0)
    assert (task.request_id, task.parent_id, claim.depth) == ("req", "parent", 3)
    assert claim.input == Value(inline=b'{"a": 1}')


async def test_its_function_says_how_urgent_it_is_unless_its_caller_does(desk: Desk) -> None:
    spec = SPEC.model_copy(update={"priority": 3, "expires_s": 60.0})
    usual, _ = await desk.intake.accept(Submission(spec=spec, body=b"{}"))
    other, _ = await desk.intake.accept(
        Submission(spec=spec, body=b"{}", priority=0, expires_s=5.0, delay_s=100.0)
    )
    told = []
    for accepted in (usual, other):
        task = desk.task(accepted.id)
        ahead = round((task.expires_at or 0) - task.created_at)
        told.append((task.priority, round(task.available_at - task.created_at), ahead))
    assert told == [(3, 0, 60), (0, 100, 105)]


async def test_what_is_delayed_is_published_when_it_is_due_and_not_before(desk: Desk) -> None:
    await desk.accept(delay_s=100.0)
    assert desk.published == []


async def test_what_is_answered_is_what_was_written(desk: Desk) -> None:
    submission = Submission(
        spec=SPEC, body=b"{}", request_id="req", parent_id="parent", priority=2, expires_s=9.0
    )
    accepted, told = await desk.intake.accept(submission)
    assert desk.ledger.read_now(lambda conn: tasks.get(conn, accepted.id)) == told


@pytest.mark.parametrize(("size", "is_inline"), [(INLINE, True), (INLINE + 1, False)])
async def test_a_large_body_is_stored_beside_the_ledger(
    desk: Desk, size: int, is_inline: bool
) -> None:
    body = b"x" * size
    claim = desk.claim(await desk.accept(body))
    if is_inline:
        assert claim.input == Value(inline=body)
    else:
        assert claim.input.ref is not None
        assert desk.blobs.get(claim.input.ref) == body


async def test_the_same_key_and_body_is_the_same_task_and_published_once(desk: Desk) -> None:
    first = await desk.accept(idempotency_key="key")
    assert await desk.accept(idempotency_key="key") == first
    assert len(desk.published) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"body": b'{"other": 1}'},
        {"spec": SPEC.model_copy(update={"name": "f.g"})},
    ],
)
async def test_the_same_key_with_another_call_does_not_match(
    desk: Desk, other: dict[str, Any]
) -> None:
    await desk.accept(idempotency_key="key")
    given: dict[str, Any] = {"spec": SPEC, "body": b"{}", "idempotency_key": "key"}
    accepted, _ = await desk.intake.accept(Submission(**(given | other)))
    assert (accepted.is_new, accepted.matches) == (False, False)


async def test_without_a_key_the_same_call_is_another_task(desk: Desk) -> None:
    assert await desk.accept() != await desk.accept()


async def test_a_large_body_that_cannot_be_stored_is_refused_as_what_may_pass(
    ledger_url: str, tmp_path: Path
) -> None:
    class Full(BlobStore):
        def put(self, data: bytes) -> str:
            raise OSError(errno.ENOSPC, "No space left on device")

    with Ledger.open(ledger_url) as ledger:
        desk = Desk(ledger, Full(str(tmp_path / "blobs")))
        with pytest.raises(UnavailableError, match="No space left"):
            await desk.accept(b"x" * (INLINE + 1))
        assert desk.published == []
        assert await desk.accept(b"x")
