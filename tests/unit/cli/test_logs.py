"""``skipper logs``: the tail of the tree's log files, over rotations."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.cli.logs import Wanted, tail
from skipper.errors import NotFoundError
from skipper.exits import Exit
from skipper.sink import RotatingFile

Run = Callable[..., Any]


def line(number: int, name: str = "gateway") -> bytes:
    record = {"ts": 1767261600.0 + number, "level": "info", "name": name, "message": f"m{number}"}
    return json.dumps(record).encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / ".skipper" / "logs"
    folder.mkdir(parents=True)
    return folder


def test_the_last_lines_come_in_order_over_rotated_files(folder: Path) -> None:
    file = RotatingFile(folder, total=4 * 5 * len(line(1)))
    for number in range(12):
        file.write(line(number))
    file.close()
    assert len(list(folder.iterdir())) > 1
    found = [record["message"] for record in tail(folder, Wanted(count=8), follow=False)]
    assert found == [f"m{number}" for number in range(4, 12)]


def test_one_component_is_picked_out_and_broken_lines_are_passed_over(folder: Path) -> None:
    lines = [line(1), b"{cut off\n", line(2, "cpu"), b"[]\n", line(3)]
    (folder / "skipper.jsonl").write_bytes(b"".join(lines))
    found = [record["message"] for record in tail(folder, Wanted(name="gateway"), follow=False)]
    assert found == ["m1", "m3"]


def test_following_goes_on_with_the_fresh_file(folder: Path) -> None:
    file = RotatingFile(folder, total=4 * 3 * len(line(1)))
    file.write(line(0))

    def write() -> None:
        for number in range(1, 10):
            time.sleep(0.15)
            file.write(line(number))

    writer = threading.Thread(target=write)
    writer.start()
    records = tail(folder, Wanted(), follow=True)
    found = [next(records)["message"] for _ in range(10)]
    writer.join()
    file.close()
    assert found == [f"m{number}" for number in range(10)]


def test_a_line_is_shown_for_people_and_as_json(run: Run, folder: Path) -> None:
    (folder / "skipper.jsonl").write_bytes(line(1) + line(2))
    assert run("logs", "-n", "1").stdout.endswith(" gateway      │ INFO  m2\n")
    shown = run("logs", "--json").stdout.splitlines()
    assert [json.loads(text)["message"] for text in shown] == ["m1", "m2"]


def test_no_other_table_than_its_own_is_needed(run: Run, folder: Path) -> None:
    (folder / "skipper.jsonl").write_bytes(line(1))
    text = "[webhooks.ops]\nurl = 'https://ops.example.com'\n\n[gateway]\nprot = 1\n"
    (folder.parents[1] / "skipper.toml").write_text(text)
    assert run("logs").stdout.endswith("m1\n")
    (folder.parents[1] / "skipper.toml").write_text("[log]\nlevel = 'loud'\n")
    assert run("logs").exit_code == Exit.INVALID


def test_levels_below_the_one_that_is_set_are_left_out(run: Run, folder: Path) -> None:
    levels = ("debug", "info", "warning", "error")
    lines = [line(n).replace(b"info", level.encode()) for n, level in enumerate(levels)]
    (folder / "skipper.jsonl").write_bytes(b"".join(lines))
    assert len(run("logs").stdout.splitlines()) == 3
    assert len(run("logs", "--level", "debug").stdout.splitlines()) == 4
    assert len(run("logs", "--level", "warning", "--json").stdout.splitlines()) == 2
    assert run("logs", "--level", "loud").exit_code == Exit.USAGE


def test_nothing_logged_yet_is_told(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        next(tail(tmp_path, Wanted(), follow=False))
    result = run("logs")
    assert result.exit_code == Exit.NOT_FOUND
    assert "skipper up" in result.stderr


def test_a_gateway_elsewhere_has_no_component_logs_here(run: Run) -> None:
    assert run("logs", "--url", "http://127.0.0.1:1").exit_code == Exit.USAGE


def test_the_audit_is_shown_in_the_order_of_its_two_files(run: Run, folder: Path) -> None:
    (folder / "audit.jsonl").write_bytes(line(1) + line(4))
    (folder / "audit-calls.jsonl").write_bytes(line(2) + line(3) + line(5))
    shown = run("logs", "--audit", "--json").stdout.splitlines()
    assert [json.loads(text)["message"] for text in shown] == ["m1", "m2", "m3", "m4", "m5"]
    assert run("logs", "--audit", "-n", "2").stdout.count("\n") == 2
    (folder / "audit-calls.jsonl").unlink()
    assert run("logs", "--audit").stdout.count("\n") == 2


def test_where_nothing_was_audited_that_is_said(run: Run, folder: Path) -> None:
    (folder / "skipper.jsonl").write_bytes(line(1))
    result = run("logs", "--audit")
    assert result.exit_code == Exit.NOT_FOUND
    assert "Nothing was audited yet" in result.stderr
    assert run("logs", "--audit", "3b0arnnc3gjk0ckto7avdbu64t").exit_code == Exit.USAGE


def failure(task: str = "", **members: Any) -> bytes:
    """A record about a failure, as a host writes it."""
    record: dict[str, Any] = {
        "ts": 1767261600.0,
        "level": "warning",
        "name": "cpu",
        "message": "f.f: ValueError: no",
    }
    record |= {"event": "failure", "function": "f.f", "outcome": "failed", "at": "functions/f.py:7"}
    record |= {"task": task} if task else {"request": "r1"}
    return json.dumps(record | members).encode() + b"\n"


def test_errors_are_what_failed_with_place_and_traceback(run: Run, folder: Path) -> None:
    """https://github.com/bentoml/BentoML/issues/1210"""
    raised = failure(traceback="Traceback:\n  in f\nValueError: no\n")
    late = failure(outcome="timed_out", level="info")
    own = line(2).replace(b"info", b"error")
    broken = json.dumps({"level": "error", "name": "cpu", "message": "b", "event": "broken"})
    (folder / "skipper.jsonl").write_bytes(
        line(1) + raised + late + own + broken.encode() + b"\n" + line(3)
    )
    shown = run("logs", "--errors").stdout
    assert "f.f: ValueError: no at=functions/f.py:7 request=r1" in shown
    assert "ValueError: no\n" in shown
    found = [json.loads(text) for text in run("logs", "--errors", "--json").stdout.splitlines()]
    assert [each.get("event") for each in found] == ["failure", "failure", None, "broken"]
    assert run("logs", "--errors", "--name", "gateway").stdout.count("\n") == 1
    assert run("logs", "--errors", "--audit").exit_code == Exit.USAGE


def test_errors_of_one_task_come_from_the_projects_log(run: Run, folder: Path) -> None:
    (folder / "skipper.jsonl").write_bytes(
        failure("t1", attempt=1) + failure("t2") + failure("t1", attempt=2)
    )
    found = run("logs", "--errors", "t1", "--json").stdout.splitlines()
    assert [json.loads(text)["attempt"] for text in found] == [1, 2]
    assert run("logs", "--errors", "t1", "--url", "http://127.0.0.1:1").exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("members", "shown"),
    [
        ({"traceback": "in f, line 7\nKeyError: no\n"}, "in f, line 7\nKeyError: no"),
        ({"same_as": "r9"}, "at functions/f.py:7, with the traceback that is logged of r9"),
    ],
)
def test_a_task_is_shown_with_the_logged_traceback_where_the_gateway_gives_none(
    run: Run, folder: Path, members: dict[str, str], shown: str
) -> None:
    task = run("call", "train.crash", "--detach").stdout.strip()
    run("logs", "--task", task, "-f")  # until it has ended
    (folder / "skipper.jsonl").write_bytes(
        failure("other", traceback="not") + failure(task, **members)
    )
    assert shown in run("tasks", "show", task).stdout
