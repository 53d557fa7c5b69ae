"""What processes take from their environment, and hand to their children."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipper.settings import environment


def test_children_get_no_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIPPER_GATEWAY_PORT", "1")
    given = environment.child_environment("t1", EXTRA="x")
    assert {k: v for k, v in given.items() if k.startswith("SKIPPER_")} == {"SKIPPER_TREE": "t1"}
    assert given["EXTRA"] == "x"


def test_children_are_told_where_failpoints_are_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIPPER_FAILPOINTS", "/points")
    assert environment.child_environment("t1")["SKIPPER_FAILPOINTS"] == "/points"
    assert environment.failpoints_folder() == "/points"


def test_children_trust_what_was_meant_where_they_were_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKIPPER_TRUST", ".:/srv/houses/")
    assert environment.child_environment("t1")["SKIPPER_TRUST"] == f"/srv/houses:{tmp_path}"
    monkeypatch.setenv("SKIPPER_TRUST", ":")
    assert "SKIPPER_TRUST" not in environment.child_environment("t1")


@pytest.mark.parametrize(
    ("variables", "is_terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    is_terminal: bool,
    expected: bool,
) -> None:
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.wants_colour(is_terminal) is expected
