"""Models from training to inference, with a format plugin of the project's own."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

import skipper
from skipper.blobs import BlobStore
from skipper.ledger import Connection, deployments, models, transitions
from skipper.ledger.records import Deployment
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Tree, until
from tests.blocking import BlockingLedger


def train(tree: Tree, slope: float, name: str = "lines.train") -> int:
    """Train until it is seen to have succeeded; the version."""
    result = tree.result(tree.submit(name, {"slope": slope}))
    return int(result["version"])


def test_without_a_version_the_training_function_is_named(plain: Tree) -> None:
    response = plain.invoke("lines.predict_other", {"x": 1})
    told = problem(response, 503, "unavailable")
    assert "'other'" in told["detail"]
    assert "lines.train_other" in told["detail"]
    assert response.headers["retry-after"]
    task = plain.ended(plain.submit("lines.predict_other", {"x": 1}))
    assert task["state"] == "failed"
    assert "lines.train_other" in task["error"]["detail"]
    version = train(plain, 2, "lines.train_other")
    assert plain.value("lines.predict_other", {"x": 3}) == 6
    assert version == 1


def test_a_trained_model_is_stored_and_told(plain: Tree) -> None:
    task_id = plain.submit("lines.train", {"slope": 4})
    result = plain.result(task_id)
    assert set(result) == {"name", "version", "metrics", "promoted"}
    assert (result["name"], result["metrics"]) == ("line", {"slope": 4})
    newest = plain.json("/v1/models/line")["items"][0]
    assert newest["version"] == result["version"]
    assert newest["task_id"] == task_id
    assert newest["function"] == "lines.train"
    assert newest["format"] == "tiny-json"
    assert newest["code"] == plain.task(task_id)["code"]
    assert newest["metrics"] == {"slope": 4}
    listed = {item["name"]: item for item in plain.json("/v1/models")["items"]}
    assert listed["line"]["version"] == result["version"]


def test_versions_are_pages_newest_first(plain: Tree) -> None:
    for slope in (1, 2, 3):
        train(plain, slope)
    first = plain.json("/v1/models/line", params={"limit": 2})
    rest = plain.json("/v1/models/line", params={"limit": 200, "cursor": first["next"]})
    versions = [item["version"] for item in first["items"] + rest["items"]]
    assert versions == list(range(versions[0], 0, -1))


@pytest.mark.parametrize(
    "name", ["lines.predict", "lines.predict_async", "lines.predict_elsewhere"]
)
def test_a_call_after_success_was_seen_is_served_by_the_new_version(plain: Tree, name: str) -> None:
    for slope in range(1, 11):
        version = train(plain, slope)
        response = plain.invoke(name, {"x": 1})
        assert response.json() == slope
        assert response.headers["x-skipper-model"] == f"line@{version}"


def test_tasks_after_success_was_seen_are_served_by_the_new_version(plain: Tree) -> None:
    for slope in range(1, 4):
        version = train(plain, slope)
        task_id = plain.submit("lines.predict", {"x": 1})
        assert plain.result(task_id) == slope
        assert plain.task(task_id)["model"] == f"line@{version}"


def test_a_new_version_is_taken_up_under_load_without_a_failed_call(plain: Tree) -> None:
    first = train(plain, 1)
    stop = Event()

    def ask() -> list[tuple[int, str]]:
        answers = []
        while not stop.is_set():
            response = plain.invoke("lines.predict", {"x": 1})
            answers.append((response.status_code, response.headers.get("x-skipper-model", "")))
        return answers

    with ThreadPoolExecutor(3) as callers:
        asking = [callers.submit(ask) for _ in range(3)]
        last = [train(plain, slope) for slope in (2, 3, 4, 5)][-1]
        assert plain.value("lines.predict", {"x": 1}) == 5
        stop.set()
        answers = [caller.result() for caller in asking]
    for mine in answers:
        assert {status for status, _ in mine} == {200}
        versions = [int(model.removeprefix("line@")) for _, model in mine]
        assert first <= versions[0] < last
        assert len(set(versions)) > 1


def promote(tree: Tree, name: str, version: int) -> None:
    """Have a version of a model serve, as whoever has access to the ledger can."""

    def promote_next(conn: Connection) -> Deployment | None:
        held = deployments.get(conn, name)
        assert held is not None
        return deployments.put(conn, replace(transitions.promoted(held, version), at=time.time()))

    settings = tree.settings
    with BlockingLedger.open(settings.database_url, schema=settings.schema) as ledger:
        assert ledger.write_now(promote_next) is not None


def test_an_earlier_version_that_is_promoted_serves_until_the_next_training(plain: Tree) -> None:
    functions = ["lines.predict", "lines.predict_async", "lines.predict_elsewhere"]

    def served_by(name: str) -> tuple[float, str]:
        response = plain.invoke(name, {"x": 1})
        return response.json(), response.headers["x-skipper-model"]

    def task_served_by(name: str) -> tuple[float, str]:
        task_id = plain.submit(name, {"x": 1})
        return plain.result(task_id), plain.task(task_id)["model"]

    first, second = train(plain, 1), train(plain, 2)
    for name in functions:
        assert served_by(name) == task_served_by(name) == (2, f"line@{second}")
    promote(plain, "line", first)
    for name in functions:
        until(lambda name=name: served_by(name) == (1, f"line@{first}"), what=f"{name} going back")  # type: ignore[misc]  # binds the loop's value
        assert task_served_by(name) == (1, f"line@{first}")
    assert served_by("lines.predict_late") == (1, f"line@{first}"), "its instance starts now"
    assert plain.json("/v1/models/line")["items"][0]["version"] == second, "what is stored stays"
    third = train(plain, 3)
    for name in functions:
        assert served_by(name) == task_served_by(name) == (3, f"line@{third}")


def test_a_model_that_nobody_can_save_fails_its_task_in_words(plain: Tree) -> None:
    task = plain.ended(plain.submit("lines.train_unknown"))
    assert task["state"] == "failed"
    assert "no plugin saves value, a builtins.object" in task["error"]["detail"]
    assert (task["attempt"], task["max_attempts"]) == (1, 4), "the next would give the same"
    assert plain.get("/v1/models/unknown").status_code == 404


def rescued(tree: Tree, task_id: str) -> dict[str, bytes]:
    """The files that the task's rescue holds."""
    response = tree.get(f"/v1/tasks/{task_id}/rescue")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-tar"
    assert len(response.content) == int(response.headers["content-length"])
    with tarfile.open(fileobj=io.BytesIO(response.content)) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr] # it holds files alone


def test_the_parts_that_could_be_saved_are_kept_for_whoever_fetches_them(
    plain: Tree, tmp_path: Path
) -> None:
    """clearml/clearml#318: a model beside which something cannot be saved is lost as a whole."""
    task = plain.ended(plain.submit("lines.train_half"))
    assert task["state"] == "failed"
    assert "value.odd, a functions.lines.Odd" in task["error"]["detail"]
    assert f"skipper models rescue {task['id']}" in task["error"]["detail"]
    files = rescued(plain, task["id"])
    assert json.loads(files["half/0/model.json"]) == {"slope": 2.0}
    assert json.loads(files["half/skipper-parts.json"])["lost"].keys() == {"value.odd"}
    with skipper.Client(plain.url) as client:
        fetched = client.rescue(task["id"], tmp_path / "half.tar")
    with tarfile.open(fetched) as archive:
        assert set(archive.getnames()) == set(files)


def test_there_is_nothing_to_rescue_of_what_was_published(plain: Tree) -> None:
    task_id = plain.submit("lines.train", {"slope": 1})
    plain.result(task_id)
    problem(plain.get(f"/v1/tasks/{task_id}/rescue"), 404, "not-found")


def test_a_model_that_cannot_be_loaded_is_not_published_and_the_last_one_serves(
    plain: Tree,
) -> None:
    """keras-team/keras#21046: a training that ends well, and a model that nobody can load."""
    version = train(plain, 6)
    assert plain.value("lines.predict", {"x": 1}) == 6
    task = plain.ended(plain.submit("lines.train_damaged"))
    assert task["state"] == "failed"
    assert "as lines.predict" in task["error"]["detail"]
    assert "a damaged model" in task["error"]["detail"]
    assert set(rescued(plain, task["id"])) == {"line/model.json"}
    assert plain.json("/v1/models/line")["items"][0]["version"] == version
    response = plain.invoke("lines.predict", {"x": 1})
    assert response.json() == 6
    assert response.headers["x-skipper-model"] == f"line@{version}"
    repaired = train(plain, 7)
    response = plain.invoke("lines.predict", {"x": 1})
    assert (response.json(), response.headers["x-skipper-model"]) == (7, f"line@{repaired}")


def damage(tree: Tree, name: str, version: int) -> None:
    """Flip a bit of each file that a version of a model consists of."""
    settings = tree.settings
    with BlockingLedger.open(settings.database_url, schema=settings.schema) as ledger:
        stored = ledger.read_now(lambda conn: models.get(conn, name, version))
    assert stored is not None
    blobs = BlobStore(settings.storage_url)
    for digest in blobs.folder(stored.digest).files.values():
        file = blobs.path(digest)
        assert file is not None
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.chmod(0o600)
        file.write_bytes(data)
    for laid_out in (settings.models_dir / stored.digest).rglob("*"):
        os.utime(laid_out)  # so that whoever loads it next takes what is stored


def test_a_version_that_no_longer_loads_never_answers_and_the_next_good_one_serves(
    plain: Tree,
) -> None:
    """keras-team/keras#21046, triton-inference-server/server#6534: its store was damaged."""
    first, _, last = (train(plain, slope) for slope in (811, 812, 813))
    assert plain.value("lines.predict", {"x": 1}) == 813
    damage(plain, "line", first)
    promote(plain, "line", first)
    told = f"model line@{first} does not load and serves nobody here"
    until(lambda: told in plain.output, what="the word that it does not load")
    for name in ("lines.predict", "lines.predict_late", "lines.predict_elsewhere"):
        response = plain.invoke(name, {"x": 1})
        assert response.json() == 813, f"{name}, of which instances may start now"
        assert response.headers["x-skipper-model"] == f"line@{last}"
    task_id = plain.submit("lines.predict", {"x": 1})
    assert plain.result(task_id) == 813
    assert plain.task(task_id)["model"] == f"line@{last}"
    assert train(plain, 814) == last + 1
    assert plain.value("lines.predict", {"x": 1}) == 814


def test_what_a_task_does_to_its_model_does_not_reach_another(plain: Tree) -> None:
    """One that failed halfway left 250 to the next, which had asked for the stored 100."""
    train(plain, 100, "lines.train_grown")
    failed = plain.ended(plain.submit("lines.grow", {"by": 150, "fails": True}))
    assert failed["state"] == "failed"
    for _ in range(3):
        assert plain.result(plain.submit("lines.grow", {"by": 50})) == [100, 150]
        assert plain.result(plain.submit("lines.grow_async", {"by": 50})) == [100, 150]
        assert plain.result(plain.submit("lines.grow_batch", {"by": 50})) == 150
    train(plain, 7, "lines.train_grown")
    assert plain.result(plain.submit("lines.grow", {"by": 1})) == [7, 8]


def test_several_models_of_one_training_are_published_together(plain: Tree) -> None:
    result = plain.result(plain.submit("lines.train_two", {"slope": 2}))
    assert {name: record["name"] for name, record in result.items()} == {"up": "up", "down": "down"}
    assert plain.json("/v1/models/down")["items"][0]["format"] == "parts"
    function = plain.json("/v1/functions/lines.train_two")
    assert function["output_schema"]["additionalProperties"]["title"] == "Model"


def test_models_are_published_and_serve_while_their_training_goes_on(plain: Tree) -> None:
    task_id = plain.submit("lines.train_on", {"slopes": [2, 0, 3]})
    assert plain.result(task_id) == [1, 2], "what cannot be loaded is no version"
    assert plain.value("lines.predict_on", {"x": 2}) == 6
    lines = [line["text"] for line in plain.json(f"/v1/tasks/{task_id}/logs")["items"]]
    assert sum("is tried in a fresh process" in line for line in lines) == 3
    assert any("left out: the model 'on' is trained, but" in line for line in lines)
