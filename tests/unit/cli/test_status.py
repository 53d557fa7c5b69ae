"""``skipper status`` and ``down``: of a gateway somewhere, and of a project's own tree."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skipper.cli.status import _age
from skipper.exits import Exit
from skipper.launcher.client import SOCKET
from skipper.settings.handover import make_run_dir
from skipper.settings.loading import load
from tests.unit.cli.stand_in import StandIn, free_port

Run = Callable[..., Any]


class FakeLauncher:
    """Answers on a project's launcher socket."""

    def __init__(self, project: Path, status: dict[str, Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self._status = status
        path = make_run_dir(load(project)[0]) / SOCKET
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as stream:
                question = json.loads(stream.readline())
                self.asked.append(question)
                stream.write(json.dumps(self._status) + "\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def launcher(gateway: StandIn, tmp_path: Path) -> Iterator[FakeLauncher]:
    """A project in ``tmp_path`` whose tree runs, with the stand-in as its gateway."""
    child = {"name": "scheduler", "state": "ready", "pid": 7, "restarts": 0, "since": 1.0}
    launcher = FakeLauncher(
        tmp_path,
        {
            "pid": 42,
            "url": gateway.url,
            "started_at": time.time() - 300,
            "ready": True,
            "stopping": False,
            "children": [child],
        },
    )
    yield launcher
    launcher.close()


def test_a_ready_gateway_exits_0(run: Run, gateway: StandIn) -> None:
    result = run("status")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"ready at {gateway.url}\n")
    assert "cpu   ready  -       4" in result.stdout
    assert "functions/bad.py:3" in result.stdout
    assert "NameError: np" in result.stdout


def test_a_gateway_that_is_not_ready_exits_1_and_says_what_is_missing(
    run: Run, gateway: StandIn
) -> None:
    gateway.is_ready = False
    result = run("status")
    assert result.exit_code == Exit.FAILED
    assert "[-]broker not reachable" in result.stdout
    assert "ledger" not in result.stdout


@pytest.mark.parametrize("arguments", [("--url", "http://127.0.0.1:PORT"), ("--project", ".")])
def test_nothing_running_exits_4(run: Run, arguments: tuple[str, str]) -> None:
    result = run("status", arguments[0], arguments[1].replace("PORT", str(free_port())))
    assert result.exit_code == Exit.NOT_RUNNING
    assert result.stdout.startswith("not running")
    assert "skipper up" in result.stderr


def test_waiting_in_vain_exits_6(run: Run, gateway: StandIn) -> None:
    gateway.is_ready = False
    assert run("status", "--wait", "--timeout", "0.3").exit_code == Exit.TIMED_OUT
    result = run("status", "--wait", "--timeout", "0.3", "--project", ".")
    assert result.exit_code == Exit.TIMED_OUT


def test_waiting_ends_when_it_is_ready(run: Run, gateway: StandIn) -> None:
    gateway.is_ready = False
    threading.Timer(0.3, setattr, (gateway, "is_ready", True)).start()
    assert run("status", "--wait").exit_code == 0


def test_a_projects_tree_is_found_by_its_launcher(
    run: Run, launcher: FakeLauncher, gateway: StandIn
) -> None:
    result = run("status", "--project", ".")
    assert result.exit_code == 0
    assert f"ready at {gateway.url} (pid 42, up 5 min)" in result.stdout
    assert "scheduler  ready  7    0" in result.stdout
    assert run("call", "plain.echo", "-d", "1", "--project", ".").stdout == "1\n"


WRONG = """
[gateway]
port = 0

[webhooks.ops]
url = "https://ops.example.com"

[pools.cpu]
slots = "many"
"""


@pytest.mark.parametrize("verb", ["status", "down"])
def test_no_webhook_secret_and_no_other_table_is_needed(
    verb: str, run: Run, launcher: FakeLauncher, tmp_path: Path
) -> None:
    (tmp_path / "skipper.toml").write_text(WRONG)
    assert run("config", "show", "--project", ".").exit_code == Exit.INVALID
    result = run(verb, "--project", ".")
    assert (result.exit_code, result.stderr) == (0, "" if verb == "status" else "Stopped.\n")


@pytest.mark.parametrize("text", ["[gateway", "[gateway]\nkeys = ['']\n", "[nonsense]\na = 1\n"])
def test_nothing_in_the_file_keeps_down_from_stopping_the_tree(
    text: str, run: Run, launcher: FakeLauncher, tmp_path: Path
) -> None:
    (tmp_path / "skipper.toml").write_text(text)
    assert run("down", "--project", ".").exit_code == 0
    assert [question["do"] for question in launcher.asked] == ["down"]


def test_a_launcher_that_does_not_answer_is_no_tree_that_does_not_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skipper.launcher.client._ANSWER_S", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(make_run_dir(load(tmp_path)[0]) / SOCKET))
        silent.listen()
        result = run("status", "--project", ".")
    assert result.exit_code == Exit.FAILED
    assert result.stdout == "not answering\n"


def test_json_has_the_tree_the_checks_and_the_pools(run: Run, launcher: FakeLauncher) -> None:
    found = json.loads(run("status", "--project", ".", "--json").stdout)
    assert found["state"] == "ready"
    assert found["tree"]["pid"] == 42
    assert found["checks"] == ["[+]ledger ok", "[+]broker ok"]
    assert found["pools"][0]["pool"] == "cpu"


def test_up_beside_a_running_tree_shows_its_status(
    command: Callable[..., Any], launcher: FakeLauncher, tmp_path: Path
) -> None:
    from skipper.launcher import folders

    settings, _ = load(tmp_path)
    folders.prepare(settings)
    with folders.locked(settings):
        result = command("up", "--project", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "runs already" in result.stderr
    assert result.stdout.startswith("ready at")


def test_down_stops_the_tree(run: Run, launcher: FakeLauncher) -> None:
    result = run("down", "--kill")
    assert (result.exit_code, result.stderr) == (0, "Stopped.\n")
    assert launcher.asked == [{"do": "down", "kill": True}]


def test_down_where_nothing_runs_is_no_error(run: Run, tmp_path: Path) -> None:
    result = run("down")
    assert result.exit_code == 0
    assert f"Nothing runs in {tmp_path}" in result.stderr


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (150, "2 min"), (7300, "2 h"), (200000, "2 d")]
)
def test_an_age_is_rounded(seconds: float, text: str) -> None:
    assert _age(time.time() - seconds) == text
