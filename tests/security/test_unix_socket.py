"""A gateway on a unix socket: who gets in, and what becomes of it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper import Client
from tests.acceptance.conftest import Grow
from tests.acceptance.tree import CPU_ALONE, Tree, project, until

FUNCTIONS = """
import skipper

@skipper.inference
def double(x: int) -> int:
    return 2 * x
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A project's folder with a short name, because names of sockets are."""
    made = Path(tempfile.mkdtemp(prefix="skp-test-"))
    yield project(made, '[gateway]\nsocket = "gateway.sock"\nworkers = 2\n', f=FUNCTIONS)
    shutil.rmtree(made)


def skipper(tree: Tree, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skipper", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=tree.environment() | environment,
    )


def test_a_gateway_on_a_socket_is_this_users_and_outlives_its_workers(
    folder: Path, grow: Grow
) -> None:
    path = folder / "gateway.sock"
    tree = grow(folder, *CPU_ALONE).ready()
    url = f"unix://{path}"
    assert (tree.status() or {})["url"] == url
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert url in tree.output

    assert tree.value("f.double", {"x": 3}) == 6
    with Client(url) as client:
        assert client.call("f.double", x=4) == 8
    called = skipper(tree, "call", "--project", str(folder), "f.double", "-p", "x=5")
    assert (called.returncode, called.stdout) == (0, "10\n")
    called = skipper(tree, "call", "f.double", "-p", "x=6", SKIPPER_URL=url)
    assert (called.returncode, called.stdout) == (0, "12\n")
    shown = skipper(tree, "functions", "show", "--project", str(folder), "f.double")
    assert f"curl --unix-socket {path} http://localhost/v1/" in shown.stdout

    for name in ("gateway-1", "gateway-2"):
        pid = tree.pids()[name]
        os.kill(pid, signal.SIGKILL)
        until(lambda name=name, pid=pid: tree.pids().get(name) not in (None, pid))  # type: ignore[misc] # mypy infers no types of defaults
        assert tree.value("f.double", {"x": 7}) == 14

    os.kill(tree.pid, signal.SIGKILL)  # what it leaves makes way for the next tree's
    tree.stop(signal.SIGKILL)
    tree.assert_gone()
    assert path.exists()
    again = grow(folder, *CPU_ALONE).start()
    assert again.is_alive()
    again.end()
    assert not path.exists()


@pytest.mark.parametrize("there", ["a file", "a link"])
def test_what_stands_in_its_place_stops_the_start(folder: Path, there: str) -> None:
    path = folder / "gateway.sock"
    if there == "a file":
        path.write_text("precious")
    else:
        path.symlink_to(folder / "skipper.toml")
    tree = Tree(folder)
    started = skipper(tree, "up", "--project", str(folder))
    assert started.returncode == 3
    assert started.stderr.startswith(f"error: gateway.socket = '{path}'")
    assert path.is_symlink() or path.read_text() == "precious"
