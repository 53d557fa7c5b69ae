"""No socket of a tree serves another account, nor does a tree build where another can reach in.

The folder keeps others out. Here it is also opened, by a hand that should not have, to see that the
sockets by themselves do: by their modes, and where even those are wide, by who connects.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.errors import SettingsError
from skipper.settings.handover import make_run_dir
from skipper.settings.model import Settings
from tests.acceptance.tree import Tree, lent, project

NOBODY = 65534
FUNCTION = "import skipper\n\n\n@skipper.data\ndef f() -> int:\n    return 1\n"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another account")


@contextlib.contextmanager
def another_account(uid: int = NOBODY) -> Iterator[None]:
    """What is opened, made and asked here is of another account."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def said_by(path: Path) -> bytes:
    """What a socket answers another account that sends it what each of ours understands."""
    with socket.socket(socket.AF_UNIX) as sock, another_account():
        sock.settimeout(5)
        sock.connect(str(path))
        with contextlib.suppress(ConnectionError):
            sock.sendall(b'{"do": "status"}\nPING\r\n')
            return sock.recv(1024)
    return b""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree that was started without a umask, below folders that all may go through."""
    folder = project(tmp_path_factory.mktemp("open") / "project", f=FUNCTION)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    mask = os.umask(0)
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as base,
        pytest.MonkeyPatch.context() as patch,
        lent(Tree(folder)) as grown,
    ):
        Path(base).chmod(0o755)
        patch.setenv("XDG_RUNTIME_DIR", base)
        try:
            grown.ready()
        finally:
            os.umask(mask)
        yield grown
        grown.end()


def sockets(tree: Tree) -> list[Path]:
    """All that listen: those that are there, and those that the system knows."""
    folder = tree.settings.run_dir
    there = {path for path in folder.iterdir() if path.is_socket()}
    lines = Path("/proc/net/unix").read_text().splitlines()
    known = {Path(line.split()[-1]) for line in lines if str(folder) in line}
    assert {"launcher.sock", "v.sock", "cpu.sock", "gpu.sock"} <= {path.name for path in there}
    assert known <= there
    return sorted(there)


def test_another_account_comes_to_no_socket(tree: Tree) -> None:
    for path in sockets(tree):
        with pytest.raises(PermissionError):
            said_by(path)


def test_no_socket_lets_it_in_where_the_folder_does(tree: Tree) -> None:
    tree.settings.run_dir.chmod(0o711)
    try:
        for path in sockets(tree):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
            with pytest.raises(PermissionError):
                said_by(path)
    finally:
        tree.settings.run_dir.chmod(0o700)


def test_ours_answer_it_nothing_where_even_their_modes_do(tree: Tree) -> None:
    found = [
        path for path in sockets(tree) if path.name != "v.sock"
    ]  # Valkey asks nobody who he is
    tree.settings.run_dir.chmod(0o711)
    try:
        for path in found:
            path.chmod(0o777)
            assert said_by(path) == b"", path
    finally:
        tree.settings.run_dir.chmod(0o700)
        for path in found:
            path.chmod(0o600)
    assert tree.value("f.f") == 1


def test_nothing_of_a_tree_listens_on_a_name_without_a_file(tree: Tree) -> None:
    assert tree.is_alive()
    lines = Path("/proc/net/unix").read_text().splitlines()
    assert not [line for line in lines if "@" in line and "skipper" in line]


def test_another_account_reads_nothing_of_state_and_run_time(tree: Tree) -> None:
    folders = (tree.settings.state_dir, tree.settings.run_dir)
    for folder in folders:
        with another_account(), pytest.raises(PermissionError):
            list(folder.iterdir())
    for pid in tree.processes():
        with another_account(), pytest.raises(PermissionError):
            Path(f"/proc/{pid}/environ").read_bytes()


# --- a place that somebody has prepared ---


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like ``/tmp``, with a name as short, in which ours would be made."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
        yield folder


@pytest.mark.parametrize("form", ["folder", "open folder", "link", "dangling link", "file"])
@pytest.mark.parametrize("place", ["skp-0", "skp-0/RUN"])
def test_sockets_are_not_put_where_somebody_has_prepared_a_place(
    form: str, place: str, shared: Path, tmp_path: Path
) -> None:
    settings = Settings(project_dir=tmp_path)
    path = shared / place.replace("RUN", settings.run_dir.name)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    if form == "link":
        path.symlink_to(theirs)
    elif form == "dangling link":
        path.symlink_to(tmp_path / "nothing")
    elif form == "file":
        path.touch()
    else:
        path.mkdir(mode=0o700 if form == "folder" else 0o777)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises((SettingsError, OSError)):
        make_run_dir(settings)
    assert list(theirs.iterdir()) == []
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(("uid", "mode"), [(NOBODY, 0o700), (0, 0o777), (0, 0o775)])
def test_a_runtime_folder_where_others_may_replace_ours_is_passed_over(
    uid: int, mode: int, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "xdg"
    base.mkdir()
    base.chmod(mode)
    os.chown(base, uid, -1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    assert Settings(project_dir=tmp_path).run_dir.parent == shared / "skp-0"
    shared.chmod(0o777)
    assert Settings(project_dir=tmp_path).run_dir.parent == Path("/tmp/skp-0")
