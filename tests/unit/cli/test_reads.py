"""The verbs that list and show: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from skipper.cli.functions import example
from skipper.exits import Exit
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
        ("schedules",),
        ("schedules", "list"),
        ("schedules", "show", "weekly"),
        ("schedules", "run", "weekly"),
        ("schedules", "pause", "weekly"),
        ("schedules", "resume", "weekly"),
        ("models",),
        ("models", "show", "boston"),
        ("webhooks",),
        ("config", "show", "--origin"),
        ("logs", "task0"),
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
    assert "direct calls that wait  9  pools.cpu.queue" in text
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


def test_a_task_is_shown_with_its_attempts(run: Run, ended: str) -> None:
    lines = run("tasks", "show", ended).stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("ATTEMPT"))
    assert lines[at].split()[:4] == ["ATTEMPT", "OUTCOME", "STARTED", "TOOK"]
    assert [line.split()[:2] for line in lines[at + 1 :]] == [["1", "lost"], ["2", "succeeded"]]
    assert "1 min 4 s" in lines[at + 1]
    task = json.loads(run("tasks", "show", ended, "--json").stdout)
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["lost", "succeeded"]


def test_retried_tasks_are_new_ones_whose_ids_are_printed(run: Run, gateway: StandIn) -> None:
    ended = [run("call", "train.fail", "--detach").stdout.strip() for _ in range(2)]
    for id_ in ended:
        run("logs", "--task", id_, "-f")  # until it has ended
    result = run("tasks", "retry", *ended)
    fresh = result.stdout.split()
    assert (result.exit_code, len(fresh)) == (0, 2)
    assert [gateway.tasks[id_].function for id_ in fresh] == ["train.fail"] * 2
    assert not set(fresh) & set(ended)


def test_all_tasks_of_a_state_are_retried_when_that_is_confirmed(
    run: Run, gateway: StandIn
) -> None:
    for name in ("train.crash", "train.crash", "train.ok"):
        run("call", name)
    crashed = [id_ for id_, task in gateway.tasks.items() if task.state == "crashed"]
    refused = run("tasks", "retry", "--state", "crashed")
    assert refused.exit_code == Exit.USAGE
    assert f"Run {len(crashed)} crashed tasks again?" in refused.stderr
    assert "say --yes" in refused.stderr
    before = len(gateway.tasks)
    result = run("tasks", "retry", "--state", "crashed", "--yes")
    assert len(result.stdout.split()) == len(crashed) == len(gateway.tasks) - before
    none = run("tasks", "retry", "--state", "crashed", "--function", "train.none", "--yes")
    assert (none.exit_code, none.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ((), "name the tasks by their ids"),
        (("task0", "--state", "crashed"), "not both"),
        (("task0", "--function", "train.ok"), "not both"),
        (("--state", "running"), "write one of succeeded, failed"),
    ],
)
def test_what_is_to_be_retried_is_said_clearly(
    run: Run, arguments: tuple[str, ...], detail: str
) -> None:
    result = run("tasks", "retry", *arguments)
    assert result.exit_code == Exit.USAGE
    assert detail in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("tasks", "show", "nope"),
        ("tasks", "cancel", "nope"),
        ("tasks", "retry", "nope"),
        ("functions", "show", "nope.nope"),
        ("models", "show", "nope"),
        ("models", "rescue", "nope"),
        ("logs", "nope", "-f"),
        ("logs", "--task", "nope"),
        ("tasks", "watch", "nope"),
        ("schedules", "show", "nope"),
        ("schedules", "run", "nope"),
        ("schedules", "pause", "nope"),
    ],
)
def test_what_is_unknown_is_not_found(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (Exit.NOT_FOUND, "")
    assert "error: There is no" in result.stderr


def test_models_are_listed_over_all_pages(run: Run) -> None:
    lines = run("models").stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["boston", "3", "keras", "rmse=3.3"],
        ["digits", "1", "keras", "rmse=3.1"],
    ]


def test_what_there_is_of_a_model_is_written_to_a_file(
    run: Run, ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for output, file in ((), f"rescue-{ended}.tar"), (("-o", "kept.tar"), "kept.tar"):
        assert run("models", "rescue", ended, *output).exit_code == Exit.OK
        assert (tmp_path / file).read_bytes() == b"a tar"
    assert run("models", "rescue", ended, "-o", str(tmp_path)).exit_code == Exit.USAGE


@pytest.mark.parametrize("flags", [(), ("-f",), ("--attempt", "1"), ("-f", "--attempt", "1")])
@pytest.mark.parametrize("naming", [(), ("--task",)])
def test_a_tasks_log_is_what_it_printed(
    run: Run, ended: str, naming: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    result = run("logs", *naming, ended, *flags)
    assert result.stdout == "réading\n"
    assert result.stderr == "… 2 lines are not kept …\n"


def test_of_an_attempt_that_printed_nothing_there_is_no_log(run: Run, ended: str) -> None:
    assert run("logs", "-f", ended, "--attempt", "2").stdout == ""


def test_a_watched_task_is_followed_to_its_value(run: Run, ended: str) -> None:
    result = run("tasks", "watch", ended)
    assert json.loads(result.stdout) == {"trained": {}}
    assert "train.ok running" in result.stderr
    assert "réading" in result.stderr
    assert "train.ok 3/3 loss 0.3333" in result.stderr


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("train.fail", Exit.FAILED),
        ("train.crash", Exit.FAILED),
        ("train.invalid", Exit.USAGE),
        ("train.late", Exit.TIMED_OUT),
    ],
)
def test_a_watched_task_ends_with_the_exit_code_of_its_call(
    run: Run, gateway: StandIn, function: str, code: Exit
) -> None:
    assert run("call", function).exit_code == code
    for flags in ((), ("--json",)):
        assert run("tasks", "watch", list(gateway.tasks)[-1], *flags).exit_code == code


def test_a_watched_task_is_one_object_a_line_for_programs(run: Run, ended: str) -> None:
    lines = run("tasks", "watch", ended, "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    kinds = [event["event"] for event in events]
    assert kinds == ["state", "log", *["progress"] * 3, "done"]
    assert [event["id"] for event in events] == [str(n) for n in range(1, 7)]


def test_config_shows_values_and_origins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIPPER_GATEWAY_KEYS", "open-sesame-0123456789")
    text = run("config", "show", "--origin").stdout
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert rows["gateway.port"] == ["8000", "default"]
    assert rows["gateway.keys"] == ['["********"]', "$SKIPPER_GATEWAY_KEYS"]
    assert "sesame" not in text
    origin = json.loads(run("config", "show", "--origin", "--json").stdout)["gateway.port"]
    assert origin == {"value": 8000, "origin": "default"}


def test_version_is_a_flag_too(run: Run) -> None:
    assert run("--version").stdout == run("version").stdout


def test_webhooks_are_listed_with_what_they_hear_of(run: Run) -> None:
    lines = run("webhooks").stdout.splitlines()
    assert lines[0].split() == ["NAME", "TO", "EVENTS", "FUNCTIONS"]
    assert lines[1].split() == ["ops", "https://ops.example.com", "failed,", "crashed", "boston.*"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("ops", Exit.OK, "arrived at ops"),
        ("down", Exit.FAILED, "did not arrive: it answered 500"),
        ("none", Exit.NOT_FOUND, "no webhook 'none'"),
    ],
)
def test_a_ping_is_sent_and_waited_for(run: Run, name: str, code: int, words: str) -> None:
    result = run("webhooks", "test", name)
    assert result.exit_code == code
    assert words in result.stderr
