"""The gateway's unix socket: who may open it, and what is never removed."""

from __future__ import annotations

import grp
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.errors import StartError
from skipper.launcher.unix_socket import listening

NOBODY = 65534
is_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to others")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, because names of sockets are."""
    made = Path(tempfile.mkdtemp(prefix="skp-test-"))
    yield made
    shutil.rmtree(made)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refused(path: Path, group: str = "") -> tuple[str, int]:
    """What is said of a socket that cannot be, and with which exit code."""
    with pytest.raises(StartError) as seen, listening(path, group):
        pass
    return str(seen.value), seen.value.code


def test_it_is_this_users_alone_and_gone_at_the_end(folder: Path) -> None:
    path = folder / "s"
    before = os.umask(0)
    try:
        with listening(path) as listener:
            assert mode_of(path) == 0o600
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(path))
                listener.accept()[0].close()
    finally:
        assert os.umask(before) == 0
    assert not path.exists()


def test_a_group_may_use_it_too(folder: Path) -> None:
    path, group = folder / "s", grp.getgrgid(os.getgid())
    with listening(path, group.gr_name):
        assert (mode_of(path), path.stat().st_gid) == (0o660, group.gr_gid)


def test_a_group_that_is_none_is_named(folder: Path) -> None:
    said, code = refused(folder / "s", "no-such-group")
    assert "no-such-group" in said
    assert code == 3
    assert not (folder / "s").exists()


def test_a_dead_trees_socket_makes_way(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with listening(path) as listener, socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        listener.accept()[0].close()


def test_a_living_one_does_not_and_its_owner_is_named(folder: Path) -> None:
    path = folder / "s"
    with listening(path):
        said, code = refused(path)
        assert f"process {os.getpid()}" in said
        assert code == 7
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link to a socket", "link to nothing", "fifo"])
def test_what_is_no_socket_is_left_alone(folder: Path, kind: str) -> None:
    path, other = folder / "s", folder / "other"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        if kind == "link to a socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(other))
        path.symlink_to(other)
    before = path.lstat()
    said, code = refused(path)
    assert str(path) in said
    assert ("symbolic link" in said) == kind.startswith("link")
    assert code == 3
    assert os.path.samestat(path.lstat(), before)


@is_root
def test_another_users_socket_is_left_alone(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    os.chown(path, NOBODY, -1)
    said, _ = refused(path)
    assert "another user's" in said
    assert path.exists()


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o703])
def test_a_folder_that_others_write_into_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    said, code = refused(folder / "s")
    assert "others may write" in said
    assert code == 3


def test_one_in_which_they_only_add_files_will_do(folder: Path) -> None:
    folder.chmod(0o1777)
    with listening(folder / "s"):
        assert mode_of(folder / "s") == 0o600


@is_root
def test_another_users_folder_is_refused(folder: Path) -> None:
    os.chown(folder, NOBODY, -1)
    assert "others may write" in refused(folder / "s")[0]


def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    said, _ = refused(folder / "none" / "s")
    assert f"its folder {folder / 'none'} cannot be used" in said


def test_a_path_that_no_socket_can_have_is_told(folder: Path) -> None:
    assert "107 bytes" in refused(folder / ("s" * 200))[0]


def test_a_socket_that_has_taken_its_place_stays(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as other, listening(path):
        path.unlink()
        other.bind(str(path))
    assert path.exists()
