"""Whose files a project is made of, and who else may write them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from skipper.errors import SettingsError
from skipper.settings import trust
from skipper.settings.loading import load, load_sections

NOBODY = 65534
OTHER = 4711  # a user of whom the system has no name
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
Act = Callable[[Path], None]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    for name in ("functions/deep", "plugins", ".skipper", "elsewhere"):
        (folder / name).mkdir(parents=True)
    for name in ("skipper.toml", "functions/f.py", "functions/deep/g.py", "plugins/p.py"):
        (folder / name).touch()
    (folder / "functions" / "data.csv").touch()
    monkeypatch.delenv("SKIPPER_TRUST", raising=False)
    monkeypatch.chdir(folder)
    return folder


def given(path: str, uid: int = NOBODY) -> Act:
    return lambda project: os.chown(project / path, uid, -1, follow_symlinks=False)


def linked(path: str, uid: int = NOBODY) -> Act:
    """Somebody's link to what is ours."""

    def act(project: Path) -> None:
        (project / path).rename(project / "elsewhere" / Path(path).name)
        (project / path).symlink_to(project / "elsewhere" / Path(path).name)
        given(path, uid)(project)

    return act


STRANGE = {
    "its settings": (given("skipper.toml"), "skipper.toml"),
    "a link to settings of ours": (linked("skipper.toml"), "skipper.toml"),
    "its folder": (given(""), "project"),
    "its functions": (given("functions"), "functions"),
    "a link to functions": (linked("functions"), "functions"),
    "its plugins": (given("plugins", OTHER), "plugins"),
    "its state": (given(".skipper"), ".skipper"),
    "a link to state": (linked(".skipper"), ".skipper"),
}


@as_root
@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("sections", [None, (), ("gateway",)])
def test_what_was_found_and_is_another_users_is_refused_by_every_verb(
    name: str, sections: tuple[str, ...] | None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, named = STRANGE[name]
    act(project)
    inner = project / "functions" / "deep"
    monkeypatch.chdir(inner)
    with pytest.raises(SettingsError, match=rf"{named} belongs to user .*SKIPPER_TRUST={project}"):
        load() if sections is None else load_sections(None, *sections)


@as_root
def test_the_refusal_says_who_it_is(project: Path) -> None:
    os.chown(project / "skipper.toml", NOBODY, -1)
    with pytest.raises(SettingsError, match=rf"user {pwd.getpwuid(NOBODY).pw_name} \({NOBODY}\)"):
        trust.check_found(project)
    os.chown(project / "skipper.toml", OTHER, -1)
    with pytest.raises(SettingsError, match=f"user {OTHER}, and"):
        trust.check_found(project)


@as_root
def test_a_project_that_was_named_is_read_whosever_it_is(project: Path) -> None:
    os.chown(project / "skipper.toml", NOBODY, -1)
    assert load(project)[0].project_dir == project
    assert load_sections(project, "gateway").project_dir == project


@as_root
@pytest.mark.parametrize("form", ["{0}", "/nowhere:{0}", "{0}/", "{0}/functions/..", "."])
def test_a_trusted_project_is_asked_nothing(
    form: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given("skipper.toml")(project)
    (project / "functions").chmod(0o777)
    monkeypatch.setenv("SKIPPER_TRUST", form.format(project))
    trust.check_found(project)
    assert list(trust.exposures(project)) == []
    assert trust.check_runnable(project / "functions" / "f.py", project) == ""


@as_root
@pytest.mark.parametrize("form", ["", ":", " ", "{0}x", "{0}/functions", "*", "/"])
def test_nothing_but_its_own_name_makes_it_trusted(
    form: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given("skipper.toml")(project)
    monkeypatch.setenv("SKIPPER_TRUST", form.format(project))
    with pytest.raises(SettingsError, match="belongs to"):
        trust.check_found(project)


@as_root
def test_roots_files_and_ones_own_are_trusted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    os.chown(project / "functions" / "f.py", NOBODY, -1)
    trust.check_found(project)
    assert list(trust.exposures(project)) == []


# --- modes ---


def test_a_fresh_checkout_is_exposed_to_nobody(project: Path) -> None:
    for path in project.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert list(trust.exposures(project)) == []


@pytest.mark.parametrize(
    "path",
    ["", "skipper.toml", "functions", "functions/deep", "functions/deep/g.py", "plugins/p.py"],
)
@pytest.mark.parametrize("sticky", [0, stat.S_ISVTX])
def test_what_anybody_may_write_is_told(path: str, sticky: int, project: Path) -> None:
    file = project / path
    file.chmod(0o777 | (sticky if file.is_dir() else 0))
    assert list(trust.exposures(project)) == [f"{file} can be written by any user of this machine"]


def test_data_may_be_writable_and_hidden_folders_are_not_looked_into(project: Path) -> None:
    (project / "functions" / "data.csv").chmod(0o666)
    (project / "functions" / ".git").mkdir()
    (project / "functions" / ".git" / "x.py").touch(0o666)
    assert list(trust.exposures(project)) == []


def test_what_python_has_compiled_is_code(project: Path) -> None:
    (project / "functions" / "__pycache__").mkdir()
    (project / "functions" / "__pycache__").chmod(0o777)
    assert "__pycache__" in " ".join(trust.exposures(project))


def test_a_folder_on_the_way_is_told_unless_it_is_sticky(project: Path) -> None:
    project.parent.chmod(0o777)
    assert list(trust.exposures(project)) == [
        f"{project.parent} can be written by any user of this machine"
    ]
    project.parent.chmod(0o1777)
    assert list(trust.exposures(project)) == []


@as_root
def test_a_group_that_has_others_in_it_is_told_and_a_users_own_is_not(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "functions" / "f.py"
    file.chmod(0o664)
    me = pwd.getpwuid(os.geteuid()).pw_name
    members = {
        0: ["operator"],
        50: [],
        60: [me],
        70: [me, "alice"],
        90: ["root"],
    }
    groups = {gid: grp.struct_group((f"g{gid}", "x", gid, each)) for gid, each in members.items()}
    groups[95] = grp.struct_group(("g95", "x", 95, []))
    bob = pwd.struct_passwd(("bob", "x", 1001, 95, "", "/", "/bin/sh"))
    monkeypatch.setattr(grp, "getgrgid", groups.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: [pwd.getpwuid(os.geteuid()), bob])
    told = {}
    for gid in (*groups, 80):
        os.chown(file, -1, gid)
        told[gid] = trust.writers_of(file)
    assert {gid: text for gid, text in told.items() if text} == {
        70: "the group g70",
        95: "the group g95",
    }


def test_an_access_list_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project / "functions" / "f.py"
    file.chmod(0o664)
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"\x02\0\0\0")
    assert trust.writers_of(file) == "those whom its access list names"


# --- as files are read again ---


def test_root_runs_no_file_that_others_may_write(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "functions" / "f.py"
    assert trust.check_runnable(file, project) == ""
    file.chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PermissionError, match="any user of this machine, and would be run as root"):
        trust.check_runnable(file, project)


def test_everybody_else_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project / "functions" / "f.py"
    file.chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid or NOBODY)
    told = trust.check_runnable(file, project)
    assert told == f"{file} can be written by any user of this machine"
