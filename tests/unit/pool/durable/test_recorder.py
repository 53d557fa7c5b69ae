"""What is written of an attempt, and whether it is tried again."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from sqlalchemy import bindparam, update

from skipper.blobs import BlobStore
from skipper.errors import FormatError
from skipper.instance.wishes import PublishModel
from skipper.ledger import models, parts, retention, tasks
from skipper.ledger.connection import Statement
from skipper.ledger.records import Fitness
from skipper.ledger.schema import tasks as task_table
from skipper.outcomes import Outcome
from skipper.pool.durable.lane import Patience
from skipper.task import State
from skipper.wire import calls
from skipper.wire.events import SavedModel
from skipper.wire.frames import FrameKind
from tests.unit.pool.durable.stage import (
    SPEC,
    Actor,
    Given,
    Stage,
    begun,
    inline,
    problem,
    until,
)
from tests.unit.pool.played import Played


async def test_what_has_run_is_not_run_again_while_the_ledger_is_away(stage: Stage) -> None:
    runs = []

    def act(actor: Actor) -> None:
        runs.append(actor)
        actor.replies()

    stage.act = act
    stage.ledger.away = 2
    task = await stage.until(stage.submit(), State.SUCCEEDED)
    assert (task.attempt, len(runs)) == (1, 1)


async def test_a_task_publishes_its_model_once_however_often_it_runs(stage: Stage) -> None:
    def train(actor: Actor) -> None:
        saved = SavedModel("m", "plain", "d" * 64, {"loss": len(attempts)}, {"depth": 3})
        attempts.append(1)
        actor.says(FrameKind.EVENT, None, saved.to_json())
        if len(attempts) == 1:
            stage.ledger.away = 1_000_000  # its end is never written
        actor.replies(0)

    attempts: list[int] = []
    stage.act = train
    task_id = stage.submit()
    await until(lambda: stage.ledger.read_now(lambda conn: models.latest(conn, "m")))
    stage.ledger.write_now(lambda conn: tasks.release(conn, "host-1", None, time.time(), lost=True))
    stage.ledger.away = 0
    await until(lambda: not stage.running)
    stage.claimer.take([task_id], lambda: None)
    task = await stage.until(task_id, State.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task_id))
    assert task.attempt == 2
    assert result is not None
    published = stage.ledger.read_now(lambda conn: models.latest(conn, "m"))
    assert published is not None
    assert published.params == {"depth": 3}
    assert json.loads(inline(result)) == {
        "name": "m",
        "version": 1,
        "metrics": {"loss": 0},
        "promoted": True,
    }


async def test_a_failure_is_tried_again_while_attempts_are_left(stage: Stage) -> None:
    stage.act = lambda actor: actor.ends(problem(Outcome.FAILED))
    last = stage.submit()
    assert (await stage.until(last, State.FAILED)).error is not None
    task = await stage.until(stage.submit(retries=1), State.RETRYING)
    assert task.available_at > time.time()


def ended(stage: Stage) -> dict[str, int]:
    """How often attempts have ended how."""
    found = stage.metrics.snapshot(queued=0, instances=()).attempts
    return {each.outcome: each.count for each in found if each.lane == "tasks"}


async def test_every_attempt_that_ends_is_counted(stage: Stage) -> None:
    """https://github.com/mlflow/mlflow/issues/14149"""
    stage.functions.spec = SPEC.model_copy(update={"backoff_s": 0.01})
    endings = [Outcome.OK, Outcome.TIMED_OUT, Outcome.FAILED]

    def act(actor: Actor) -> None:
        outcome = endings.pop()
        actor.ends(problem(outcome) if outcome else calls.reply(outcome, b"c0de", b"1"))

    stage.act = act
    task_id = stage.submit(retries=2)
    await until(lambda: sum(ended(stage).values()) == 1)
    stage.claimer.take([task_id], lambda: None)
    await until(lambda: sum(ended(stage).values()) == 2)
    stage.claimer.take([task_id], lambda: None)
    await stage.until(task_id, State.SUCCEEDED)
    assert ended(stage) == {"failed": 1, "timed_out": 1, "ok": 1}
    stage.act = lambda actor: actor.ends(problem(Outcome.INVALID))
    await stage.until(stage.submit(), State.FAILED)
    assert ended(stage) == {"failed": 1, "timed_out": 1, "ok": 1, "invalid": 1}


async def test_an_exception_that_is_not_named_is_not_tried_again(stage: Stage) -> None:
    told = calls.problem(Outcome.FAILED, "ValueError: no", b"c0de", retryable=False)
    stage.act = lambda actor: actor.ends(told)
    task = await stage.until(stage.submit(retries=3), State.FAILED)
    assert task.attempt == 1


async def test_a_task_that_waits_for_a_model_uses_its_retries(stage: Stage) -> None:
    stage.untrained_detail = "model 'boston' has no version yet; call boston.train first"
    stage.functions.spec = SPEC.model_copy(update={"backoff_s": 0.01})
    task_id = stage.submit(retries=2)
    task = await stage.until(task_id, State.RETRYING)
    (attempt,) = stage.attempts(task_id)
    assert (attempt.outcome, task.attempt) == (State.FAILED, 1)
    assert stage.untrained_detail in (attempt.error or {})["detail"]
    stage.untrained_detail = ""
    stage.claimer.take([task_id], lambda: None)
    assert (await stage.until(task_id, State.SUCCEEDED)).attempt == 2
    stage.untrained_detail = "still none"
    assert (await stage.until(stage.submit(), State.FAILED)).attempt == 1


@pytest.mark.parametrize(
    ("backoff_s", "spent", "least", "most"),
    [(1.0, 0, 0.5, 1.0), (10.0, 0, 5.0, 10.0), (10.0, 2, 20.0, 40.0), (10.0, 2000, 150.0, 300.0)],
)
async def test_pauses_between_attempts_double_from_the_functions_first_to_five_minutes(
    stage: Stage, backoff_s: float, spent: int, least: float, most: float
) -> None:
    stage.functions.spec = SPEC.model_copy(update={"backoff_s": backoff_s})
    stage.act = lambda actor: actor.ends(problem(Outcome.FAILED))
    task_id = stage.accept(retries=3000)
    write = Statement(update(task_table).values(spent=bindparam("spent")))
    stage.ledger.write_now(lambda conn: conn.run(write, {"spent": spent}))
    stage.claimer.take([task_id], lambda: None)
    task = await stage.until(task_id, State.RETRYING)
    (attempt,) = stage.attempts(task_id)
    assert least <= task.available_at - (attempt.ended_at or 0) + 0.1 <= most + 0.2


async def test_an_attempt_that_crashed_still_names_what_ran_it(stage: Stage) -> None:
    stage.act = Played.dies
    task_id = stage.submit(retries=1)
    await stage.until(task_id, State.RETRYING)
    (attempt,) = stage.attempts(task_id)
    assert (attempt.code, attempt.instance, attempt.outcome) == ("c0de", "f.f#0", "crashed")
    assert attempt.ended_at is not None


@pytest.mark.parametrize("given", [Given(patience=Patience(noted_s=0.01))])
async def test_what_runs_for_a_while_is_noted_for_those_who_lose_it(stage: Stage) -> None:
    task_id, _ = await begun(stage, timeout_s=100.0)
    await until(lambda: stage.task(task_id).code)
    task = stage.task(task_id)
    assert (task.deadline_at or 0) > (task.started_at or 0) + 100.0
    stage.ledger.write_now(lambda conn: tasks.release(conn, "host-1", None, 1.0, lost=True))
    (attempt,) = stage.attempts(task_id)
    assert (attempt.code, attempt.instance, attempt.outcome) == ("c0de", "f.f#0", "lost")


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.UNAVAILABLE])
async def test_what_would_end_the_same_is_not_tried_again(stage: Stage, outcome: Outcome) -> None:
    stage.act = lambda actor: actor.ends(problem(outcome))
    await stage.until(stage.submit(retries=3), State.FAILED)


async def test_a_large_value_is_stored_beside_the_ledger(stage: Stage) -> None:
    stage.act = lambda actor: actor.replies("x" * 5000)
    task_id = stage.submit()
    await stage.until(task_id, State.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task_id))
    assert result is not None
    assert result.value is not None
    assert result.value.ref is not None
    assert BlobStore(str(stage.folder / "blobs")).get(result.value.ref)[:3] == b'"xx'


async def test_a_value_that_cannot_be_stored_fails_its_task_and_is_not_made_again(
    stage: Stage,
) -> None:
    (stage.folder / "blobs").write_text("in the way")
    stage.act = lambda actor: actor.replies("x" * 2000)
    task = await stage.until(stage.submit(retries=3), State.FAILED)
    assert task.attempt == 1
    assert "could not be stored" in (task.error or {})["detail"]


async def test_a_value_waits_for_room_on_a_disk_that_is_full(stage: Stage) -> None:
    stage.blobs.refusals = 2
    stage.act = lambda actor: actor.replies("x" * 2000)
    task = await stage.until(stage.submit(), State.SUCCEEDED)
    assert (task.attempt, stage.blobs.refusals) == (1, 0)


# --- trials of models ------------------------------------------------------------------------


def trained(stage: Stage, *names: str, outcome: Outcome = Outcome.OK, outline: Any = 0) -> None:
    """Have the function train models that are in the store."""

    def act(actor: Actor) -> None:
        for name in names:
            folder = stage.folder / f"model-{name}"
            folder.mkdir(exist_ok=True)
            (folder / "weights").write_text(name)
            digest = stage.blobs.put_folder(folder)
            actor.says(FrameKind.EVENT, None, SavedModel(name, "plain", digest, {}).to_json())
        actor.replies(outline) if outcome is Outcome.OK else actor.ends(problem(outcome))

    stage.act = act


def rescue_of(stage: Stage, task_id: str) -> str | None:
    return stage.ledger.read_now(lambda conn: parts.rescue(conn, task_id))


async def test_a_model_is_tried_before_it_is_published_as_fit_with_its_size(stage: Stage) -> None:
    trained(stage, "m")
    await stage.until(stage.submit(), State.SUCCEEDED)
    assert stage.trials.tried == ["m"]
    published = stage.ledger.read_now(lambda conn: models.latest(conn, "m"))
    assert published is not None
    assert (published.state, published.size) == (Fitness.FIT, 1)


async def test_a_model_that_cannot_be_served_fails_its_task_for_good_and_is_kept(
    stage: Stage,
) -> None:
    trained(stage, "m", "n")
    stage.trials.reason = "the model 'n' is trained, but it cannot be loaded"
    task = await stage.until(stage.submit(retries=3), State.FAILED)
    assert task.attempt == 1
    assert task.error is not None
    assert task.error["detail"].startswith(stage.trials.reason)
    assert f"skipper models rescue {task.id}" in task.error["detail"]
    for name in ("m", "n"):
        assert stage.ledger.read_now(lambda conn, n=name: models.latest(conn, n)) is None  # type: ignore[misc] # binds the loop's value
    root = rescue_of(stage, task.id)
    assert root is not None
    assert sorted(stage.blobs.folder(root).files) == ["m/weights", "n/weights"]


async def test_blobs_that_are_kept_to_be_rescued_are_in_use_until_the_task_is_forgotten(
    stage: Stage,
) -> None:
    trained(stage, "m")
    stage.trials.reason = "unfit"
    task = await stage.until(stage.submit(), State.FAILED)
    root = rescue_of(stage, task.id)
    assert root is not None
    blobs = stage.blobs.members(root)
    assert not stage.ledger.read_now(lambda conn: retention.unused(conn, blobs))
    pruned = stage.ledger.write_now(lambda conn: retention.prune(conn, [task.id], time.time()))
    assert set(pruned.refs) == blobs


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.DIED])
async def test_what_was_saved_before_a_failure_is_kept_once_nothing_is_tried_again(
    stage: Stage, outcome: Outcome
) -> None:
    trained(stage, "m", outcome=outcome)
    task = await stage.until(stage.submit(), State.FAILED, State.CRASHED)
    assert rescue_of(stage, task.id) is not None
    task = await stage.until(stage.submit(retries=1), State.RETRYING)
    assert rescue_of(stage, task.id) is None
    assert stage.trials.tried == []


async def test_a_task_can_be_cancelled_while_its_model_is_tried(stage: Stage) -> None:
    trained(stage, "m")
    stage.trials.may_end.clear()
    task_id = stage.submit()
    await until(lambda: stage.trials.tried)
    assert stage.lane.cancel(task_id)
    await stage.until(task_id, State.CANCELLED)
    assert stage.ledger.read_now(lambda conn: models.latest(conn, "m")) is None
    assert rescue_of(stage, task_id) is None


async def test_a_trial_does_not_count_against_the_tasks_timeout(stage: Stage) -> None:
    trained(stage, "m")
    stage.trials.may_end.clear()
    task_id = stage.submit(timeout_s=0.05)
    await until(lambda: stage.trials.tried)
    asyncio.get_running_loop().call_later(0.1, stage.trials.may_end.set)
    await stage.until(task_id, State.SUCCEEDED)


@pytest.mark.parametrize("outline", [[0, 1], {"a": 0, "b": 1}])
async def test_the_result_has_the_shape_of_what_was_returned(stage: Stage, outline: Any) -> None:
    trained(stage, "m", "n", outline=outline)
    task = await stage.until(stage.submit(), State.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task.id))
    assert result is not None
    found = json.loads(inline(result))
    records = list(found.values()) if isinstance(found, dict) else found
    assert [(record["name"], record["version"]) for record in records] == [("m", 1), ("n", 1)]


async def publish(stage: Stage, task_id: str, step: int) -> dict[str, Any]:
    """Publish a model of a task that runs, as its function would."""
    folder = stage.folder / "saved"
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(str(step))
    wish = PublishModel(
        task_id=task_id,
        name="m",
        format="plain",
        digest=stage.blobs.put_folder(folder),
        metrics={"step": step},
        params=None,
        step=step,
    )
    attempt = stage.running[task_id]
    assert attempt.publications is not None
    found: dict[str, Any] = json.loads(await attempt.publications.publish(attempt, wish))
    return found


async def test_models_that_a_training_saves_are_versions_numbered_once_each(stage: Stage) -> None:
    stage.functions.spec = SPEC.model_copy(update={"backoff_s": 0.01})
    task_id, actor = await begun(stage, retries=1)
    assert [(await publish(stage, task_id, step))["version"] for step in (0, 1)] == [1, 2]
    actor.dies()
    await stage.until(task_id, State.RETRYING)
    await until(lambda: not stage.running)
    again: list[Actor] = []
    stage.act = again.append
    stage.claimer.take([task_id], lambda: None)
    await until(lambda: again)
    steps = [await publish(stage, task_id, step) for step in (0, 1, 2)]
    assert [each["version"] for each in steps] == [1, 2, 3]
    assert [each["metrics"]["step"] for each in steps] == [0, 1, 2]
    again[0].replies()
    await stage.until(task_id, State.SUCCEEDED)


async def test_what_is_saved_and_unfit_is_kept_if_the_training_fails_for_it(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    stage.trials.reason = "nobody can load it"
    with pytest.raises(FormatError, match="nobody can load it"):
        await publish(stage, task_id, 0)
    actor.ends(problem(Outcome.FAILED))
    await stage.until(task_id, State.FAILED)
    root = rescue_of(stage, task_id)
    assert root is not None
    assert list(stage.blobs.folder(root).files) == ["m/weights"]
