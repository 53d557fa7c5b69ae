"""Trainings that go on: whoever is killed, the next attempt begins at the last checkpoint."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from skipper.blobs import SHARDS
from tests.acceptance.conftest import PLAIN, Grow
from tests.acceptance.tree import CPU_ALONE, Tree, until


def steps_in(folder: Path) -> list[tuple[int, int]]:
    """Attempt and step of everything that was done."""
    lines = (folder / "steps").read_text().splitlines()
    return [(int(attempt), int(step)) for attempt, step in map(str.split, lines)]


def checkpoint_of(tree: Tree, task_id: str) -> Any:
    return tree.task(task_id)["checkpoint"]


def test_a_training_killed_after_each_of_ten_checkpoints_does_hardly_more_than_an_undisturbed_one(
    plain: Tree, tmp_path: Path
) -> None:
    body = {"folder": str(tmp_path), "steps": 210, "every": 20, "die_after": 3}
    task_id = plain.submit("resume.counts", body)
    assert plain.result(task_id)["to"] == 210
    done = steps_in(tmp_path)
    begun: dict[int, int] = {}
    for attempt, step in done:
        begun.setdefault(attempt, step)
    # Each attempt begins at the step after the last checkpoint of the one before.
    assert list(begun.values()) == [1, *range(21, 210, 20)]
    assert len(done) / 210 <= 1.2


def test_what_a_host_was_killed_over_goes_on_at_its_last_checkpoint(
    grow: Grow, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(PLAIN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    tree = grow(folder, *CPU_ALONE).ready()
    task_id = tree.submit("resume.waits", {"folder": str(tmp_path)})
    until(lambda: (checkpoint_of(tree, task_id) or {}).get("number") == 3, what="a checkpoint")
    shown = checkpoint_of(tree, task_id)
    assert (shown["attempt"], shown["size"]) == (1, 1)
    os.kill(tree.pids()["cpu"], signal.SIGKILL)
    until(lambda: tree.task(task_id)["attempt"] == 2, what="the next attempt")
    (tmp_path / "go").touch()
    assert tree.result(task_id) == {"from": 3}
    assert tree.task(task_id)["checkpoint"] is None  # it succeeded: nothing goes on from it
    tree.end()


def test_what_a_shutdown_ended_goes_on_in_the_next_tree(grow: Grow, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(PLAIN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    tree = grow(folder, *CPU_ALONE, SKIPPER_RUN_GRACE_S="0.1").ready()
    task_id = tree.submit("resume.waits", {"folder": str(tmp_path)})
    until(lambda: (checkpoint_of(tree, task_id) or {}).get("number") == 3, what="a checkpoint")
    tree.end()
    tree.ready()
    (tmp_path / "go").touch()
    assert tree.result(task_id) == {"from": 3}
    tree.end()


def test_a_failed_task_that_is_retried_by_hand_goes_on_with_its_progress(
    plain: Tree, tmp_path: Path
) -> None:
    failed = plain.ended(plain.submit("resume.fails_once", {"folder": str(tmp_path)}))
    assert (failed["state"], failed["checkpoint"]["number"]) == ("failed", 1)
    events = plain.get(f"/v1/tasks/{failed['id']}/events").text
    assert "event: checkpoint" in events
    again = plain.post(f"/v1/tasks/{failed['id']}/retry").json()
    assert again["checkpoint"]["attempt"] == 0
    assert plain.result(again["id"]) == 42
    assert plain.task(again["id"])["progress"] == {"done": 41, "total": 42}
    assert "goes on from checkpoint 1" in plain.get(f"/v1/tasks/{again['id']}/logs").text


def test_a_checkpoint_that_is_damaged_is_told_and_costs_the_task_nothing_else(
    plain: Tree, tmp_path: Path
) -> None:
    failed = plain.ended(plain.submit("resume.fails_once", {"folder": str(tmp_path)}))
    blobs = plain.settings.state_dir / "blobs"
    for number in range(SHARDS):
        for path in (blobs / f"{number:02x}").glob("*"):
            if path.read_bytes() == b"41":
                path.chmod(0o600)
                path.write_bytes(b"14")
    again = plain.post(f"/v1/tasks/{failed['id']}/retry").json()
    assert plain.result(again["id"]) == 1
    assert "checkpoint 1 of the task that this one repeats cannot be loaded" in (
        plain.get(f"/v1/tasks/{again['id']}/logs").text
    )
