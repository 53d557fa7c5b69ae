"""What children write to their launcher and commands ask it, across versions."""

import json

import pytest

from skipper.wire.control import (
    GetStatus,
    LauncherQuestion,
    RoleEvent,
    RoleFailed,
    RoleReady,
    StopTree,
    parse_launcher_question,
    parse_role_event,
)


@pytest.mark.parametrize("event", [RoleReady(), RoleFailed("no such\ndatabase: \u00e4")])
def test_what_a_child_writes_is_one_line_and_read_as_it_was_written(event: RoleEvent) -> None:
    line = event.to_line()
    assert line.splitlines() == [line[:-1]]
    assert parse_role_event(line) == event


@pytest.mark.parametrize("question", [GetStatus(), StopTree(), StopTree(kill=True)])
def test_a_question_is_one_line_and_read_as_it_was_written(question: LauncherQuestion) -> None:
    line = question.to_line()
    assert line.splitlines() == [line[:-1]]
    assert parse_launcher_question(line) == question


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"event": "ready", "gpu": ["T4"]}, RoleReady()),
        ({"event": "failed", "reason": "no", "code": 3}, RoleFailed("no")),
        ({"event": "failed", "reason": None}, None),
        ({"event": "draining"}, None),
        (["ready"], None),
    ],
)
def test_children_of_other_versions_are_understood_as_far_as_they_can_be(
    sent: object, read: RoleEvent | None
) -> None:
    assert parse_role_event(json.dumps(sent).encode()) == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"do": "down"}, StopTree()),
        ({"do": "down", "kill": True, "grace_s": 3}, StopTree(kill=True)),
        ({"do": "status", "since": 1}, GetStatus()),
        ({"do": "reload"}, None),
        ("down", None),
    ],
)
def test_commands_of_other_versions_are_understood_as_far_as_they_can_be(
    sent: object, read: LauncherQuestion | None
) -> None:
    assert parse_launcher_question(json.dumps(sent).encode()) == read


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b"ready"])
def test_what_is_no_json_is_nothing(line: bytes) -> None:
    assert parse_role_event(line) is None
    assert parse_launcher_question(line) is None
