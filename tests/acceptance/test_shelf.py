"""Old versions are removed, and nobody who needs one notices."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from skipper.client import Client
from skipper.errors import NotFoundError, UnavailableError
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
        assert json.load(about) == shown
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
