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
