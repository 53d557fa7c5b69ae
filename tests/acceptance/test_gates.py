"""What keeps a version out: its metrics, a function, or that nobody has promoted it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import PLAIN
from tests.acceptance.test_deployments import send, served_by
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Tree, lent, project, write

TOML = """
[run]
reload = false

[models.line]
gate.slope = { max_ratio_to_production = 1.1, min = 0 }

[models.asked]
gate = "asks.gate"

[models.byhand]
promote = "manual"

[models.slowly]
canary.percent = 20
"""
ASKS = """
from typing import Any

import skipper


@skipper.training
def train(name: str, slope: float | None) -> skipper.Model:
    return skipper.Model(name, {"slope": slope or 1.0}, metrics={"slope": slope})


@skipper.data
def gate(version: dict[str, Any], production: dict[str, Any] | None) -> Any:
    slope = version["metrics"]["slope"]
    if slope > 10:
        return "quite"
    return production is None or 1 / (slope - production["metrics"]["slope"]) > 0
"""
LINES = """
from typing import Annotated

import skipper


@skipper.inference
def predict(x: float, *, model: Annotated[dict[str, float], skipper.Loaded("line")]) -> float:
    return model["slope"] * x
"""


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("gated"), TOML, asks=ASKS, lines=LINES)
    plugin = (PLAIN / "plugins" / "tinyjson.py").read_text("utf-8")
    write(folder, "plugins/tinyjson.py", plugin)
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        tree.end()


def train(tree: Tree, name: str, slope: float | None) -> dict[str, Any]:
    """Train until it has succeeded, which it does whatever the gate says; what is told of it."""
    told: dict[str, Any] = tree.result(tree.submit("asks.train", {"name": name, "slope": slope}))
    return told


def shown(tree: Tree, made: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/models/{made['name']}/versions/{made['version']}"
    found: dict[str, Any] = tree.json(path)
    return found


def test_a_worse_version_is_kept_out_and_what_served_serves_on(gated: Tree) -> None:
    good = train(gated, "line", 2.0)
    assert good["promoted"] is True
    bad = train(gated, "line", 3.0)
    assert (bad["promoted"], bad["version"]) == (False, good["version"] + 1)
    assert bad["why"] == "slope ratio 1.5 is above 1.1"
    assert served_by(gated, "lines.predict") == f"line@{good['version']}"
    decided = shown(gated, bad)["gate"]
    assert (decided["passed"], decided["against"]) == (False, good["version"])
    assert {(each["rule"], each["passed"]) for each in decided["checks"]} == {
        ("max_ratio_to_production", False),
        ("min", True),
    }
    better = train(gated, "line", 1.9)
    assert better["promoted"] is True
    assert served_by(gated, "lines.predict") == f"line@{better['version']}"
    assert gated.json("/v1/models/line/deployment")["previous"] == good["version"]


def test_what_a_gate_keeps_out_is_promoted_by_force_and_a_reason_alone(gated: Tree) -> None:
    train(gated, "line", 1.0)
    bad = train(gated, "line", 9.0)
    path, version = "/v1/models/line/promote", bad["version"]
    told = problem(send(gated, "POST", path, {"version": version}), 422, "kept-out")
    assert "slope ratio 9 is above 1.1" in told["detail"]
    part = {"version": version, "percent": 5}
    problem(send(gated, "POST", path, part), 422, "kept-out")
    change = {"production": version}
    anyhow = {"If-Match": "*"}
    problem(send(gated, "PUT", "/v1/models/line/deployment", change, **anyhow), 422, "kept-out")
    problem(send(gated, "POST", path, {"version": version, "force": True}), 400, "bad-request")
    forced = {"version": version, "force": True, "why": "the metric is wrong"}
    assert send(gated, "POST", path, forced).json()["production"] == version
    assert shown(gated, bad)["gate"]["forced"]["why"] == "the metric is wrong"
    assert served_by(gated, "lines.predict") == f"line@{version}"
    back = send(gated, "POST", "/v1/models/line/rollback").json()
    assert back["previous"] == version


def test_a_metric_that_is_no_number_keeps_a_version_out(gated: Tree) -> None:
    made = train(gated, "line", None)
    assert (made["promoted"], made["why"][:13]) == (False, "slope is null")


@pytest.mark.parametrize(
    ("slope", "why"),
    [
        (1.0, None),
        (2.0, None),
        (1.5, "asks.gate says no"),
        (2.0, "asks.gate ended failed: ZeroDivisionError"),
        (11.0, "asks.gate answered 'quite', which is neither true nor false"),
        (2.5, None),
    ],
)
def test_a_function_decides(gated: Tree, slope: float, why: str | None) -> None:
    made = train(gated, "asked", slope)
    assert made["promoted"] is (why is None)
    assert (why or "") in made.get("why", "")
    assert shown(gated, made)["gate"]["passed"] is (why is None)


def test_by_hand_a_version_waits_to_be_promoted(gated: Tree) -> None:
    made = train(gated, "byhand", 1.0)
    assert (made["promoted"], made["why"]) == (False, "nobody has promoted it")
    record = gated.json("/v1/models/byhand/deployment")
    assert (record["production"], record["revision"], record["at"]) == (None, 0, None)
    path = "/v1/models/byhand/promote"
    assert send(gated, "POST", path, {"version": 1}, **{"If-Match": '"0"'}).status_code == 200


def test_a_version_begins_as_a_candidate_where_there_is_one_to_stand_beside(gated: Tree) -> None:
    first, second = train(gated, "slowly", 1.0), train(gated, "slowly", 2.0)
    assert first["promoted"] is second["promoted"] is True
    record = gated.json("/v1/models/slowly/deployment")
    assert (record["production"], record["candidate"], record["percent"]) == (1, 2, 20)
