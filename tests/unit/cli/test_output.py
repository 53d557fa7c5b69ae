"""Tables, colours, and the progress of a task."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from skipper.cli import progress
from skipper.cli.output import show_json, show_members, show_table
from skipper.client import TaskEvent


def test_columns_are_aligned_and_unsafe_characters_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("a\x1b[31m", 1.0, None), ("bb", True, {"x": 0.123456789})]
    show_table(("NAME", "N", "REST"), rows)
    assert capsys.readouterr().out.splitlines() == [
        "NAME       N    REST",
        "a\\x1b[31m  1    -",
        "bb         yes  x=0.123457",
    ]


def test_json_is_encodable_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"x": "\ud800\u2028é"})
    assert capsys.readouterr().out == '{"x": "\\ud800\\u2028é"}\n'


def test_members_that_are_none_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_members([("id", "t"), ("error", None), ("state", "queued")])
    assert capsys.readouterr().out == "id     t\nstate  queued\n"


def test_colour_is_for_those_who_want_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show_table(("STATE",), [("succeeded",), ("failed",)])
    assert "\x1b[32msucceeded\x1b[0m" in capsys.readouterr().out


def test_a_terminal_that_is_not_utf_8_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", stream)
    show_table(("NAME",), [("é",)])
    assert stream.buffer.getvalue() == b"NAME\n\\xe9\n"


# --- progress ---


def show_events(shown: progress.PlainProgress, *events: tuple[str, Any]) -> None:
    with shown:
        shown.begin("f.train")
        for number, (type_, data) in enumerate(events):
            shown.on_event(TaskEvent(id=str(number), type=type_, data=data))


def test_plain_lines_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [("progress", {"done": n, "total": 50, "loss": 1 / (n + 1)}) for n in range(51)]
    show_events(progress.PlainProgress(), ("state", {"state": "running"}), *steps, ("done", {}))
    assert capsys.readouterr().err.splitlines() == [
        "f.train running",
        "f.train 0/50 loss 1",
        "f.train 50/50 loss 0.01961",
    ]


def test_progress_of_unknown_length_has_no_total(capsys: pytest.CaptureFixture[str]) -> None:
    show_events(progress.PlainProgress(), ("progress", {"done": 3, "total": None}))
    assert capsys.readouterr().err == "f.train 3/?\n"


def test_metrics_stand_beside_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = [("metric", {"name": "rmse", "value": 3.0 / n, "step": n}) for n in (1, 2)]
    show_events(
        progress.PlainProgress(),
        *metrics,
        ("progress", {"at": "…", "attempt": 1, "done": 2, "total": 2}),
    )
    assert capsys.readouterr().err.splitlines() == ["f.train rmse 3", "f.train 2/2 rmse 1.5"]


def test_a_change_of_state_tells_why(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"detail": "ValueError: no table"}
    show_events(
        progress.PlainProgress(),
        ("state", {"state": "retrying", "attempt": 1, "outcome": "failed", "error": error}),
        ("state", {"state": "queued", "attempt": 2, "outcome": "lost"}),
    )
    assert capsys.readouterr().err.splitlines() == [
        "f.train retrying after attempt 1: ValueError: no table",
        "f.train queued after attempt 2: lost",
    ]


def test_a_gap_in_the_log_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_events(
        progress.PlainProgress(), ("log", {"text": "a"}), ("log", {"text": "z", "dropped": 24})
    )
    assert capsys.readouterr().err.splitlines() == ["a", "… 24 lines are not kept …", "z"]


def test_for_programs_every_event_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    show_events(progress.JsonProgress(), ("log", {"text": "a"}), ("done", {"state": "succeeded"}))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "log", "id": "0", "text": "a"},
        {"event": "done", "id": "1", "state": "succeeded"},
    ]


def test_the_bar_shows_counts_figures_and_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show_events(
        progress.ProgressBar(),
        ("state", {"state": "running"}),
        ("log", {"text": "reading \x1b[2J[bold]x"}),
        ("progress", {"done": 3, "total": 50, "loss": 0.25}),
    )
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "f.train running" in text
    assert "3/50 loss 0.25" in text
    assert "reading \\x1b[2J[bold]x" in text


def test_a_bar_is_drawn_at_a_terminal_only() -> None:
    assert type(progress.display()) is progress.PlainProgress
