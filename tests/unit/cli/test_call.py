"""``skipper call`` in process: values, tasks, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.exits import Exit
from tests.unit.cli.stand_in import StandIn, free_port

Run = Callable[..., Any]


def test_the_value_is_printed_as_json(run: Run) -> None:
    result = run("call", "plain.echo", "-d", '{"rm": 6.5}', "-p", "city=Kėdainiai")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"rm": 6.5, "city": "Kėdainiai"}
    assert result.stderr == ""


def test_what_could_drive_the_terminal_is_escaped(run: Run) -> None:
    result = run("call", "plain.echo", "-d", '"\\u009b31m\\u202e é"')
    assert result.stdout == '"\\u009b31m\\u202e é"\n'


def test_a_body_from_standard_input(run: Run) -> None:
    assert run("call", "plain.echo", "-d", "-", text="[1, 2]").stdout == "[1, 2]\n"


def test_a_task_is_followed_to_its_value(run: Run) -> None:
    result = run("call", "train.ok", "-p", "epochs=3")
    assert json.loads(result.stdout) == {"trained": {"epochs": 3}}
    assert "réading" in result.stderr
    assert "train.ok 3/3 loss 0.3333" in result.stderr


def test_a_task_that_fails_says_why(run: Run) -> None:
    result = run("call", "train.fail")
    assert result.exit_code == Exit.FAILED
    assert result.stdout == ""
    assert "error: ValueError: no table" in result.stderr
    assert "skipper logs task" in result.stderr


@pytest.mark.parametrize("flag", ["--detach", "--async"])
def test_detached_it_prints_the_id(run: Run, gateway: StandIn, flag: str) -> None:
    result = run("call", "plain.echo", flag)
    assert result.stdout.strip() in gateway.tasks
    assert gateway.asked("plain.echo")[0]["prefer"] == "respond-async"


def test_when_and_how_urgently_a_task_runs_is_told_to_the_gateway(
    run: Run, gateway: StandIn
) -> None:
    run("call", "train.ok", "--detach", "--delay", "2h", "--priority", "-5", "--expires", "1h")
    headers = gateway.asked("train.ok")[0]
    sent = [headers[f"x-skipper-{name}"] for name in ("delay", "priority", "expires")]
    assert sent == ["2h", "-5", "1h"]
    run("call", "plain.echo")
    assert not [name for name in gateway.asked("plain.echo")[0] if name.startswith("x-skipper")]
    assert run("call", "train.ok", "--priority", "high").exit_code == Exit.USAGE


def test_wait_prints_a_value_that_comes_in_time(run: Run, gateway: StandIn) -> None:
    assert run("call", "train.ok", "-d", "[3]", "--wait", "5").stdout == "[3]\n"
    assert gateway.asked("train.ok")[0]["prefer"] == "wait=5"


def test_wait_names_the_task_that_goes_on(run: Run, gateway: StandIn) -> None:
    gateway.step_s = 1
    result = run("call", "train.ok", "--wait", "0")
    assert result.exit_code == Exit.TIMED_OUT
    assert result.stdout == ""
    assert "has not ended after 0 s" in result.stderr
    assert "skipper tasks cancel task" in result.stderr


@pytest.mark.parametrize("name", ["plain.slow", "train.forever"])
def test_a_timeout_ends_the_wait(run: Run, name: str) -> None:
    result = run("call", name, "--timeout", "0.3")
    assert result.exit_code == Exit.TIMED_OUT
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("plain.boom", Exit.FAILED, 'File "functions/plain.py", line 3, in boom'),
        ("plain.died", Exit.FAILED, "The process died"),
        ("plain.strict", Exit.USAGE, "/rm: Input should be a valid number"),
        ("plain.broken", Exit.NOT_RUNNING, "functions/plain.py:3 does not load"),
        ("plain.late", Exit.TIMED_OUT, "The deadline passed"),
        ("plain.proxy", Exit.NOT_RUNNING, "Is this Skipper's URL?"),
    ],
)
def test_each_error_has_its_sentence_and_exit_code(
    run: Run, name: str, code: Exit, words: str
) -> None:
    result = run("call", name)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr


def test_an_unknown_function_names_the_nearest(run: Run) -> None:
    result = run("call", "plane.ecko")
    assert result.exit_code == Exit.NOT_FOUND
    assert "did you mean 'plain.echo'?" in result.stderr
    assert "skipper functions" in result.stderr


def test_nothing_running_says_how_to_start(run: Run) -> None:
    result = run("call", "plain.echo", "--url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == Exit.NOT_RUNNING
    assert "skipper up" in result.stderr


def test_a_missing_key_is_its_own_exit_code(
    run: Run, gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.key = "open-sesame-0123456789"
    result = run("call", "plain.echo")
    assert result.exit_code == Exit.UNAUTHORISED
    assert "$SKIPPER_API_KEY" in result.stderr
    monkeypatch.setenv("SKIPPER_API_KEY", "open-sesame-0123456789")
    assert run("call", "plain.echo").exit_code == 0


def test_wait_and_detach_exclude_each_other(run: Run) -> None:
    assert run("call", "plain.echo", "--wait", "1", "--detach").exit_code == Exit.USAGE


def test_a_project_is_asked_at_its_own_port_with_its_own_key(
    run: Run, gateway: StandIn, tmp_path: Path
) -> None:
    gateway.key = "open-sesame-0123456789"
    port = gateway.url.rpartition(":")[2]
    toml = f'[gateway]\nport = {port}\nkeys = ["open-sesame-0123456789"]\n'
    (tmp_path / "skipper.toml").write_text(toml)
    result = run("call", "plain.echo", "-d", "1", "--project", str(tmp_path))
    assert result.stdout == "1\n"


def test_a_broken_settings_file_is_told_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "skipper.toml").write_text("[gateway]\nprot = 1\n")
    result = run("call", "plain.echo", "--project", str(tmp_path))
    assert result.exit_code == Exit.INVALID
    assert "skipper.toml:2" in result.stderr
    assert "gateway.port" in result.stderr
