"""The launcher as a process, with stand-ins for the roles: starts, deaths, signals, leftovers."""

from __future__ import annotations

import functools
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from skipper.launcher import client, guard
from skipper.launcher.plan import (
    BROKER,
    CONTROL,
    FIRST,
    GATEWAY,
    HOSTS,
    LISTEN,
    REST,
    SERVING,
    SOURCES,
)
from skipper.settings.loading import load
from skipper.settings.model import Settings

T = TypeVar("T")
HERE = Path(__file__).parent
LIMIT_S = 60.0
ANSWERS = {
    "/v1/functions": [200, {"items": [], "broken": []}],
    "/v1/pools": [200, {"items": []}],
    "/readyz": [200, "ok"],
}


def until(find: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """What ``find`` returns once it is true. Other processes have no event to wait on."""
    end = time.monotonic() + limit_s
    while not (found := find()):
        assert time.monotonic() < end, f"{find} did not come true in {limit_s} s"
        time.sleep(0.01)
    return found


def stand_in(
    name: str, behaviour: str = "serve", *, stage: int = REST, level: int = SOURCES, **more: Any
) -> dict[str, Any]:
    """A plan whose child behaves as :mod:`launcher_stand_in` says; FOLDER is filled in later."""
    script = str(HERE / "launcher_stand_in.py")
    command = [sys.executable, "-I", "-S", script, behaviour, "FOLDER"]
    command += ["--name", name, "--control", CONTROL]
    if behaviour == "gateway":
        command += ["--listen", LISTEN]
    return {"name": name, "command": command, "stage": stage, "level": level, **more}


KEY = "open-sesame-0123456789"
GATEWAY_PLAN = stand_in("gateway", "gateway", stage=SERVING, level=GATEWAY)


class Project:
    """A project's folder, and the launchers that were started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        self.records.mkdir(parents=True)
        (folder / "functions").mkdir()
        self.answer(ANSWERS)
        self.settings: Settings = load(folder, {})[0]
        self.launchers: list[subprocess.Popen[bytes]] = []
        self.errors = folder / "stderr"

    def answer(self, answers: dict[str, Any]) -> None:
        (self.records / "answers.json").write_text(json.dumps(answers))

    def up(
        self, *plans: dict[str, Any], stderr: int | None = None, **flags: Any
    ) -> subprocess.Popen[bytes]:
        file = self.folder / "plans.json"
        file.write_text(json.dumps(plans).replace('"FOLDER"', json.dumps(str(self.records))))
        flags = {"gateway.port": 0} | {
            key.replace("__", "."): value for key, value in flags.items()
        }
        with self.errors.open("ab") as errors:
            launcher = subprocess.Popen(
                [sys.executable, HERE / "launcher_main.py", self.folder, file, json.dumps(flags)],
                stdout=subprocess.PIPE,
                stderr=errors if stderr is None else stderr,
                start_new_session=True,
            )
        self.launchers.append(launcher)
        return launcher

    def ready(self, *plans: dict[str, Any], **flags: Any) -> subprocess.Popen[bytes]:
        """The same, and wait until all its children are ready."""
        launcher = self.up(*plans, **flags)
        until(lambda: (self.status() or {}).get("ready"))
        return launcher

    def status(self) -> dict[str, Any] | None:
        return client.status(self.settings)

    def child(self, name: str) -> dict[str, Any]:
        children = (self.status() or {})["children"]
        return next(child for child in children if child["name"] == name)

    def is_back(self, name: str, former_pid: int) -> bool:
        child = self.child(name)
        return bool(child["state"] == "ready" and child["pid"] != former_pid)

    def lines(self, file: str) -> list[str]:
        path = self.records / file
        return path.read_text().splitlines() if path.exists() else []

    def log(self) -> list[dict[str, Any]]:
        file = self.settings.state_dir / "logs" / "skipper.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def terminal(self) -> str:
        return self.errors.read_text()

    def leftovers(self) -> set[int]:
        """Every living process that names this project, or was recorded as one of its daemons."""
        needle = str(self.folder).encode()
        recorded = {int(pid) for file in ("pids", "daemons") for pid in self.lines(file)}
        found = set()
        for each in guard.snapshot().values():
            if each.is_zombie:
                continue
            try:
                command = Path(f"/proc/{each.pid}/cmdline").read_bytes()
            except OSError:
                continue
            if needle in command or (each.pid in recorded and sys.executable.encode() in command):
                found.add(each.pid)
        return found

    def close(self) -> None:
        for launcher in self.launchers:
            launcher.kill()
            launcher.communicate()
        for pid in self.leftovers():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.settings.run_dir, ignore_errors=True)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project")
    yield project
    project.close()
    assert "Traceback" not in project.terminal()


def ended(launcher: subprocess.Popen[bytes]) -> int:
    return launcher.wait(LIMIT_S)


# --- start ---------------------------------------------------------------------------------------


def test_starts_stage_by_stage_and_tells_when_all_is_ready(project: Project) -> None:
    launcher = project.ready(
        stand_in("consumer"),
        stand_in("cpu", stage=SERVING, level=HOSTS),
        stand_in("broker", stage=FIRST, level=BROKER),
        GATEWAY_PLAN,
    )
    status = project.status()
    assert status is not None
    assert status["pid"] == launcher.pid
    assert {child["state"] for child in status["children"]} == {"ready"}
    starts = project.lines("starts")
    assert starts[0] == "broker"
    assert set(starts[1:3]) == {"cpu", "gateway"}
    assert starts[3] == "consumer"
    until(lambda: "ready in" in project.terminal())


def test_a_free_port_is_told_to_the_children_and_in_the_status(project: Project) -> None:
    project.ready(GATEWAY_PLAN)
    settings = json.loads((project.settings.run_dir / "settings.json").read_text())
    status = project.status()
    assert status is not None
    assert settings["gateway"]["port"] != 0
    assert status["url"] == f"http://127.0.0.1:{settings['gateway']['port']}"


def test_the_banner_lists_functions_and_broken_files(project: Project) -> None:
    function = {"name": "a.b", "kind": "data", "pool": "cpu", "file": "functions/a.py"}
    broken = {"file": "functions/c.py", "line": 3, "error": "NameError: np"}
    documents = {"items": [function | {"state": "live"}], "broken": [broken]}
    project.answer(ANSWERS | {"/v1/functions": [200, documents]})
    project.ready(GATEWAY_PLAN)
    until(lambda: "ready in" in project.terminal())
    text = project.terminal()
    assert "POST /v1/functions/a.b/invoke" in text
    assert "functions/c.py:3" in text
    assert "\x1b" not in text, "no colour where no terminal is"


def test_a_second_start_finds_the_first_and_leaves_it_alone(project: Project) -> None:
    first = project.ready(GATEWAY_PLAN)
    second = project.up(GATEWAY_PLAN)
    assert ended(second) == 0
    assert second.stdout is not None
    assert second.stdout.read() == b"already running\n"
    assert first.poll() is None


def test_a_taken_port_is_told_with_its_owner(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ended(project.up(GATEWAY_PLAN, gateway__port=port)) == 7
    assert f"Port {port} on 127.0.0.1 is taken by process {os.getpid()}" in project.terminal()


def test_a_folder_that_cannot_be_written_is_told(project: Project) -> None:
    (project.folder / ".skipper").write_text("in the way")
    assert ended(project.up(GATEWAY_PLAN)) == 10
    assert "cannot be written" in project.terminal()


def test_what_a_dead_tree_left_on_its_sockets_is_ended(project: Project) -> None:
    project.settings.run_dir.mkdir(mode=0o700, parents=True)
    path = project.settings.run_dir / "v.sock"
    code = (
        "import socket, sys; s = socket.socket(1); s.bind(sys.argv[1]); s.listen(); "
        "s.accept()[0].recv(1); input()"
    )
    left = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE)
    until(path.exists)
    project.ready(stand_in("cpu"))
    assert left.wait(LIMIT_S) == -signal.SIGTERM
    left.communicate()
    assert not path.exists()


# --- deaths --------------------------------------------------------------------------------------


def test_a_child_that_dies_in_service_is_started_again_at_once_and_for_ever(
    project: Project,
) -> None:
    launcher = project.ready(stand_in("cpu"))
    for restarts in range(1, 7):  # more than the budget of starts that fail
        pid = project.child("cpu")["pid"]
        os.kill(pid, signal.SIGKILL)
        until(functools.partial(project.is_back, "cpu", pid))
        assert project.child("cpu")["restarts"] == restarts
    assert launcher.poll() is None


def test_connections_during_a_gateways_restart_wait_and_are_answered(project: Project) -> None:
    project.ready(GATEWAY_PLAN)
    status = project.status()
    assert status is not None
    port = int(status["url"].rpartition(":")[2])
    pid = project.child("gateway")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not guard.is_alive(pid))  # until then it may take the call to its grave
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as caller:
        caller.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 200")


def test_a_child_that_never_gets_ready_ends_the_tree_with_one_line(project: Project) -> None:
    plans = (stand_in("cpu", stage=SERVING), stand_in("broker", "broken", failure_code=9))
    assert ended(project.up(*plans)) == 9
    assert project.lines("starts").count("broker") == 5
    *_, last = project.terminal().splitlines()
    assert last == (
        "error: broker did not get ready in 5 starts; the last: exit code 1: the disk is on fire"
    )
    assert not project.leftovers()


def test_an_exit_code_that_says_what_is_wrong_ends_the_tree_at_the_first_start(
    project: Project,
) -> None:
    assert ended(project.up(stand_in("gateway", "refusing"))) == 9
    assert project.lines("starts") == ["gateway"]
    assert "gateway cannot start: exit code 9: no way to the database" in project.terminal()


def test_a_child_that_is_late_is_killed_and_counted(project: Project) -> None:
    assert ended(project.up(stand_in("cpu", "late", start_limit_s=0.1))) == 1
    assert (
        "cpu did not get ready in 5 starts; the last: not ready after 0.1 s" in project.terminal()
    )


def test_the_guard_is_started_again(project: Project) -> None:
    project.ready(stand_in("cpu", "masked"))
    pid = project.child("guard")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: project.is_back("guard", pid))
    project.launchers[0].kill()
    until(lambda: not project.leftovers())


@pytest.mark.parametrize("behaviour", ["breeding", "hiding"])
def test_what_a_dead_host_leaves_is_ended_before_it_is_missed(
    project: Project, behaviour: str
) -> None:
    project.ready(stand_in("cpu", behaviour, level=HOSTS), stand_in("gpu", level=HOSTS))
    bystander = project.child("gpu")["pid"]
    daemon = int(until(lambda: project.lines("daemons"))[0])
    assert daemon in project.leftovers()
    os.kill(project.child("cpu")["pid"], signal.SIGKILL)
    until(lambda: daemon not in project.leftovers())
    until(lambda: project.child("cpu")["state"] == "ready")
    assert project.child("gpu")["pid"] == bystander


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_drains_from_the_sources_down_to_the_broker(
    project: Project, number: signal.Signals, code: int
) -> None:
    launcher = project.ready(
        stand_in("broker", stage=FIRST, level=BROKER),
        GATEWAY_PLAN,
        stand_in("cpu", stage=SERVING, level=HOSTS),
        stand_in("cpu-consumer"),
    )
    launcher.send_signal(number)
    assert ended(launcher) == code
    assert project.lines("stops") == ["cpu-consumer", "gateway", "cpu", "broker"]
    assert not project.leftovers()
    assert not list(project.settings.run_dir.glob("*.sock"))


def test_a_drain_says_what_it_waits_for_and_kills_at_the_end_of_the_grace(
    project: Project,
) -> None:
    launcher = project.ready(stand_in("cpu", "slow", level=HOSTS), run__grace_s=1.5)
    launcher.send_signal(signal.SIGTERM)
    assert ended(launcher) == 143
    assert "waiting for cpu" in project.terminal()
    assert "killing cpu" in project.terminal()
    assert not project.leftovers()


def test_a_slow_drain_on_top_does_not_keep_the_levels_below_from_being_asked(
    project: Project,
) -> None:
    launcher = project.ready(
        stand_in("gateway", "slow", level=GATEWAY), stand_in("cpu", level=HOSTS), run__grace_s=30
    )
    launcher.send_signal(signal.SIGTERM)
    until(lambda: project.lines("stops") == ["cpu"])
    assert project.child("gateway")["state"] == "ready"
    launcher.send_signal(signal.SIGTERM)
    assert ended(launcher) == 143


def test_a_second_signal_kills_at_once(project: Project) -> None:
    launcher = project.ready(stand_in("cpu", "slow"), stand_in("gpu", "deaf"), run__grace_s=600)
    launcher.send_signal(signal.SIGINT)
    until(lambda: (project.status() or {}).get("stopping"))
    launcher.send_signal(signal.SIGINT)
    assert ended(launcher) == 130
    assert not project.leftovers()


def test_a_signal_during_the_start_ends_it(project: Project) -> None:
    launcher = project.up(stand_in("cpu", "late"))
    until(lambda: project.lines("starts"))
    launcher.send_signal(signal.SIGTERM)
    assert ended(launcher) == 143
    assert not project.leftovers()


def test_a_drain_leaves_no_daemon_behind(project: Project) -> None:
    launcher = project.ready(stand_in("cpu", "hiding", level=HOSTS))
    until(lambda: project.lines("daemons"))
    launcher.send_signal(signal.SIGTERM)
    assert ended(launcher) == 143
    assert not project.leftovers()


def test_kill_9_of_the_launcher_leaves_nothing_and_the_next_start_is_clean(
    project: Project,
) -> None:
    plans = (
        stand_in("broker", "masked", stage=FIRST, level=BROKER),
        GATEWAY_PLAN,
        stand_in("cpu", "breeding", stage=SERVING, level=HOSTS),
        stand_in("gpu", "deaf", level=HOSTS),
        stand_in("cpu-consumer"),
    )
    launcher = project.ready(*plans)
    status = project.status()
    assert status is not None
    until(lambda: project.lines("daemons"))
    before = project.leftovers()
    assert len(before) == 7, "the launcher, five children and a daemon"
    before.add(project.child("guard")["pid"])
    launcher.kill()
    ended(launcher)
    port = int(status["url"].rpartition(":")[2])
    again = project.up(GATEWAY_PLAN, gateway__port=port)
    until(lambda: (project.status() or {}).get("ready"))
    living = {pid for pid, each in guard.snapshot().items() if not each.is_zombie}
    assert not living & before, "the lock is free only when the old tree is gone"
    assert again.poll() is None


@pytest.mark.parametrize("children", [["cpu"], []], ids=["with all roles", "alone"])
def test_kill_9_of_the_launcher_leaves_no_secrets(children: list[str], project: Project) -> None:
    launcher = project.ready(GATEWAY_PLAN, stand_in("cpu", level=HOSTS), gateway__keys=[KEY])
    file = project.settings.run_dir / "settings.json"
    assert KEY in file.read_text()
    pids = [project.child(name)["pid"] for name in children]
    launcher.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not file.exists())
    until(lambda: not project.leftovers())
    assert secrets_in(project) == []


@pytest.mark.parametrize("whole", [False, True], ids=["launcher and guard", "the whole tree"])
def test_where_the_guard_is_killed_too_the_next_start_clears(whole: bool, project: Project) -> None:
    launcher = project.ready(GATEWAY_PLAN, stand_in("cpu", level=HOSTS), gateway__keys=[KEY])
    pids = [project.child(name)["pid"] for name in (["gateway", "cpu"] if whole else [])]
    guard_pid = project.child("guard")["pid"]
    for pid in (guard_pid, launcher.pid, *pids):
        os.kill(pid, signal.SIGKILL)
    ended(launcher)
    assert secrets_in(project) == ["settings.json"]
    again = project.ready(GATEWAY_PLAN)
    assert KEY not in (project.settings.run_dir / "settings.json").read_text()
    again.send_signal(signal.SIGTERM)
    assert ended(again) == 143
    assert secrets_in(project) == []


def test_a_guard_that_dies_alone_takes_nothing_away(project: Project) -> None:
    project.ready(GATEWAY_PLAN, gateway__keys=[KEY])
    before = project.child("guard")["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: project.is_back("guard", before))
    assert secrets_in(project) == ["settings.json"]


def test_what_a_child_says_of_a_secret_is_not_repeated(project: Project) -> None:
    says = f"print('wrong: {KEY[:5]}' + '{KEY[5:]}'); raise SystemExit(9)"
    child = {"name": "cpu", "command": [sys.executable, "-c", says], "stage": REST, "level": HOSTS}
    launcher = project.up(GATEWAY_PLAN, child, gateway__keys=[KEY])
    assert ended(launcher) == 9
    assert "wrong: ********" in project.terminal()
    assert KEY not in project.terminal()
    assert secrets_in(project) == []


def test_state_that_lies_where_others_can_look_is_told_at_the_start(project: Project) -> None:
    open_folder = project.folder.parent / "disk"
    open_folder.mkdir()
    open_folder.chmod(0o755)
    project.settings.state_dir.symlink_to(open_folder)
    project.ready(GATEWAY_PLAN)
    warnings = [each["message"] for each in project.log() if each["level"] == "warning"]
    assert [f"{project.settings.state_dir} is open to others (drwxr-xr-x)."] == warnings[:1]


def secrets_in(project: Project) -> list[str]:
    """Files of the project and of its run time that hold the key, but for its own settings."""
    folders = (project.settings.run_dir, project.folder)
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if KEY.encode() in path.read_bytes()]


def test_a_closed_terminal_ends_the_tree(project: Project) -> None:
    parent, child = pty.openpty()
    launcher = project.up(GATEWAY_PLAN, stderr=child)
    os.close(child)
    shown = b""
    while b"ready in" not in shown:
        shown += os.read(parent, 65536)
    assert b"\x1b[" in shown, "a terminal is shown colours"
    os.close(parent)
    launcher.send_signal(signal.SIGHUP)
    assert ended(launcher) == 129
    assert not project.leftovers()


# --- down and detach -----------------------------------------------------------------------------


def test_down_drains_and_waits_until_the_tree_has_ended(project: Project) -> None:
    launcher = project.ready(stand_in("cpu"))
    assert client.down(project.settings, LIMIT_S)
    assert not project.leftovers() - {launcher.pid}
    assert ended(launcher) == 0
    assert project.lines("stops") == ["cpu"]
    assert client.status(project.settings) is None
    assert not client.down(project.settings, LIMIT_S)


def test_a_start_during_a_drain_waits_for_its_end(project: Project) -> None:
    first = project.ready(stand_in("cpu", "slow"), run__grace_s=1)
    first.send_signal(signal.SIGTERM)
    until(lambda: (project.status() or {}).get("stopping"))
    second = project.up(stand_in("gpu"))
    assert ended(first) == 143
    until(lambda: (project.status() or {}).get("ready"))
    assert second.poll() is None
    assert project.child("gpu")


def test_down_with_kill_does_not_wait_for_the_grace(project: Project) -> None:
    launcher = project.ready(stand_in("cpu", "slow"), run__grace_s=60)
    with pytest.raises(TimeoutError):
        client.down(project.settings, 0.1)
    assert client.down(project.settings, LIMIT_S, kill=True)
    assert ended(launcher) == 0


def test_detach_returns_when_the_tree_is_ready_and_leaves_it_running(project: Project) -> None:
    starter = project.up(GATEWAY_PLAN, stand_in("cpu"), detach=True)
    out, _ = starter.communicate(timeout=LIMIT_S)
    assert (starter.returncode, out, project.terminal()) == (0, b"", "")
    status = project.status()
    assert status is not None
    assert status["ready"]
    assert os.getsid(status["pid"]) not in (status["pid"], os.getsid(0))
    assert any("ready in" in line["message"] for line in project.log())
    assert client.down(project.settings, LIMIT_S)
    until(lambda: not project.leftovers())


def test_detach_tells_why_the_tree_could_not_start(project: Project) -> None:
    starter = project.up(stand_in("gateway", "refusing"), detach=True)
    assert ended(starter) == 9
    assert (
        project.terminal() == "error: gateway cannot start: exit code 9: no way to the database\n"
    )


def test_strict_refuses_a_broken_file(project: Project) -> None:
    broken = {"file": "functions/c.py", "line": 3, "error": "NameError: np"}
    documents = {"items": [], "broken": [broken]}
    project.answer({"/v1/functions": [200, documents], "/readyz": [503, "no"]})
    assert ended(project.up(GATEWAY_PLAN, run__strict=True)) == 3
    assert "functions/c.py:3 cannot be loaded: NameError: np" in project.terminal()


# --- output --------------------------------------------------------------------------------------


def test_output_is_made_harmless_and_whole(project: Project) -> None:
    project.ready(stand_in("cpu", "noisy"))
    until(lambda: "no newline at the end" in project.terminal())
    text = project.terminal()
    assert "bad utf-8 \ufffd and \\x1b[31mred" in text
    assert "half a line, its end" in text
    assert {"name": "cpu", "message": "half a line, its end"}.items() <= next(
        line.items() for line in project.log() if "half" in line["message"]
    )


def test_json_lines_for_machines(project: Project) -> None:
    project.ready(GATEWAY_PLAN, stand_in("cpu"), log__format="json")
    until(lambda: "ready in" in project.terminal())
    lines = [json.loads(line) for line in project.terminal().splitlines()]
    assert all({"ts", "level", "name", "message"} <= line.keys() for line in lines)
    assert any(line["message"] == "up" and line["url"].startswith("http") for line in lines)


def test_a_terminal_that_does_not_read_stops_nobody(project: Project) -> None:
    read_end, write_end = os.pipe()
    launcher = project.up(stand_in("cpu", "flooding"), stderr=write_end, retention__logs_mb=1)
    os.close(write_end)
    until(lambda: project.lines("flood"), 20)  # 5 MB, against a pipe that holds 64 KiB
    logs = project.settings.state_dir / "logs"
    until((logs / "skipper.jsonl.3").exists)
    assert sum(file.stat().st_size for file in logs.iterdir()) <= 1 << 20
    memory = Path(f"/proc/{launcher.pid}/status").read_text().split("VmRSS:")[1].split()[0]
    assert int(memory) < 100_000, "KiB"
    assert project.status()
    launcher.send_signal(signal.SIGTERM)
    assert ended(launcher) == 143
    os.close(read_end)
