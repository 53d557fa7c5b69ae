import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.errors import StartError
from skipper.role import Role
from skipper.settings.handover import dump
from skipper.settings.model import Settings
from skipper.wire.control import RoleFailed, RoleReady, parse_role_event


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.json"
    dump(Settings(project_dir=tmp_path), file)
    return file


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.getLogger("skipper").setLevel(logging.NOTSET)


def test_a_role_is_what_its_command_line_has(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIPPER_TREE", "tree-1")
    role = Role.start("A test", ["--settings", str(settings), "--name", "cpu", "--pool", "cpu"])
    assert (role.name, role.pool, role.tree) == ("cpu", "cpu", "tree-1")
    assert (role.control, role.listen_fd) == (None, None)
    assert role.settings.project_dir == settings.parent


def test_a_role_without_a_launcher_reports_to_nobody(settings: Path) -> None:
    Role.start("A test", ["--settings", str(settings), "--name", "cpu"]).ready()


def test_a_role_reports_to_its_launcher_that_it_serves(settings: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        argv = ["--settings", str(settings), "--name", "cpu", "--control", str(theirs.detach())]
        role = Role.start("A test", argv)
        role.ready()
        events = [parse_role_event(line) for line in ours.recv(4096).splitlines()]
        assert role.control is not None
        assert not role.control.get_inheritable()
        role.control.close()
    assert events == [RoleReady()]


def test_a_launcher_that_is_gone_is_no_error_to_a_role_that_reports(settings: Path) -> None:
    ours, theirs = socket.socketpair()
    argv = ["--settings", str(settings), "--name", "cpu", "--control", str(theirs.detach())]
    role = Role.start("A test", argv)
    ours.close()
    role.ready()
    assert role.control is not None
    role.control.close()


def test_a_role_that_cannot_start_reports_why_and_exits_with_its_code(settings: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        argv = ["--settings", str(settings), "--name", "cpu", "--control", str(theirs.detach())]
        role = Role.start("A test", argv)
        with pytest.raises(SystemExit) as ended:
            role.fail(StartError("no such database", code=9))
        assert ended.value.code == 9
        assert parse_role_event(ours.recv(4096)) == RoleFailed("no such database")
        assert role.control is not None
        role.control.close()


def test_one_that_runs_alone_writes_it_to_standard_error(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        Role.start("A test", ["--settings", str(settings), "--name", "cpu"]).fail(StartError("no"))
    assert capsys.readouterr().err == "no\n"
