"""The project's folders: whose they are, how open, and what they hold."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.launcher.folders import clear, prepare
from skipper.settings.model import Settings
from skipper.values.spool import Spool

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SKIPPER_TRUST", raising=False)
    (tmp_path / "project").mkdir()
    return Settings(project_dir=tmp_path / "project")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(settings: Settings) -> set[int]:
    folders = [path for path in settings.state_dir.rglob("*") if path.is_dir()]
    return {mode(path) for path in (settings.state_dir, settings.run_dir, *folders)}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_state_and_run_time_are_private_whatever_the_umask(umask: int, settings: Settings) -> None:
    before = os.umask(umask)
    try:
        assert prepare(settings) == []
    finally:
        os.umask(before)
    assert modes(settings) == {0o700}


@pytest.mark.parametrize("wide", [0o755, 0o777, 0o750, 0o2775])
def test_folders_that_others_can_open_are_closed_to_them(wide: int, settings: Settings) -> None:
    (settings.state_dir / "logs").mkdir(parents=True)
    for folder in (settings.state_dir, settings.state_dir / "logs"):
        folder.chmod(wide)
    assert prepare(settings) == []
    assert {each & 0o777 for each in modes(settings)} == {0o700}


def test_where_a_link_leads_is_left_as_it_is_and_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(0o755)
    settings.state_dir.symlink_to(tmp_path / "disk")
    assert prepare(settings) == [f"{settings.state_dir} is open to others (drwxr-xr-x)."]
    assert mode(tmp_path / "disk") == 0o755


def test_git_is_told_to_leave_it_alone_and_what_stands_there_is_kept(settings: Settings) -> None:
    prepare(settings)
    file = settings.state_dir / ".gitignore"
    assert file.read_text().splitlines()[-1] == "*"
    file.write_text("mine\n")
    prepare(settings)
    assert file.read_text() == "mine\n"


@as_root
@pytest.mark.parametrize("is_link", [False, True])
def test_state_of_another_user_is_refused(
    is_link: bool, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_link:
        (tmp_path / "theirs").mkdir(mode=0o755)
        settings.state_dir.symlink_to(tmp_path / "theirs")
        before = mode(tmp_path / "theirs")
    else:
        settings.state_dir.mkdir()
    os.chown(settings.state_dir, NOBODY, -1, follow_symlinks=False)
    with pytest.raises(StartError, match=rf"\.skipper belongs to user .*{NOBODY}") as caught:
        prepare(settings)
    assert caught.value.code == Exit.INVALID
    assert not is_link or mode(tmp_path / "theirs") == before
    monkeypatch.setenv("SKIPPER_TRUST", str(settings.project_dir))
    prepare(settings)


def test_what_a_dead_tree_has_left_on_the_way_is_removed_and_what_it_stored_stays(
    settings: Settings,
) -> None:
    clear(settings)  # of a tree that was never there
    prepare(settings)
    spool = Spool(settings.spool_dir)
    spool.put(b"large")
    stored = settings.state_dir / "blobs" / "blob"
    stored.touch()
    clear(settings)
    assert list(settings.spool_dir.iterdir()) == []
    assert stored.exists()


def exposed(settings: Settings, *names: str) -> None:
    for name in names:
        file = settings.project_dir / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        file.chmod(0o666)


def test_root_starts_nothing_that_others_may_write(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    exposed(settings, "functions/a.py", "plugins/p.py")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(StartError, match=r"functions/a\.py can be written by any user") as caught:
        prepare(settings)
    assert caught.value.code == Exit.INVALID
    assert f"SKIPPER_TRUST={settings.project_dir}" in str(caught.value)
    assert not settings.state_dir.exists()


def test_everybody_else_is_told_of_the_first_few(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    exposed(settings, *(f"functions/f{number}.py" for number in range(7)))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or NOBODY)
    monkeypatch.setattr("skipper.settings.trust.stranger", lambda path: "")
    (told,) = prepare(settings)
    assert "f2.py can be written by any user of this machine; and 4 more, and is run as you" in told
