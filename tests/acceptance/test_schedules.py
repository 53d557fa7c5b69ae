"""Schedules over REST, from the file that declares them to the value of their task."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skipper.ledger import schedules
from skipper.ledger.records import Firing
from tests.acceptance.conftest import Grow
from tests.acceptance.tree import Tree, project, until
from tests.blocking import BlockingLedger


def schedule(tree: Tree, name: str) -> Any:
    return tree.json(f"/v1/schedules/{name}")


def wait_for(tree: Tree, name: str, **members: Any) -> Any:
    """The schedule, once it has these members."""

    def found() -> Any:
        response = tree.get(f"/v1/schedules/{name}")
        told = response.json() if response.status_code == 200 else {}
        return told if told and told | members == told else None

    return until(found, what=f"schedule {name} with {members}")


def verb(tree: Tree, name: str, what: str, status: int = 200) -> Any:
    response = tree.post(f"/v1/schedules/{name}/{what}")
    assert response.status_code == status, response.text
    return response.json()


def let_pass(tree: Tree, name: str, tick: float) -> None:
    """Have the schedule look as if nobody had seen its ``tick`` come."""
    with BlockingLedger.open(tree.settings.database_url) as ledger:
        seen = ledger.read_now(lambda conn: schedules.get(conn, name))
        assert seen is not None
        firing = Firing(schedule=seen, next_at=tick)
        ledger.write_now(lambda conn: schedules.fire(conn, firing))


# --- on the plain tree ---


def test_schedules_of_code_and_settings_are_listed(plain: Tree) -> None:
    wait_for(plain, "timed.yearly", state="active", origin="code", timezone="Europe/Vilnius")
    found = {item["name"]: item for item in plain.json("/v1/schedules")["items"]}
    assert list(found) == ["leap", "lost", "timed.yearly"]
    yearly, leap, lost = found["timed.yearly"], found["leap"], found["lost"]
    assert (yearly["function"], yearly["kind"], yearly["pool"]) == ("timed.yearly", "data", "cpu")
    assert yearly["next_at"].endswith("-12-31T22:00:00.000Z")
    assert (leap["state"], leap["next_at"], leap["body"]) == ("paused", None, {"days": 366})
    assert (lost["state"], lost["pool"]) == ("unserved", None)
    assert schedule(plain, "lost") == lost
    assert plain.function("timed.yearly")["schedule"]["cron"] == "0 0 1 1 *"


def test_a_tick_that_has_come_is_run_as_a_task(plain: Tree) -> None:
    wait_for(plain, "timed.yearly", state="active")
    until(lambda: schedule(plain, "timed.yearly")["next_at"], what="the next tick")
    year = datetime.now(UTC).year
    let_pass(plain, "timed.yearly", datetime(year - 1, 12, 31, 22, tzinfo=UTC).timestamp())
    request = f"{year - 1}-12-31T22:00:00Z"

    def found() -> Any:
        items = plain.json("/v1/tasks", params={"schedule": "timed.yearly"})["items"]
        return next((item for item in items if item["request_id"] == request), None)

    task = until(found, what="the task of the tick")
    assert (task["schedule"], task["max_attempts"]) == ("timed.yearly", 2)
    assert plain.result(task["id"]) == {"days": 365, "request": request}
    after = schedule(plain, "timed.yearly")
    assert after["last_task"] == task["id"]
    assert datetime.fromisoformat(after["next_at"]).timestamp() > time.time()


def test_run_makes_a_task_with_the_schedules_body_though_it_is_paused(plain: Tree) -> None:
    wait_for(plain, "leap", state="paused")
    response = plain.post("/v1/schedules/leap/run")
    task = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/tasks/{task['id']}"
    assert (task["schedule"], task["function"]) == ("leap", "timed.yearly")
    assert plain.result(task["id"])["days"] == 366
    assert schedule(plain, "leap")["last_task"] == task["id"]
    assert schedule(plain, "leap")["state"] == "paused"
    assert plain.task(plain.submit("timed.yearly"))["schedule"] is None


def test_what_is_unknown_or_not_served_is_not_found(plain: Tree) -> None:
    wait_for(plain, "leap", state="paused")
    assert plain.get("/v1/schedules/none").status_code == 404
    for what in ("run", "pause", "resume"):
        told = verb(plain, "none", what, 404)
        assert told["detail"] == "there is no schedule 'none'"
        told = verb(plain, "lost", what, 404)
        assert "'timed.nowhere', which no pool serves" in told["detail"]


# --- what outlives files and trees ---

NIGHTLY = """
import skipper

@skipper.training(schedule="{cron}")
def train() -> int:
    return 1
"""


def test_a_pause_outlives_new_code_broken_code_and_the_tree(tmp_path: Path, grow: Grow) -> None:
    folder = project(tmp_path / "p", "[run]\nreload = true\n", a=NIGHTLY.format(cron="0 3 * * *"))
    tree = grow(folder, "--only", "gateway,scheduler,broker,pool:cpu").ready()
    wait_for(tree, "a.train", state="active")
    assert verb(tree, "a.train", "pause")["state"] == "paused"
    tree.save("functions/a.py", NIGHTLY.format(cron="0 4 * * *"))
    wait_for(tree, "a.train", cron="0 4 * * *", state="paused", next_at=None)
    tree.save("functions/a.py", "def broken(")
    tree.wait_for_broken("functions/a.py")
    assert schedule(tree, "a.train")["state"] == "paused"
    tree.end()

    tree = grow(folder, "--only", "gateway,scheduler,broker,pool:cpu").ready()
    tree.wait_for_functions()
    assert schedule(tree, "a.train")["state"] == "paused"
    (folder / "functions/a.py").unlink()
    until(lambda: tree.get("/v1/schedules/a.train").status_code == 404, what="its end")
    tree.save("functions/a.py", NIGHTLY.format(cron="0 3 * * *"))
    wait_for(tree, "a.train", state="paused")
    assert verb(tree, "a.train", "resume")["state"] == "active"
    assert until(lambda: schedule(tree, "a.train")["next_at"], what="its next tick")
    tree.end()
