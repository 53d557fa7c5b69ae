"""What another user of this machine has planted, or may write, is not run.

The rules are tested in tests/unit/settings/test_trust.py; here, that every verb and tree keeps to
them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.tree import UP, Tree, project, until
from tests.security.conftest import Grow

NOBODY, THIRD = 65534, 4711
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
VERBS = (
    "up",
    "up --detach --port 0",
    "down",
    "status",
    "logs",
    "call f.f",
    "functions",
    "tasks",
    "schedules",
    "models",
    "webhooks",
    "config show",
)
RUN = """
import json, os, sys
from typer.testing import CliRunner
from skipper.cli.app import app

uid, verbs = int(sys.argv[1]), sys.argv[2:]

def told():
    done = {}
    for verb in verbs:
        result = CliRunner().invoke(app, verb.split())
        done[verb] = [result.exit_code, result.output]
    return done

told()  # imports as root what a user without a home here could not
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
print(json.dumps(told()))
"""
F = """
import pathlib

import skipper

pathlib.Path("{marker}").touch()


@skipper.data
def f() -> int:
    return {value}
"""


def of_all_verbs(uid: int, folder: Path) -> Any:
    """Exit code and output of each verb, as a user who stands in ``folder``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SKIPPER_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(uid), *VERBS],
        check=True,
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(done.stdout)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is made when a function file or a plugin is imported."""
    return tmp_path / "imported"


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder like ``/tmp``, in which somebody has planted a project around ours."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        text = F.format(marker=folder / "imported", value=1)
        project(folder, "[gateway]\nport = 0\n", f=text)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "p.py").write_text(text)
        (folder / "ours").mkdir()
        folder.chmod(0o1777)
        planted = (folder / "skipper.toml", *folder.rglob("functions*"), *folder.rglob("plugins*"))
        for path in planted:
            os.chown(path, NOBODY, NOBODY)
        yield folder


@pytest.mark.parametrize("uid", [0, THIRD])
def test_a_planted_project_is_refused_by_every_verb(uid: int, shared: Path) -> None:
    for verb, (code, output) in of_all_verbs(uid, shared / "ours").items():
        assert code == 3, (verb, output)
        assert f"{shared / 'skipper.toml'} belongs to user" in output
    assert not (shared / "imported").exists()
    assert not (shared / ".skipper").exists()


def up(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SKIPPER_")}
    return subprocess.run(
        [*UP, "--project", str(folder), "--port", "0"],
        check=False,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("exposed", ["functions/f.py", "plugins", "skipper.toml", "theirs"])
def test_root_does_not_start_what_others_may_write(
    exposed: str, tmp_path: Path, marker: Path
) -> None:
    folder = project(tmp_path / "project", f=F.format(marker=marker, value=1))
    (folder / "plugins").mkdir()
    if exposed == "theirs":
        os.chown(folder / "functions" / "f.py", NOBODY, -1)
    else:
        (folder / exposed).chmod(0o777)
    done = up(folder)
    assert done.returncode == 3, done
    assert "root would run it" in done.stderr
    assert f"SKIPPER_TRUST={folder}" in done.stderr
    assert not marker.exists()


def test_a_file_that_becomes_writable_is_not_taken_up_by_root(
    tmp_path: Path, marker: Path, grow: Grow
) -> None:
    folder = project(tmp_path / "project", f=F.format(marker=marker, value=1))
    tree = grow(folder, "--only", "gateway,pool:cpu", "--reload").start()
    tree.wait_for_functions()
    assert tree.value("f.f") == 1
    file = folder / "functions" / "f.py"
    file.chmod(0o666)
    file.write_text(F.format(marker=marker, value=2))
    broken = tree.wait_for_broken("functions/f.py")
    assert "can be written by any user of this machine" in broken["error"]
    assert tree.value("f.f") == 1, "the last good version goes on"
    file.chmod(0o644)
    file.write_text(F.format(marker=marker, value=3))
    until(lambda: tree.value("f.f") == 3, what="the file that is ours alone again")


def test_a_trusted_project_is_run_whosever_it_is(tmp_path: Path, marker: Path, grow: Grow) -> None:
    folder = project(tmp_path / "project", f=F.format(marker=marker, value=1))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    tree: Tree = grow(folder, "--only", "gateway,pool:cpu", SKIPPER_TRUST=str(folder)).start()
    tree.wait_for_functions()
    assert (tree.broken(), tree.value("f.f")) == ({}, 1)
