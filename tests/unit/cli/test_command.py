"""The command as a process of its own: what goes where, how it ends, how fast it is."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pty
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skipper
from skipper.exits import Exit
from tests.unit.cli.stand_in import StandIn

ROOT = Path(__file__).resolve().parents[3]
Command = Callable[..., subprocess.CompletedProcess[str]]


def test_only_the_value_goes_to_standard_output(command: Command) -> None:
    result = command("call", "train.ok", "-p", "epochs=2")
    assert result.returncode == 0
    assert json.loads(result.stdout) == {"trained": {"epochs": 2}}
    assert "train.ok 3/3" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("call", "plain.echo", "-d", "-"), Exit.OK),
        (("call", "plain.boom"), Exit.FAILED),
        (("call", "plain.echo", "-d", "{"), Exit.USAGE),
        (("call",), Exit.USAGE),
        (("stauts",), Exit.USAGE),
        (("up", "--prot", "1"), Exit.USAGE),
        (("config", "show", "--project", "nowhere"), Exit.INVALID),
        (("status", "--url", "http://127.0.0.1:1"), Exit.NOT_RUNNING),
        (("tasks", "show", "nope"), Exit.NOT_FOUND),
        (("call", "plain.slow", "--timeout", "0.1"), Exit.TIMED_OUT),
    ],
)
def test_exit_codes_reach_the_shell(
    command: Command, arguments: tuple[str, ...], code: Exit
) -> None:
    result = command(*arguments, input="{}")
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert code in (Exit.OK, Exit.NOT_RUNNING) or result.stdout == ""


def test_a_mistyped_verb_names_the_nearest(command: Command) -> None:
    assert "status" in command("stauts").stderr


def test_ctrl_c_while_following_leaves_the_task_running(gateway: StandIn) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "skipper", "call", "train.forever", "--url", gateway.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    next(line for line in process.stderr if "running" in line)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    task = list(gateway.tasks.values())[-1]
    assert (process.returncode, output) == (Exit.INTERRUPTED, "")
    assert f"skipper tasks cancel {task.id} --url {gateway.url}" in errors
    assert "Traceback" not in errors
    assert task.state == "running"


def test_at_a_terminal_there_is_a_bar_on_standard_error_alone(gateway: StandIn) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "skipper", "call", "train.ok", "--url", gateway.url],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = _read_all(ours)
    output, _ = process.communicate(timeout=20)
    assert json.loads(output) == {"trained": {}}
    assert "3/3" in shown
    assert "━" in shown


def _read_all(descriptor: int) -> str:
    data = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux says so when the other end of a terminal is closed
            break
        if not chunk:
            break
        data += chunk
    os.close(descriptor)
    return data.decode()


def test_a_reader_who_leaves_ends_it_quietly(gateway: StandIn) -> None:
    script = f"{sys.executable} -m skipper functions --url {gateway.url} | head -c 1"
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout == "N"
    assert "Traceback" not in result.stderr


def test_help_is_quick(command: Command) -> None:
    """Under 0.3 s on an idle machine (0.13 s on ours). Here it is processor time, of which a slow
    machine or one with others at work may take twice that.
    """
    times = []
    for _ in range(5):
        before = os.times()
        assert command("--help").returncode == 0
        after = os.times()
        times.append(after.children_user + after.children_system)
        times[-1] -= before.children_user + before.children_system
    assert min(times) < 0.6


@pytest.mark.parametrize("verb", ["up", "--help"])
def test_what_is_heavy_is_not_imported_early(verb: str, tmp_path: Path) -> None:
    arguments = ["skipper", verb] + (["--help"] if verb == "up" else [])
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "import skipper.cli\n"
        "try: skipper.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'httpx', 'asyncio', 'rich.progress', 'celery', 'fastapi'}\n"
        f"heavy |= {{'typer'}} if {verb == 'up'} else set()\n"
        "print(heavy & set(sys.modules), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr == "set()\n"


def test_every_verb_teaches_by_example(run: Callable[..., Any]) -> None:
    verbs = [
        *("down", "status", "call", "logs", "version", "functions list", "functions show"),
        *(
            "tasks list",
            "tasks show",
            "tasks cancel",
            *("models list", "models show", "models diff"),
            *("models promote", "models rollback", "models alias"),
        ),
        *("config show", "up"),
    ]
    for verb in verbs:
        text = run(*verb.split(), "--help").stdout
        assert "xample" in text, verb
        assert f"skipper {verb.removesuffix(' list')}" in text.partition("xample")[2], verb


def test_started_as_a_module_or_as_a_script_it_is_the_same() -> None:
    script = Path(sys.executable).with_name("skipper")
    if not script.exists():
        pytest.skip("the package is not installed, only importable")
    began = time.monotonic()
    result = subprocess.run([script, "version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("skipper ")
    assert time.monotonic() - began < 10


def test_the_version_stands_in_one_place(run: Callable[..., Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "runtime/skipper/__init__.py"
    assert importlib.metadata.version(project["project"]["name"]) == skipper.__version__
    assert run("version").stdout.startswith(f"skipper {skipper.__version__} ")
    assert json.loads(run("version", "--json").stdout)["skipper"] == skipper.__version__
