"""Old versions are removed, and nobody who needs one notices."""

from __future__ import annotations

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
