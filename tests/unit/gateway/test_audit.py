"""The audit: which line a request leaves, and what its lines may cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.gateway.audit import (
    BATCH,
    CALLS_FILE,
    CHANGES_FILE,
    FAILURES_A_SECOND,
    Audit,
    AuditedRequest,
    open_audit,
)
from skipper.settings.model import LogSettings, Settings
from skipper.settings.redaction import Redactor

CALL = AuditedRequest(
    client="203.0.113.7",
    key="3f2a91bc",
    method="POST",
    path="/v1/functions/boston.predict/invoke",
    status=200,
    reason="",
)
CANCEL = CALL._replace(path="/v1/tasks/3b0arnnc3gjk0ckto7avdbu64t/cancel", status=202)
REFUSED = CALL._replace(key="", status=401, reason="key")


class Clockwork:
    """Runs what is to be done later when it is told to."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, do: Callable[[], None]) -> None:
        self.due.append((seconds, do))

    def run(self) -> None:
        due, self.due = self.due, []
        for _, do in due:
            do()


class Written:
    """An audit whose lines are kept here."""

    def __init__(self, *, calls: bool = True) -> None:
        self.batches: list[bytes] = []
        self.calls: list[bytes] = []
        self.later = Clockwork()
        self.audit = Audit(
            self.batches.append, self.calls.append if calls else None, later=self.later
        )

    @property
    def lines(self) -> list[dict[str, Any]]:
        return parsed(self.batches)


def line_of(request: AuditedRequest, request_id: str = "r1", task: str = "", **more: Any) -> str:
    """The line of one request."""
    put: list[bytes] = []
    audit = Audit(put.append, put.append, later=Clockwork(), **more)
    audit.record(request, request_id, task)
    audit.flush()
    return b"".join(put).decode()


def parsed(batches: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(batches).splitlines()]


def test_a_call_leaves_who_what_and_how_it_ended() -> None:
    before = time.time()
    line = json.loads(line_of(CALL, "5d20601c00000385", name="gateway-2"))
    assert before - 0.001 <= line.pop("ts") <= time.time() + 0.001
    assert line == {
        "level": "info",
        "name": "gateway-2",
        "message": "POST /v1/functions/boston.predict/invoke",
        "address": "203.0.113.7",
        "key": "3f2a91bc",
        "function": "boston.predict",
        "status": 200,
        "outcome": "ok",
        "request": "5d20601c00000385",
    }


@pytest.mark.parametrize(
    ("request_", "members"),
    [
        (CANCEL, {"object": "tasks/3b0arnnc3gjk0ckto7avdbu64t", "status": 202, "outcome": "ok"}),
        (CALL._replace(path="/v1/schedules/nightly/pause"), {"object": "schedules/nightly"}),
        (REFUSED, {"key": None, "status": 401, "outcome": "key", "level": "warning"}),
        (CALL._replace(status=422), {"outcome": "rejected", "level": "warning"}),
        (CALL._replace(status=504), {"outcome": "failed", "level": "warning"}),
        (CALL._replace(status=0), {"outcome": "left", "level": "warning"}),
    ],
)
def test_every_end_has_its_words(request_: AuditedRequest, members: dict[str, Any]) -> None:
    assert json.loads(line_of(request_)).items() >= members.items()


def test_the_task_that_a_request_made_is_named() -> None:
    line = json.loads(line_of(CALL._replace(status=202), task="3b0a"))
    assert (line["function"], line["task"]) == ("boston.predict", "3b0a")


@pytest.mark.parametrize("path", ['/"}\n{"ts": 1', "/\x1b[2J", "/\u2028", "/\ud800", "/\xff"])
def test_a_callers_path_stays_one_line_of_plain_text(path: str) -> None:
    line = line_of(CALL._replace(path=path))
    assert line.isascii()
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert json.loads(line)["message"] == f"POST {path}"


def test_lines_wait_for_each_other_a_moment_and_go_together() -> None:
    written = Written()
    for _ in range(3):
        written.audit.record(CANCEL, "r1")
    assert written.batches == []
    assert len(written.later.due) == 1
    written.later.run()
    assert len(written.batches) == 1
    assert len(written.lines) == 3


def test_a_flood_waits_in_batches_of_a_bounded_size() -> None:
    written = Written()
    for _ in range(10 * BATCH):
        written.audit.record(CALL, "r1")
    assert len(written.calls) == 10
    assert {batch.count(b"\n") for batch in written.calls} == {BATCH}


def test_calls_have_a_file_to_themselves() -> None:
    written = Written()
    for each in (CALL, CANCEL, REFUSED):
        written.audit.record(each, "r1")
    written.audit.record(CALL._replace(status=202), "r1", "3b0a")
    written.audit.flush()
    assert len(parsed(written.calls)) == 1
    assert [line["status"] for line in written.lines] == [202, 401, 202]


def test_of_many_refusals_in_a_second_the_others_are_counted() -> None:
    written = Written()
    for _ in range(FAILURES_A_SECOND + 1000):
        written.audit.record(REFUSED, "r1")
    written.later.run()
    written.audit.flush()
    assert len(written.lines) == FAILURES_A_SECOND + 1
    (told,) = [line for line in written.lines if "missing" in line["message"]]
    assert told["message"].startswith("1000 lines are missing")
    written.audit.record(REFUSED, "r1")
    written.audit.flush()
    assert len(written.lines) == FAILURES_A_SECOND + 2


def test_calls_that_fail_are_calls_and_all_kept() -> None:
    written = Written()
    for _ in range(2 * FAILURES_A_SECOND):
        written.audit.record(CALL._replace(status=500), "r1")
    written.audit.flush()
    assert len(parsed(written.calls)) == 2 * FAILURES_A_SECOND


def test_an_audit_that_is_off_keeps_nothing() -> None:
    audit = Audit(later=Clockwork())
    assert not audit.is_on
    audit.record(REFUSED, "r1")
    audit.record(CALL, "r1")
    audit.flush()


@pytest.mark.parametrize(
    ("wanted", "files"),
    [("off", set()), ("changes", {CHANGES_FILE}), ("all", {CHANGES_FILE, CALLS_FILE})],
)
async def test_the_settings_say_which_files_there_are(
    tmp_path: Path, wanted: Any, files: set[str]
) -> None:
    folder = tmp_path / ".skipper" / "logs"
    folder.mkdir(parents=True)
    settings = Settings(project_dir=tmp_path, log=LogSettings(audit=wanted))
    with open_audit(settings, "gateway") as audit:
        assert audit.is_on is (wanted != "off")
        audit.record(CALL, "r1")
        audit.record(CANCEL, "r1")
    written = {file.name for file in folder.iterdir() if file.read_bytes().count(b"\n") == 1}
    assert written == files
    assert {file.name for file in folder.iterdir()} == files
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())


def test_a_key_that_a_caller_wrote_into_its_request_is_not_written_down() -> None:
    key = "3b0arnnc3gjk0ckto7avdbu64t"
    for request, id_ in (
        (CALL._replace(path=f"/v1/functions/{key}/invoke"), "r1"),
        (CANCEL._replace(path=f"/{key}"), "r1"),
        (CALL, key),
    ):
        line = line_of(request, id_, redact=Redactor([key]))
        assert key not in line
        assert json.loads(line)
