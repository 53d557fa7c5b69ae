"""The verbs that list and show: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from skipper.cli.catalogue import example
from skipper.cli.exits import Exit
from tests.unit.cli.stand_in import StandIn

Run = Callable[..., Any]


@pytest.fixture
def ended(run: Run) -> str:
    """A task that has ended."""
    run("call", "train.ok")
    return str(json.loads(run("tasks", "--json").stdout)["items"][-1]["id"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("functions",),
        ("functions", "list"),
        ("functions", "show", "plain.echo"),
        ("tasks",),
        ("tasks", "list", "--limit", "5"),
        ("tasks", "show", "task0"),
        ("models",),
        ("models", "show", "boston"),
        ("config", "show", "--origin"),
        ("logs", "--task", "task0"),
        ("status",),
        ("version",),
    ],
)
def test_json_is_one_document_alone_on_standard_output(
    run: Run, ended: str, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    json.loads(result.stdout)
    assert run(*arguments).exit_code == 0


def test_functions_are_listed_with_what_is_broken(run: Run) -> None:
    lines = run("functions").stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "POOL", "MODE", "STATE", "FILE"]
    assert lines[1].split()[:5] == ["plain.echo", "inference", "cpu", "direct", "live"]
    assert lines[-1] == "✗ functions/bad.py:3  NameError: np"


def test_a_function_is_shown_with_what_it_takes_and_how_to_call_it(
    run: Run, gateway: StandIn
) -> None:
    text = run("functions", "show", "plain.echo").stdout
    assert "rm     number  required" in text
    assert """skipper call plain.echo -d '{"rm": 1.0}'""" in text
    assert f"curl {gateway.url}/v1/functions/plain.echo/invoke" in text


class Room(BaseModel):
    area: float
    inner: list[Room] = []


class House(BaseModel):
    rooms: list[Room]
    kind: Literal["flat", "house"]
    owner: str | None
    year: int = 1970
    size: int = Field(examples=[90])
    anything: Any


def test_the_example_fits_the_schema() -> None:
    schema = House.model_json_schema()
    body = example(schema, schema)
    assert body == {
        "rooms": [{"area": 1.0}],
        "kind": "flat",
        "owner": "text",
        "size": 90,
        "anything": {},
    }
    House.model_validate(body)


def test_tasks_are_filtered_by_the_gateway(run: Run, ended: str) -> None:
    run("call", "train.fail")
    lines = run("tasks", "--state", "failed").stdout.splitlines()[1:]
    assert lines
    assert all(line.split()[1:4] == ["train.fail", "failed", "1/1"] for line in lines)
    assert "1 min 4 s" in lines[0]


def test_more_tasks_than_asked_for_are_told_of_on_standard_error(run: Run, ended: str) -> None:
    run("call", "train.ok")
    result = run("tasks", "--limit", "1")
    assert len(result.stdout.splitlines()) == 2
    assert "--cursor c1" in result.stderr


def test_a_state_that_is_none_is_refused(run: Run) -> None:
    result = run("tasks", "--state", "done")
    assert result.exit_code == Exit.USAGE
    assert "succeeded" in result.stderr


def test_a_failed_task_shows_its_error(run: Run, gateway: StandIn) -> None:
    run("call", "train.fail")
    shown = run("tasks", "show", list(gateway.tasks)[-1]).stdout
    assert "in fail\n\\x1b[2J\\x07ValueError: no table\n" in shown


def test_cancel_is_told_and_a_late_one_fails(run: Run) -> None:
    task = run("call", "train.forever", "--detach").stdout.strip()
    result = run("tasks", "cancel", task)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "is cancelled" in result.stderr
    result = run("tasks", "cancel", task)
    assert result.exit_code == Exit.FAILED
    assert "already ended: cancelled" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("tasks", "show", "nope"),
        ("tasks", "cancel", "nope"),
        ("functions", "show", "nope.nope"),
        ("models", "show", "nope"),
        ("logs", "--task", "nope", "-f"),
    ],
)
def test_what_is_unknown_is_not_found(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (Exit.NOT_FOUND, "")
    assert "error: There is no" in result.stderr


def test_models_are_listed_over_all_pages(run: Run) -> None:
    lines = run("models").stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["boston", "2", "keras", "rmse=3.1"],
        ["digits", "1", "keras", "rmse=3.1"],
    ]


@pytest.mark.parametrize("flags", [(), ("-f",)])
def test_a_tasks_log_is_what_it_printed(run: Run, ended: str, flags: tuple[str, ...]) -> None:
    assert run("logs", "--task", ended, *flags).stdout == "réading\n"


def test_dropped_lines_are_told_of(run: Run, ended: str) -> None:
    assert "2 more lines were dropped" in run("logs", "--task", ended).stderr


def test_config_shows_values_and_origins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIPPER_GATEWAY_KEYS", "sesame")
    text = run("config", "show", "--origin").stdout
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert rows["gateway.port"] == ["8000", "default"]
    assert rows["gateway.keys"] == ['["********"]', "$SKIPPER_GATEWAY_KEYS"]
    assert "sesame" not in text
    origin = json.loads(run("config", "show", "--origin", "--json").stdout)["gateway.port"]
    assert origin == {"value": 8000, "origin": "default"}


def test_version_is_a_flag_too(run: Run) -> None:
    assert run("--version").stdout == run("version").stdout
