"""Old versions are removed, and nobody who needs one notices."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import httpx
import pytest

from skipper.client import Client
from skipper.errors import NotFoundError, UnavailableError
from tests.acceptance.conftest import PLAIN, Grow
from tests.acceptance.test_deployments import send, served_by
from tests.acceptance.test_models import train
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Tree

GC = "/v1/models/line/gc"


def test_a_removed_version_is_told_so_and_cannot_serve(plain: Tree) -> None:
    numbers = [train(plain, slope) for slope in range(1, 6)]
    first, second, *_, before, now = numbers
    send(plain, "PUT", "/v1/models/line/aliases/kept", {"version": first})
    trial = send(plain, "POST", GC, {"keep_versions": 1, "trial": True}).json()
    assert second in trial["removed"]
    assert plain.get(f"/v1/models/line/versions/{second}").status_code == 200
    told = send(plain, "POST", GC, {"keep_versions": 1}).json()
    assert told["removed"] == trial["removed"]
    held = {each["version"]: each["by"] for each in told["held"]}
    assert (held[now], held[before], held[first]) == ("production", "previous", "alias kept")
    gone = problem(plain.get(f"/v1/models/line/versions/{second}"), 410, "gone")
    assert "has kept the newest 1 only" in gone["detail"]
    promoted = send(plain, "POST", "/v1/models/line/promote", {"version": second})
    problem(promoted, 422, "no-such-version")
    assert served_by(plain, "lines.predict") == f"line@{now}"
    back = send(plain, "POST", "/v1/models/line/rollback").json()
    assert back["production"] == before
    assert served_by(plain, "lines.predict") == f"line@{before}"
    assert train(plain, 7) == now + 1, "no number is given twice"
    listed = {item["version"]: item["state"] for item in plain.json("/v1/models/line")["items"]}
    assert listed[second] == "removed"


def test_what_is_kept_has_to_be_said(plain: Tree) -> None:
    train(plain, 1)
    problem(send(plain, "POST", GC, {}), 400, "bad-request")
    problem(send(plain, "POST", GC, {"keep_versions": 0}), 400, "bad-request")
    problem(send(plain, "POST", "/v1/models/none/gc", {"keep_versions": 1}), 404, "not-found")


def test_a_version_is_exported_as_one_file(plain: Tree, tmp_path: Path) -> None:
    number = train(plain, 3)
    with Client(plain.url) as client:
        path = client.export_model("line", number, tmp_path / "line.tar")
        shown = client.model_version("line", number)
        with pytest.raises(NotFoundError):
            client.export_model("line", 10**6, tmp_path / "none.tar")
    assert not (tmp_path / "none.tar").exists()
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["skipper-model.json", "files/model.json"]
        about, model = (tar.extractfile(name) for name in tar.getnames())
        assert about is not None
        assert model is not None
        del shown["calls"]  # what this project's hosts have counted is of no other one
        assert json.load(about) == {"layout": 1} | shown
        content = model.read()
    assert json.loads(content) == {"slope": 3}
    assert hashlib.sha256(content).hexdigest() == shown["files"][0]["sha256"]


def test_a_damaged_version_is_not_exported(plain: Tree, tmp_path: Path) -> None:
    number = train(plain, 4.25)
    with Client(plain.url) as client:
        (file,) = client.model_version("line", number)["files"]
        blob = plain.folder / ".skipper" / "blobs" / file["sha256"][:2] / file["sha256"]
        blob.chmod(0o600)
        sound = blob.read_bytes()
        blob.write_bytes(sound[:-1] + b"!")
        with pytest.raises(UnavailableError):
            client.export_model("line", number, tmp_path / "line.tar")
        blob.write_bytes(sound)
    assert list(tmp_path.iterdir()) == []


def test_what_is_exported_answers_the_same_in_another_project(
    plain: Tree, grow: Grow, tmp_path: Path
) -> None:
    number = train(plain, 5)
    shutil.copytree(PLAIN, tmp_path / "other", ignore=shutil.ignore_patterns("__pycache__"))
    with Client(plain.url) as client:
        path = client.export_model("line", number, tmp_path / "line.tar")
        exported = client.model_version("line", number)
    other = grow(tmp_path / "other").ready()
    with Client(other.url) as client:
        made = client.import_model(path)
        assert (made["name"], made["version"], made["state"]) == ("line", 1, "stored")
        assert (made["task_id"], made["metrics"]) == (None, {"slope": 5})
        assert made["origin"]["task_id"] == exported["task_id"]
        assert (made["origin"]["version"], made["digest"]) == (number, exported["digest"])
        assert client.deployment("line")["production"] is None, "nobody has promoted it"
        assert client.import_model(path, name="curve")["name"] == "curve"
    send(other, "POST", "/v1/models/line/promote", {"version": 1})
    assert other.value("lines.predict", {"x": 2}) == plain.value("lines.predict", {"x": 2}) == 10
    assert served_by(other, "lines.predict") == "line@1"
    with Client(other.url) as client:
        again = client.export_model("line", 1, tmp_path / "again.tar")
        assert client.import_model(again)["version"] == 2
    assert train(other, 6) == 3


def _blobs(state: Path) -> set[Path]:
    return {path for path in state.rglob("*") if path.parts[-3] == "blobs"}


def _unpacked(state: Path) -> set[Path]:
    """Folders that hold what somebody has unpacked; processes that were killed leave some."""
    return {path for path in (state / "tmp").iterdir() if path.is_dir() and any(path.iterdir())}


def test_an_import_that_is_refused_leaves_nothing(plain: Tree, tmp_path: Path) -> None:
    number = train(plain, 8)
    with Client(plain.url) as client:
        whole = client.export_model("line", number, tmp_path / "line.tar").read_bytes()
    state = plain.folder / ".skipper"
    before, unpacked = _blobs(state), _unpacked(state)
    post = plain.url + "/v1/models"
    for damaged in (b"", b"no tar", whole[:-2000], whole.replace(b"slope", b"slopf")):
        told = problem(httpx.post(post, content=damaged), 422, "invalid-input")
        assert "no version of a model that can be imported" in told["detail"]
    problem(httpx.post(post + "?name=..", content=whole), 400, "bad-request")
    problem(httpx.post(post + "?as=x", content=whole), 400, "bad-request")
    packed = httpx.post(post, content=gzip.compress(whole), headers={"content-encoding": "gzip"})
    problem(packed, 415, "unsupported-media-type")
    assert plain.json("/v1/models/line")["items"][0]["version"] == number
    assert _blobs(state) == before
    assert _unpacked(state) <= unpacked
